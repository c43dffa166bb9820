"""Relates the clock of a stream to that of its capture, so that sound gets the times of the frames beside it."""

from __future__ import annotations

MAX_STEP_S = 0.5  # a larger step is a new clock
DRIFT = 0.001  # seconds per second, by which the two clocks may differ


class StreamClock:
    """Learns how much later than its own time each item arrives: by the least delay, as a network only ever adds some."""

    def __init__(self) -> None:
        self._offset: float | None = None
        self._last = 0.0

    def observe(self, seconds: float, arrival: float) -> None:
        """Records an item of this stream time that arrived at this time."""
        offset = arrival - seconds
        if self._offset is None or abs(offset - self._offset) > MAX_STEP_S:
            self._offset = offset
        else:
            self._offset = min(offset, self._offset + DRIFT * max(0.0, arrival - self._last))
        self._last = arrival

    def time_of(self, seconds: float) -> float | None:
        """Returns when an item of this stream time was captured; None before the first observation."""
        return None if self._offset is None else self._offset + seconds
