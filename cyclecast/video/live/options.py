"""The settings of a live run."""

from __future__ import annotations

from dataclasses import dataclass

from cyclecast.errors import ConfigError
from cyclecast.video.strength import check_strength


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """Options of a live run. The source's size and rate are in its `CaptureSettings`. Raises ConfigError for invalid values."""

    seconds: float | None = None
    """Ends the run that long after the first frame was shown; None: no limit."""
    work_height: int | None = None
    """Runs the model at this height in pixels, at most; None: the height of the source."""
    strength: float = 1.0
    """Share of the styled frame in the output, from 0 (the source) to 1 (the model's output), at the start of the run."""
    target_fps: float | None = None
    """Lowers the processing height to hold this frame rate; None: never."""
    steady: float = 0.0
    """Temporal smoothing, from 0 (off) to 1 (strong)."""
    split: float | None = None
    """As `StyledFrame.split`."""
    mirror: bool = False
    """Flips the source left to right."""
    audio: str = "none"
    """Sound of recordings and network outputs: "auto" (the source's own, if it has any), "none", or the name of a microphone."""
    verbose: bool = False
    """Reports rate, latency and counts once a second."""

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds >= 0:
            raise ConfigError(f"seconds must be 0 or more, got {self.seconds:g}")
        if self.work_height is not None and self.work_height < 16:
            raise ConfigError(f"work_height must be at least 16, got {self.work_height}")
        check_strength(self.strength)
        if self.target_fps is not None and not self.target_fps > 0:
            raise ConfigError(f"target_fps must be above 0, got {self.target_fps:g}")
        if not 0 <= self.steady <= 1:
            raise ConfigError(f"steady must be from 0 to 1, got {self.steady:g}")
        if not self.audio:
            raise ConfigError("audio must be auto, none, or the name of a device")
        if self.split is not None and not 0 <= self.split <= 1:
            raise ConfigError(f"split must be from 0 to 1, a share of the width, got {self.split:g}")
