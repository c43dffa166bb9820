"""How long a source may be silent before it is lost, by its own frame rate."""

from __future__ import annotations

from collections import deque

INTERVALS = 3.0  # between frames that may pass without one
OBSERVED = 5  # intervals that are remembered; the longest counts


class Patience:
    """Observes the frames of one source. Use it from one thread, or under a lock.

    to_open: seconds for the first two frames, until the rate is known. least: seconds for sources with many frames per second.
    fixed: seconds that the user has set, instead of those by the rate.
    """

    def __init__(self, to_open: float, least: float, fixed: float | None = None) -> None:
        self.to_open = max(to_open, fixed or 0.0)
        """Seconds that the source may take to be opened and to deliver a frame."""
        self._least, self._fixed = least, fixed
        self._last: float | None = None
        self._intervals: deque[float] = deque(maxlen=OBSERVED)

    def observe(self, at: float) -> None:
        """Records a frame that arrived at this time, in seconds."""
        if self._last is not None:
            self._intervals.append(at - self._last)
        self._last = at

    def interrupt(self) -> None:
        """Forgets the time of the last frame: the source is opened again, and the time until then is no interval."""
        self._last = None

    @property
    def seconds(self) -> float:
        """Seconds without a frame after which the source is lost, once it has delivered one."""
        if self._fixed is not None:
            return self._fixed
        return max(self._least, INTERVALS * max(self._intervals)) if self._intervals else self.to_open
