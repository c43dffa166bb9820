"""Which frames of a video are read: a range of time, and where an earlier run stopped in it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class TimeRange:
    """A part of a video: from `start` seconds on its own clock, for `duration` seconds (None: to its end)."""

    start: Fraction = Fraction(0)
    duration: Fraction | None = None
    mends_clock: bool = True
    """Where the clock jumps, as in concatenated files, it is continued. Otherwise a jump back is an error."""


@dataclass(frozen=True)
class ResumePoint:
    """Where an earlier run stopped: after this many frames, the last of which had this pts."""

    frames: int
    pts: int
    sequential: bool
    """Every frame so far had an own, later time and could be decoded, so that reading may begin in the middle of the file."""
