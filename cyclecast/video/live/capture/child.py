"""One run of the capture process, seen from outside: starts it, passes its messages on, and kills it when it is silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from cyclecast.isolated import last_line
from cyclecast.video.live.capture.process import main
from cyclecast.video.live.message_process import MessageProcess

POLL_S = 0.25  # between two checks whether the process is silent
EXIT_TIMEOUT_S = 2.0  # that a killed process may take to end; one that waits inside a driver may outlive that


class CaptureProcess:
    """Runs the capture process once. `run` belongs to one thread; `send` and `kill` may be called from any.

    patience: seconds without a message after which the process is killed. redact: removes secrets from a line that it printed.
    """

    def __init__(self, patience: float, redact: Callable[[str], str] = str) -> None:
        self.patience, self._redact = patience, redact
        self._heard = time.perf_counter()
        self._process: MessageProcess | None = None
        self._killed = threading.Event()
        self._done = threading.Event()

    def run(self, request: Any, on_message: Callable[[dict[str, Any]], str | None]) -> str:
        """Starts the process and handles its messages until it ends. Returns why there are no more frames from it.

        request: what to capture. on_message: called with each message; it returns a reason if the message announces the end.
        """
        try:
            process = self._process = MessageProcess(main, "capture", self._redact)
        except OSError as error:
            return f"its process cannot be started ({error.strerror})"
        if self._killed.is_set():  # `kill` may have come before there was a process
            process.kill()
        watchdog = threading.Thread(target=self._watch, name="capture-watchdog", daemon=True)
        watchdog.start()
        reason = ""
        try:
            process.send(request)
            for message in process.messages():
                self._heard = time.perf_counter()
                reason = on_message(message) or reason
        except (OSError, ValueError):  # it was killed in the middle of a message
            pass
        finally:
            is_silent = self._is_silent()
            self._done.set()
            process.end(EXIT_TIMEOUT_S)
            watchdog.join(1.0)
        if is_silent:
            return f"no frame within {self.patience:.3g} s"
        return reason or last_line("\n".join(process.printed)) or "its process ended"

    def send(self, message: Any) -> None:
        """Sends a line of JSON to the process. Does nothing if there is none, or if it has ended."""
        process = self._process
        if process is not None:
            process.send(message)

    def kill(self) -> None:
        """Ends the process, whatever it is doing, or as soon as it is started."""
        self._killed.set()
        process = self._process
        if process is not None:
            process.kill()

    def _is_silent(self) -> bool:
        return time.perf_counter() - self._heard > self.patience

    def _watch(self) -> None:
        while not self._done.wait(POLL_S):
            if self._is_silent():
                self.kill()
