"""A live source from the outside: the newest picture at any time, and a source that is gone is opened again until it is back."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from cyclecast.errors import InputError
from cyclecast.isolated import last_line, start
from cyclecast.video.frame import Image
from cyclecast.video.live.capture.process import main
from cyclecast.video.live.capture.slots import Slots, bytes_needed
from cyclecast.video.live.sources.address import address_for_child, redacted_address
from cyclecast.video.live.sources.source import CaptureSettings

log = logging.getLogger(__name__)

OPENING = 25.0  # seconds that a source may take to its first picture: some systems need 20 for a camera
SILENCE = 4.0  # seconds without a picture after which a source counts as gone
BACK_OFF = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between attempts to open it again; the last one repeats
STEADY = 10.0  # seconds of pictures after which the attempts begin anew
ENDING = 2.0  # seconds that a killed process may take to end; one that waits inside a driver may outlive that

OnMessage = Callable[[str], None]
"""Told, a line each, what happens: which source was opened, that it is gone, that it is back. From any thread."""


@dataclass(frozen=True)
class CapturedFrame:
    """A picture from a live source."""

    image: Image
    """(H, W, 3) uint8 BGR; the taker's own."""
    at: float
    """`time.perf_counter()` when it was captured."""
    number: int
    """Counted from 1 over everything that was captured, whoever looked at it."""


class Capture:
    """Captures from the moment it is made, in a process of its own, which is killed and started again when it is silent.

    A context manager. `source`: as `sources.live`. A source that cannot be opened at first is an InputError of `take`; one
    that was there and is gone is waited for.
    """

    def __init__(self, source: str, capture_settings: CaptureSettings | None = None, on_message: OnMessage | None = None) -> None:
        self.name = redacted_address(source)
        self.captured = 0
        """Frames so far, whether anybody took them or not."""
        self.reconnects = 0
        """How many times a source that was gone came back."""
        self._source, self._capture_settings = address_for_child(source), capture_settings or CaptureSettings()
        self._news = on_message or (lambda line: None)
        self._changed = threading.Condition()
        self._slots: Slots | None = None
        self._linked = False  # the memory has a name still
        self._newest: tuple[int, int, float, int] | None = None  # slot, its number in the slots, at, number over all
        self._gone: tuple[str, float] | None = None
        self._ended = False
        self._failure: str | None = None
        self._closing = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._heard = time.perf_counter()
        self._patience = OPENING
        self._threads = [threading.Thread(target=work, name=work.__name__, daemon=True) for work in (self._keep, self._watch)]
        for thread in self._threads:
            thread.start()

    def take(self, seconds: float) -> CapturedFrame | None:
        """The newest picture that was not taken yet; None if none comes within `seconds`.

        EOFError when the source has ended, InputError in one line if it could not be opened.
        """
        limit = time.perf_counter() + seconds
        while True:
            with self._changed:
                wait = limit - time.perf_counter()
                self._changed.wait_for(lambda: self._newest or self._ended or self._failure, max(0.0, wait))
                if self._newest is not None and self._slots is not None:
                    slot, key, at, number = self._newest
                    self._newest = None
                    image = self._slots.read(slot, key)
                    if image is not None:
                        return CapturedFrame(image, at, number)
                    continue
                if self._failure is not None:
                    raise InputError(self._failure)
                if self._ended:
                    raise EOFError
                if time.perf_counter() >= limit:
                    return None

    def busy(self, seconds: float) -> None:
        """No picture will be taken for so long: those that a newer one will have replaced by then need not be decoded."""
        with self._changed:
            if self._slots is not None:
                self._slots.busy_until = time.perf_counter() + seconds

    @property
    def gone(self) -> tuple[str, float] | None:
        """Why there are no pictures at the moment, and for how many seconds; None while there are."""
        gone = self._gone
        return None if gone is None else (gone[0], time.perf_counter() - gone[1])

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self._closing.set()
        self._kill()
        for thread in self._threads:
            thread.join(2 * ENDING)
        with self._changed:
            self._release()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _keep(self) -> None:
        """One process after the other."""
        attempt = 0
        while not self._closing.is_set():
            began = time.perf_counter()
            before = self.captured
            reason = self._session()
            if self._closing.is_set() or self._ended:
                break
            if not self.captured:
                with self._changed:
                    self._failure = f"{self.name}: {reason}"
                    self._changed.notify_all()
                return
            if self.captured > before and time.perf_counter() - began > STEADY:
                attempt = 0
            if self._gone is None:
                self._gone = (reason, time.perf_counter())
                self._news(f"{self.name} is gone: {reason}; it is tried again until it is back")
            self._closing.wait(BACK_OFF[min(attempt, len(BACK_OFF) - 1)])
            attempt += 1
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _session(self) -> str:
        """A process from its start to its end; why there are no more pictures from it."""
        said: deque[str] = deque(maxlen=20)
        self._heard, self._patience = time.perf_counter(), OPENING
        try:
            process = self._process = start(main)
        except OSError as error:
            return f"no process can be started for it ({error.strerror})"
        if self._closing.is_set():  # `close` may have looked for a process before this one was there
            process.kill()
        assert process.stdin is not None and process.stdout is not None
        listener = threading.Thread(target=_remember, args=(process.stderr, said), name="said", daemon=True)
        listener.start()
        reason, first = "", self.captured
        try:
            self._say(process, [self._source, asdict(self._capture_settings)])
            for line in process.stdout:
                message = json.loads(line)
                self._heard = time.perf_counter()
                reason = self._take_in(process, message, first) or reason
        except (OSError, ValueError):  # it was killed while it spoke, or before we could
            pass
        finally:
            silent = time.perf_counter() - self._heard > self._patience
            if process.poll() is None:
                process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(ENDING)
            listener.join(1.0)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(OSError, ValueError):
                        pipe.close()
            self._process = None
            if not self._ended:
                with self._changed:
                    self._newest = None
        if silent:
            return f"no picture within {self._patience:g} s"
        reason = reason or last_line("\n".join(said)) or "its process ended"
        if "://" in self._source:  # with its password
            reason = reason.replace(self._source, self.name)
        return reason.removeprefix(f"{self._source}: ").removeprefix(f"{self.name}: ")

    def _take_in(self, process: subprocess.Popen[str], message: dict[str, Any], first: int) -> str | None:
        """What one message means; a reason if it tells of the end."""
        if "frame" in message or "passed" in message:
            number = first + int(message.get("frame") or message["passed"])
            with self._changed:
                self.captured = number
                if "frame" in message:
                    self._newest = (message["slot"], message["frame"], message["at"], number)
                    self._changed.notify_all()
            self._patience = SILENCE
            self._unlink()
            if self._gone is not None:
                self.reconnects += 1
                self._news(f"{self.name} is back after {time.perf_counter() - self._gone[1]:.1f} s")
                self._gone = None
        elif "size" in message:
            try:
                name = self._renew(*message["size"])
            except OSError as error:
                process.kill()
                return f"no shared memory for its pictures, {bytes_needed(*message['size']) >> 20} MB ({error.strerror})"
            self._say(process, name)
        elif "open" in message:
            if not self.captured:
                self._news(message["open"])
        elif "news" in message:
            if not self.reconnects:
                self._news(f"{self.name} {message['news']}")
        elif "alive" in message:
            pass
        elif "error" in message:
            return str(message["error"])
        elif self.captured > first:
            self._ended = True
        else:
            return "it has no pictures"
        return None

    def _renew(self, width: int, height: int) -> str:
        """Memory for pictures of another size, or of another process; its name. OSError if there is no room for it."""
        with self._changed:
            self._release()
            if self._closing.is_set():
                raise OSError("closed")
            self._memory = SharedMemory(create=True, size=bytes_needed(width, height))
            self._linked = True
            self._slots = Slots(self._memory, width, height)
            if hasattr(os, "posix_fallocate"):  # or a process that finds no room later would die of SIGBUS
                os.posix_fallocate(self._memory._fd, 0, self._memory.size)  # type: ignore[attr-defined]
            return self._memory.name

    def _release(self) -> None:
        self._unlink()
        if self._slots is not None:
            self._slots.close()
            self._slots = self._newest = None

    def _unlink(self) -> None:
        """Takes away the memory's name, which nobody needs once both sides have it: so nothing is left of it, however we end."""
        if self._linked:
            self._linked = False
            with suppress(FileNotFoundError):
                self._memory.unlink()

    def _watch(self) -> None:
        """Kills a process that says nothing for too long."""
        while not self._closing.wait(0.25):
            if time.perf_counter() - self._heard > self._patience:
                self._kill()

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()

    @staticmethod
    def _say(process: subprocess.Popen[str], value: Any) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(value) + "\n")
        process.stdin.flush()


def _remember(lines: Any, said: deque[str]) -> None:
    """The last lines of a process, so that it can be asked why it died."""
    with suppress(OSError, ValueError):
        for line in lines:
            log.debug("capture process: %s", line.rstrip())
            said.append(line)
