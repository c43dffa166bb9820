"""A feed that others fill: a browser sends its camera's frames, and the styling thread takes the newest."""

from __future__ import annotations

import logging
import threading
import time

from cyclecast.video.live.capture.client import FRAME_TIMEOUT_S, CapturedFrame
from cyclecast.video.live.capture.patience import Patience
from cyclecast.video.live.sources.source import PendingFrame

DAMAGED_FRAMES = 30  # in a row, after which the feed counts as interrupted; a single one is skipped

log = logging.getLogger(__name__)


class PushFeed:
    """A `Feed` that holds one frame. The code that fills it calls `put` and `lose`; every method may be called from any thread.

    patience: as in `CaptureSettings`.
    """

    def __init__(self, name: str = "the browser's camera", patience: float | None = None) -> None:
        self.name = name
        self.captured = 0
        """Frames that arrived, taken or not."""
        self.skipped = 0
        """Frames that a newer one replaced, or that could not be decoded."""
        self.reconnects = 0
        """How many times frames arrived again after an interruption."""
        self._newest: PendingFrame | None = None
        self._last_arrival = 0.0
        self._patience = Patience(FRAME_TIMEOUT_S, FRAME_TIMEOUT_S, patience)
        self._lost: tuple[str, float] | None = None  # the reason, and since when
        self._damaged = 0  # frames in a row that could not be decoded
        self._damaged_since = 0.0
        self._damage = ""
        self._closed = False
        self._changed = threading.Condition()

    def put(self, pending_frame: PendingFrame) -> None:
        """Stores the newest frame; replaces one that nobody took, which is then never decoded."""
        with self._changed:
            if self._closed:
                return
            if self._lost is not None or self._is_silent:
                self.reconnects += 1
                self._patience.interrupt()
            self._lost, self._last_arrival = None, time.perf_counter()
            self._patience.observe(self._last_arrival)
            self.captured += 1
            self.skipped += self._newest is not None
            self._newest = pending_frame
            self._changed.notify_all()

    def lose(self, reason: str) -> None:
        """Marks the feed as interrupted, with a reason for people. Does nothing before the first frame."""
        with self._changed:
            if self.captured and self._lost is None:
                self._lost = (reason, time.perf_counter())

    def take(self, seconds: float) -> CapturedFrame | None:
        """Returns the newest frame that was not taken yet; None if none arrives within `seconds` or if it is damaged.

        After `DAMAGED_FRAMES` damaged frames in a row, `outage` names it until a frame can be decoded. Raises EOFError after
        `close`.
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
            image = pending_frame.decode()
        except Exception as error:  # whatever a sender's frame breaks: it may send a better one next
            log.debug("%s: a frame cannot be decoded", self.name, exc_info=True)
            self._count_damaged(error)
            return None
        with self._changed:
            if self._damaged >= DAMAGED_FRAMES:
                self.reconnects += 1
            self._damaged = 0
        return CapturedFrame(image, pending_frame.at, number)

    def _count_damaged(self, error: Exception) -> None:
        with self._changed:
            self.skipped += 1
            self._damaged += 1
            self._damage = " ".join(str(error).split()) or type(error).__name__
            if self._damaged == DAMAGED_FRAMES:
                self._damaged_since = time.perf_counter()
                log.warning("%s: %d frames in a row cannot be decoded (%s)", self.name, DAMAGED_FRAMES, self._damage)

    def busy(self, seconds: float) -> None:
        """Does nothing: a frame is decoded only when it is taken."""

    @property
    def outage(self) -> tuple[str, float] | None:
        """Why the feed is interrupted, and for how many seconds; None while frames arrive, and before the first."""
        with self._changed:
            now = time.perf_counter()
            if self._lost is not None:
                return self._lost[0], now - self._lost[1]
            if self._is_silent:
                return f"no frame for {self._patience.seconds:.3g} s", now - self._last_arrival
            if self._damaged >= DAMAGED_FRAMES:
                return f"its frames cannot be decoded ({self._damage})", now - self._damaged_since
            return None

    @property
    def _is_silent(self) -> bool:
        return self.captured > 0 and time.perf_counter() - self._last_arrival > self._patience.seconds

    def close(self) -> None:
        """Wakes whoever waits in `take`, and drops the newest frame."""
        with self._changed:
            self.skipped += self._newest is not None
            self._closed, self._newest = True, None
            self._changed.notify_all()
