"""A live source from outside: the newest frame at any time; a lost source is opened again until it is back."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from cyclecast.errors import InputError
from cyclecast.video.frame import Image
from cyclecast.video.live.capture.child import EXIT_TIMEOUT_S, CaptureProcess
from cyclecast.video.live.capture.patience import Patience
from cyclecast.video.live.messages import OnMessage, suppress_errors
from cyclecast.video.live.slots import Slots, bytes_needed, create_memory
from cyclecast.video.live.sound.chunk import chunk_from_message
from cyclecast.video.live.sound.feed import SoundFeed
from cyclecast.video.live.sources.address import address_for_child, redacted_address, redacted_text
from cyclecast.video.live.sources.source import CaptureSettings

OPEN_TIMEOUT_S = 25.0  # for a source's first frames: some systems need 20 s for a camera
FRAME_TIMEOUT_S = 4.0  # without a frame, after which a source is lost, unless it is slower than that
RETRY_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # between attempts to open a lost source; the last one repeats
STABLE_S = 10.0  # of frames, after which the delays start again from the first


@dataclass(frozen=True)
class CapturedFrame:
    """A frame from a live source."""

    image: Image
    """(H, W, 3) uint8 BGR; the caller may change it."""
    at: float
    """`time.perf_counter()` when it was captured."""
    number: int
    """Counted from 1 over everything that was captured, taken or not."""


@dataclass(frozen=True)
class _Stored:
    """The newest frame, in shared memory, not yet taken."""

    slot: int
    key: int
    """Its number for the capture process, which starts at 1 with each process."""
    at: float
    number: int


class Capture:
    """Captures from its creation on, in a process of its own, which is killed and started again when it is silent.

    A context manager. source: an address as `cyclecast live` takes it. If the source cannot be opened at first, `take` raises
    InputError, unless the settings say to wait; a source that has delivered frames and is lost is opened again and again.
    sound: gets the sound of the source, if the settings request it. It may be set and removed while frames come.
    """

    def __init__(
        self,
        source: str,
        capture_settings: CaptureSettings | None = None,
        on_message: OnMessage | None = None,
        sound: SoundFeed | None = None,
    ) -> None:
        self.name = redacted_address(source)
        self.captured = 0
        """Frames so far, whether they were used or not."""
        self.skipped = 0
        """Frames that nobody can take any more, because a newer one replaced them or would have."""
        self.reconnects = 0
        """How many times a lost source came back."""
        self.sound = sound
        self.has_sound = False
        """The source has sound; known before its first frame."""
        self._source, self._capture_settings = address_for_child(source), capture_settings or CaptureSettings()
        self._on_message = suppress_errors(on_message)
        self._changed = threading.Condition()
        self._patience = Patience(OPEN_TIMEOUT_S, FRAME_TIMEOUT_S, self._capture_settings.patience)
        self._process = CaptureProcess(self._patience.to_open)
        self._memory: SharedMemory | None = None
        self._slots: Slots | None = None
        self._linked = False  # the memory still has a name
        self._newest: _Stored | None = None
        self._outage: tuple[str, float] | None = None
        self._ended = False
        self._failure: str | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_open, name="capture", daemon=True)
        self._thread.start()

    def take(self, seconds: float) -> CapturedFrame | None:
        """Returns the newest frame that was not taken yet; None if none comes within `seconds`.

        Raises EOFError when the source has ended, InputError in one line if it could not be opened.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._ended or self._failure, seconds)
            if self._newest is not None and self._slots is not None:
                newest, self._newest = self._newest, None
                image = self._slots.read(newest.slot)
                self._process.send({"release": newest.key})
                return CapturedFrame(image, newest.at, newest.number)
            if self._failure is not None:
                raise InputError(self._failure)
            if self._ended:
                raise EOFError
            return None

    def busy(self, seconds: float) -> None:
        """Announces that no frame will be taken for so long: frames that a newer one replaces by then need not be decoded."""
        with self._changed:
            if self._slots is not None:
                self._slots.busy_until = time.perf_counter() + seconds

    @property
    def outage(self) -> tuple[str, float] | None:
        """Why there are no frames at the moment, and for how many seconds; None while there are."""
        outage = self._outage
        return None if outage is None else (outage[0], time.perf_counter() - outage[1])

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self._closing.set()
        with self._changed:
            process = self._process
        process.kill()
        self._thread.join(2 * EXIT_TIMEOUT_S)
        with self._changed:
            self._release_memory()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _keep_open(self) -> None:
        """Runs one process after the other until the source ends, cannot be opened at first, or `close` is called."""
        attempt = 0
        while not self._closing.is_set():
            start, first = time.perf_counter(), self.captured
            reason = self._run_process(first)
            if self._closing.is_set() or self._ended:
                break
            if not self.captured and not self._capture_settings.wait:
                with self._changed:
                    self._failure = f"{self.name}: {reason}"
                    self._changed.notify_all()
                return
            if self.captured > first and time.perf_counter() - start > STABLE_S:
                attempt = 0
            if self._outage is None:
                self._outage = (reason, time.perf_counter())
                now, then = ("gone", "back") if self.captured else ("not there", "there")
                self._on_message(f"{self.name} is {now}: {reason}; trying again until it is {then}")
            self._closing.wait(RETRY_DELAYS_S[min(attempt, len(RETRY_DELAYS_S) - 1)])
            attempt += 1
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _run_process(self, first: int) -> str:
        """Runs one process until it ends. Returns why there are no more frames. first: number of frames captured before it."""
        process = CaptureProcess(self._patience.to_open, lambda line: redacted_text(line, self._source))
        self._patience.interrupt()
        with self._changed:
            self._process = process
        if self._closing.is_set():  # `close` may have killed the process before this one
            return "closed"
        reason = process.run([self._source, asdict(self._capture_settings)], lambda message: self._handle(message, first))
        if not self._ended:
            with self._changed:
                self._skip_newest()
        reason = redacted_text(reason, self._source)
        return reason.removeprefix(f"{self._source}: ").removeprefix(f"{self.name}: ")

    def _handle(self, message: dict[str, Any], first: int) -> str | None:
        """Handles one message of the process; a reason if it announces the end."""
        if "frame" in message or "skipped" in message:
            self._handle_frame(message, first)
        elif "size" in message:
            try:
                name = self._new_memory(*message["size"])
            except OSError as error:
                self._process.kill()
                return f"no shared memory for its frames, {bytes_needed(*message['size']) >> 20} MB ({error.strerror})"
            self._process.send({"memory": name})
        elif "sound" in message or "has_sound" in message:
            self.has_sound, sound = True, self.sound
            if sound is not None:
                sound.is_present = True
                if "sound" in message:
                    sound.put(chunk_from_message(message))
        elif "open" in message:
            if not self.captured:
                self._on_message(message["open"])
        elif "message" in message:
            if not self.reconnects:
                self._on_message(f"{self.name} {message['message']}")
        elif "error" in message:
            return str(message["error"])
        elif "end" in message:
            if self.captured == first:
                return "it has no frames"
            self._ended = True
        return None

    def _handle_frame(self, message: dict[str, Any], first: int) -> None:
        """Takes a frame in shared memory, or counts one that the process skipped."""
        number = first + int(message.get("frame") or message["skipped"])
        with self._changed:
            self.captured = number
            if "frame" in message:
                self._skip_newest()
                self._newest = _Stored(message["slot"], message["frame"], message["at"], number)
                self._changed.notify_all()
            else:
                self.skipped += 1
        self._patience.observe(time.perf_counter())
        self._process.patience = self._patience.seconds
        self._unlink_memory()
        if self._outage is not None:
            self._report_return(self._outage[1], is_first=first == 0)
            self._outage = None

    def _report_return(self, since: float, is_first: bool) -> None:
        """Reports that the source is back, or, if it was waited for, there for the first time."""
        self.reconnects += not is_first
        self._on_message(f"{self.name} is {'there' if is_first else 'back'} after {time.perf_counter() - since:.1f} s")

    def _skip_newest(self) -> None:
        """Gives up the newest frame, which nobody took. The caller holds the lock."""
        if self._newest is not None:
            self.skipped += 1
            self._process.send({"release": self._newest.key})
            self._newest = None

    def _new_memory(self, width: int, height: int) -> str:
        """Returns the name of shared memory for frames of another size or process. Raises OSError if there is no room for it."""
        with self._changed:
            self._release_memory()
            if self._closing.is_set():
                raise OSError("closed")
            memory = self._memory = create_memory(bytes_needed(width, height))
            self._linked = True
            self._slots = Slots(memory, width, height)
            return memory.name

    def _release_memory(self) -> None:
        """Gives up the newest frame, then the shared memory. The caller holds the lock."""
        self._skip_newest()
        self._unlink_memory()
        if self._slots is not None:
            self._slots.close()
            self._slots = None

    def _unlink_memory(self) -> None:
        """Removes the memory's name, which nobody needs once both sides have it: nothing is left behind, however they end."""
        if self._linked and self._memory is not None:
            self._linked = False
            with suppress(FileNotFoundError):
                self._memory.unlink()
