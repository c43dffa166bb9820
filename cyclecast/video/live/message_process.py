"""A separate process that exchanges messages with this one: lines of JSON through its standard streams."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Any

from cyclecast.isolated import start

log = logging.getLogger(__name__)

# Ctrl-C, a closed terminal or a service manager reach the whole group.
GROUP_SIGNALS = ("SIGINT", "SIGHUP", "SIGTERM", "SIGBREAK")


class MessageProcess:
    """Runs a function in a separate process, from its creation on. Any thread may call `send` and `kill`.

    function: as for `isolated.start`. name: for threads and the debug log. redact: removes secrets from a line that the process
    printed. Raises OSError if the process cannot be started.
    """

    def __init__(self, function: Callable[[], None], name: str, redact: Callable[[str], str] = str) -> None:
        self.printed: deque[str] = deque(maxlen=20)
        """The last lines that the process wrote to stderr: they say why it died."""
        self._name, self._redact = name, redact
        self._process = start(function)
        self._sending = threading.Lock()
        self._reader = threading.Thread(target=self._keep_printed, name=f"{name}-stderr", daemon=True)
        self._reader.start()

    def send(self, message: Any) -> None:
        """Sends a line of JSON to the process. Does nothing if the process has ended."""
        stdin = self._process.stdin
        with self._sending, suppress(OSError, ValueError):
            if stdin is not None:
                stdin.write(json.dumps(message) + "\n")
                stdin.flush()

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yields each message of the process until it ends. Raises OSError or ValueError if it dies in the middle of one."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield json.loads(line)

    def kill(self) -> None:
        """Ends the process, whatever it is doing."""
        if self._process.poll() is None:
            self._process.kill()

    def end(self, seconds: float) -> int | None:
        """Kills the process if it runs, waits that long for its end and closes the pipes. For the thread that read `messages`.

        Returns its exit code, negative for a signal; None if it still runs: one that waits inside a driver may outlive a kill.
        """
        self.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self._reader.join(1.0)
        with self._sending:
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                if pipe is not None:
                    with suppress(OSError, ValueError):
                        pipe.close()
        return self._process.returncode

    def _keep_printed(self) -> None:
        assert self._process.stderr is not None
        with suppress(OSError, ValueError):
            for line in map(self._redact, self._process.stderr):
                log.debug("%s process: %s", self._name, line.rstrip())
                self.printed.append(line)


def open_messages() -> IO[str]:
    """Opens the file for `send_message`, in the child. Ignores signals to the whole group: the parent decides."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print is no message
    for name in GROUP_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    return out


def read_messages(messages: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Reads messages in a thread of its own, in the child; ends the process when the parent is gone, whatever it waits for."""
    for line in sys.stdin:
        messages.put(json.loads(line))
    os._exit(0)


def send_message(out: IO[str], **message: Any) -> None:
    """Sends one message, in the child; ends the process if nobody reads any more."""
    try:
        out.write(json.dumps(message) + "\n")
    except OSError:
        os._exit(0)
