"""One run of the capture process, seen from outside: starts it, passes its messages on, and kills it when it is silent."""

from __future__ import annotations

import json
import logging
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cyclecast.isolated import last_line, start
from cyclecast.video.live.capture.process import main

log = logging.getLogger(__name__)

POLL_S = 0.25  # between two checks whether the process is silent
EXIT_TIMEOUT_S = 2.0  # that a killed process may take to end; one that waits inside a driver may outlive that


class CaptureProcess:
    """Runs the capture process once. `run` belongs to one thread; `send` and `kill` may be called from any.

    patience: seconds without a message after which the process is killed. redact: removes secrets from a line that it printed.
    """

    def __init__(self, patience: float, redact: Callable[[str], str] = str) -> None:
        self.patience, self._redact = patience, redact
        self._heard = time.perf_counter()
        self._process: subprocess.Popen[str] | None = None
        self._killed = threading.Event()
        self._done = threading.Event()
        self._sending = threading.Lock()

    def run(self, request: Any, on_message: Callable[[dict[str, Any]], str | None]) -> str:
        """Starts the process and handles its messages until it ends. Returns why there are no more frames from it.

        request: what to capture. on_message: called with each message; it returns a reason if the message announces the end.
        """
        try:
            process = self._process = start(main)
        except OSError as error:
            return f"its process cannot be started ({error.strerror})"
        if self._killed.is_set():  # `kill` may have come before there was a process
            process.kill()
        printed: deque[str] = deque(maxlen=20)
        reader = threading.Thread(target=self._keep_lines, args=(process.stderr, printed), name="capture-stderr", daemon=True)
        watchdog = threading.Thread(target=self._watch, name="capture-watchdog", daemon=True)
        reader.start()
        watchdog.start()
        reason = ""
        assert process.stdout is not None
        try:
            self.send(request)
            for line in process.stdout:
                message = json.loads(line)
                self._heard = time.perf_counter()
                reason = on_message(message) or reason
        except (OSError, ValueError):  # it was killed in the middle of a message
            pass
        finally:
            is_silent = self._is_silent()
            self._done.set()
            self._end(process)
            reader.join(1.0)
            watchdog.join(1.0)
            self._close_pipes(process)
        if is_silent:
            return f"no frame within {self.patience:.3g} s"
        return reason or last_line("\n".join(printed)) or "its process ended"

    def send(self, message: Any) -> None:
        """Sends a line of JSON to the process. Does nothing if the process has ended."""
        process = self._process
        with self._sending, suppress(OSError, ValueError):
            if process is not None and process.stdin is not None:
                process.stdin.write(json.dumps(message) + "\n")
                process.stdin.flush()

    def kill(self) -> None:
        """Ends the process, whatever it is doing, or as soon as it is started."""
        self._killed.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()

    def _is_silent(self) -> bool:
        return time.perf_counter() - self._heard > self.patience

    def _watch(self) -> None:
        while not self._done.wait(POLL_S):
            if self._is_silent():
                self.kill()

    def _end(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(EXIT_TIMEOUT_S)

    def _close_pipes(self, process: subprocess.Popen[str]) -> None:
        with self._sending:
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(OSError, ValueError):
                        pipe.close()

    def _keep_lines(self, lines: Any, printed: deque[str]) -> None:
        """Keeps the last lines that the process printed: they say why it died."""
        with suppress(OSError, ValueError):
            for line in map(self._redact, lines):
                log.debug("capture process: %s", line.rstrip())
                printed.append(line)
