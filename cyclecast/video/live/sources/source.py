"""What a live source is: it says what it delivers, and gives pictures as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cyclecast.video.frame import Image


@dataclass(frozen=True)
class CaptureSettings:
    """What a source is asked for; None leaves it to the source."""

    width: int | None = None
    height: int | None = None
    fps: float | None = None
    loop: bool = True
    """Files begin again at their end."""


@dataclass(frozen=True)
class PendingFrame:
    """A picture that is there, but not decoded yet: if a newer one comes before it is wanted, it never is."""

    at: float
    """`time.perf_counter()` when it was captured; that clock is the same in all processes of a machine."""
    picture: Callable[[], Image]
    """(H, W, 3) uint8 BGR; called at most once, before the next is grabbed. InputError if it cannot be decoded."""


@dataclass(frozen=True)
class LiveSource:
    """A source that is open."""

    described: str
    """For people: what it is and what it delivers, `camera 0: 1280x720 MJPG at 30 fps`."""
    pending_frames: Iterator[PendingFrame]
    """Pictures as they come; it may block for as long as it likes. Ends where the source ends."""
    stated_fps: float | None = None
    """A rate that somebody else says and that need not be true, such as a driver's (0: it says none); it is then measured."""
