"""What a live run can be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from cyclecast.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """How a live run is done; sizes and rates of the source are in its `CaptureSettings`."""

    seconds: float | None = None
    """Ends that long after the first picture was shown; None: goes on."""
    work_height: int | None = None
    """Lines at which the model runs, at most; None: the source's."""
    target_fps: float | None = None
    """The rate to keep, by working at fewer lines where it has to be."""
    steady: float = 0.0
    """How firmly flicker is taken out, 0 (not at all) to 1."""
    split: float | None = None
    """As `StyledFrame.split`."""
    mirror: bool = False
    verbose: bool = False
    """A line a second."""

    def __post_init__(self) -> None:
        if self.work_height is not None and self.work_height < 16:
            raise ConfigError(f"work_height must be at least 16, got {self.work_height}")
        if self.target_fps is not None and self.target_fps <= 0:
            raise ConfigError(f"target_fps must be above 0, got {self.target_fps:g}")
        if not 0 <= self.steady <= 1:
            raise ConfigError(f"steady is 0 to 1, got {self.steady:g}")
        if self.split is not None and not 0 <= self.split <= 1:
            raise ConfigError(f"split is a share of the width, 0 to 1, got {self.split:g}")
