"""Relates the clock of a stream or a device to that of the frames, so that sound gets the times of the frames beside it."""

from __future__ import annotations

from collections import deque
from statistics import median

MAX_STEP_S = 0.5  # a larger step is a new clock
DRIFT = 0.001  # seconds per second, by which the clock of a device may differ
OBSERVED_FRAMES = 31
SETTLED_S = 0.1  # that sound may be off, before it jumps
CORRECTION = 0.005  # seconds per second, by which it is corrected otherwise


class DeviceClock:
    """Learns how much later than its own time each item arrives: by the least delay, as a system only ever adds some."""

    def __init__(self) -> None:
        self._offset: float | None = None
        self._last = 0.0

    def observe(self, seconds: float, arrival: float) -> None:
        """Records an item of this time of the device that arrived at this time."""
        offset = arrival - seconds
        if self._offset is None or abs(offset - self._offset) > MAX_STEP_S:
            self._offset = offset
        else:
            self._offset = min(offset, self._offset + DRIFT * max(0.0, arrival - self._last))
        self._last = arrival

    def time_of(self, seconds: float) -> float | None:
        """Returns when an item of this time was captured; None before the first observation."""
        return None if self._offset is None else self._offset + seconds


class FrameClock:
    """Learns how much later than their own time the frames of a stream arrive: the usual delay, as it is theirs on average."""

    def __init__(self) -> None:
        self._offset: float | None = None
        self._offsets: deque[float] = deque(maxlen=OBSERVED_FRAMES)
        self._last = 0.0

    def observe(self, seconds: float, arrival: float) -> None:
        """Records a frame of this time of the stream that arrived at this time."""
        if self._offsets and abs(arrival - seconds - self._offsets[-1]) > MAX_STEP_S:
            self._offsets.clear()
        self._offsets.append(arrival - seconds)
        usual = median(self._offsets)
        if self._offset is None or abs(usual - self._offset) > SETTLED_S or len(self._offsets) < OBSERVED_FRAMES:
            self._offset = usual
        else:
            most = CORRECTION * max(0.0, arrival - self._last)
            self._offset += min(max(usual - self._offset, -most), most)
        self._last = arrival

    def time_of(self, seconds: float) -> float | None:
        """Returns when sound of this time was captured; None before the first frame."""
        return None if self._offset is None else self._offset + seconds
