"""A feed that others fill: a browser sends its camera's pictures, and the newest is taken when the model has time."""

from __future__ import annotations

import threading
import time

from cyclecast.video.live.capture.client import SILENCE, CapturedFrame
from cyclecast.video.live.sources.source import PendingFrame


class PushFeed:
    """A `Feed` with room for one picture. `put` and `lose` are for whoever fills it; all may be called from any thread."""

    def __init__(self, name: str = "the browser's camera") -> None:
        self.name = name
        self.captured = 0
        """Pictures that came, whether anybody took them or not."""
        self.reconnects = 0
        """How many times pictures came again after they had stopped."""
        self._newest: PendingFrame | None = None
        self._last = 0.0  # when the last one came
        self._gone: tuple[str, float] | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, pending_frame: PendingFrame) -> None:
        """The newest picture; it takes the place of one that was not taken, which is never decoded."""
        with self._changed:
            if self.gone is not None:
                self.reconnects += 1
            self._gone, self._last = None, time.perf_counter()
            self.captured += 1
            self._newest = pending_frame
            self._changed.notify_all()

    def lose(self, reason: str) -> None:
        """There are no more pictures for now, in words for people. Nothing changes if there never were any."""
        with self._changed:
            if self.captured and self._gone is None:
                self._gone = (reason, time.perf_counter())

    def take(self, seconds: float) -> CapturedFrame | None:
        """The newest picture that was not taken yet; None if none comes within `seconds`.

        EOFError after `close`, InputError if it cannot be decoded.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._closed, seconds)
            if self._closed:
                raise EOFError
            pending_frame, self._newest = self._newest, None
            number = self.captured
        return None if pending_frame is None else CapturedFrame(pending_frame.picture(), pending_frame.at, number)

    def busy(self, seconds: float) -> None:
        """Nothing is decoded before it is taken, so there is nothing to save."""

    @property
    def gone(self) -> tuple[str, float] | None:
        """Why there are no pictures any more, and for how many seconds; None while there are, or before the first."""
        gone, now = self._gone, time.perf_counter()
        if gone is not None:
            return gone[0], now - gone[1]
        if self.captured and now - self._last > SILENCE:
            return f"no picture for {SILENCE:g} s", now - self._last
        return None

    def close(self) -> None:
        """Wakes who waits; there is nothing more to take."""
        with self._changed:
            self._closed, self._newest = True, None
            self._changed.notify_all()
