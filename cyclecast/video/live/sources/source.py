"""The types that every live source shares: settings, frames that are not decoded yet, and the open source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cyclecast.errors import ConfigError
from cyclecast.video.frame import Image
from cyclecast.video.live.sound.chunk import SoundChunk


@dataclass(frozen=True)
class CaptureSettings:
    """What to request from a source; None keeps the source's own value."""

    width: int | None = None
    """Pixels."""
    height: int | None = None
    """Pixels."""
    fps: float | None = None
    """Frames per second, at most."""
    loop: bool = True
    """Play files again when they end."""
    patience: float | None = None
    """Seconds without a frame after which the source is lost; None: 4, or three times the interval between its frames."""
    wait: bool = False
    """Wait for a source that cannot be opened at first; otherwise that is an error."""
    sound: bool = False
    """Deliver the sound of files and streams too. A `Session` sets it by `LiveOptions.audio`."""

    def __post_init__(self) -> None:
        if self.patience is not None and not self.patience > 0:
            raise ConfigError(f"patience must be above 0 seconds, got {self.patience:g}")


@dataclass(frozen=True)
class PendingFrame:
    """A captured frame that is not decoded yet. If a newer one arrives first, nobody ever decodes this one."""

    at: float
    """`time.perf_counter()` at capture; all processes of a machine share that clock."""
    decode: Callable[[], Image]
    """Returns (H, W, 3) uint8 BGR. Call it at most once, before the next frame is grabbed.

    InputError if this frame is damaged: the source itself continues.
    """
    sound: tuple[SoundChunk, ...] = ()
    """What was captured around this frame and not delivered before."""


@dataclass(frozen=True)
class LiveSource:
    """An open source."""

    description: str
    """The source and what it delivers, for people: `camera 0: 1280x720 MJPG at 30 fps`."""
    pending_frames: Iterator[PendingFrame]
    """Frames as they arrive. May block for any time; ends when the source ends; InputError if the source fails."""
    stated_fps: float | None = None
    """A rate that a driver claims (0: it claims none), and that the caller has to measure. None: the rate is certain."""
    has_sound: bool = False
    """Its frames come with sound."""
