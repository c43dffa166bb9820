"""A feed that somebody else fills: a browser sends its camera's frames, and the newest is taken when the model is free."""

from __future__ import annotations

import logging
import threading
import time

from cyclecast.errors import InputError
from cyclecast.video.live.capture.client import FRAME_TIMEOUT_S, CapturedFrame
from cyclecast.video.live.sources.source import PendingFrame

log = logging.getLogger(__name__)


class PushFeed:
    """A `Feed` with room for one frame. `put` and `lose` are for whoever fills it; any thread may call any method."""

    def __init__(self, name: str = "the browser's camera") -> None:
        self.name = name
        self.captured = 0
        """Frames that arrived, whether somebody took them or not."""
        self.skipped = 0
        """Frames that a newer one replaced, or that could not be decoded."""
        self.reconnects = 0
        """How many times frames arrived again after they had stopped."""
        self._newest: PendingFrame | None = None
        self._last = 0.0  # when the last one arrived
        self._gone: tuple[str, float] | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, pending_frame: PendingFrame) -> None:
        """Stores the newest frame. It replaces one that was not taken, which is never decoded."""
        with self._changed:
            if self._closed:
                return
            if self.gone is not None:
                self.reconnects += 1
            self._gone, self._last = None, time.perf_counter()
            self.captured += 1
            self.skipped += self._newest is not None
            self._newest = pending_frame
            self._changed.notify_all()

    def lose(self, reason: str) -> None:
        """Takes in that no more frames come for now, and why, for the user. Does nothing if there never was one."""
        with self._changed:
            if self.captured and self._gone is None:
                self._gone = (reason, time.perf_counter())

    def take(self, seconds: float) -> CapturedFrame | None:
        """The newest frame that was not taken yet; None if none comes within `seconds`, or if it cannot be decoded.

        EOFError after `close`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._closed, seconds)
            if self._closed:
                raise EOFError
            pending_frame, self._newest = self._newest, None
            number = self.captured
        if pending_frame is None:
            return None
        try:
            image = pending_frame.picture()
        except InputError:  # a lost packet: the next key frame mends it
            log.debug("a frame of %s cannot be decoded", self.name, exc_info=True)
            with self._changed:
                self.skipped += 1
            return None
        return CapturedFrame(image, pending_frame.at, number)

    def busy(self, seconds: float) -> None:
        """Does nothing: no frame is decoded before it is taken."""

    @property
    def gone(self) -> tuple[str, float] | None:
        """Why there are no frames any more, and for how many seconds; None while there are, or before the first."""
        gone, now = self._gone, time.perf_counter()
        if gone is not None:
            return gone[0], now - gone[1]
        if self.captured and now - self._last > FRAME_TIMEOUT_S:
            return f"no frame for {FRAME_TIMEOUT_S:g} s", now - self._last
        return None

    def close(self) -> None:
        """Wakes everybody who waits; there is nothing more to take."""
        with self._changed:
            self.skipped += self._newest is not None
            self._closed, self._newest = True, None
            self._changed.notify_all()
