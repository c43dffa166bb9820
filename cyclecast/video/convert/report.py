"""The report of a conversion."""

from __future__ import annotations

from dataclasses import dataclass

from cyclecast.video.convert.pipeline import StageSeconds


@dataclass(frozen=True)
class ConversionReport:
    """The result of one converted file."""

    source: str
    output: str
    frames: int
    """Frames in the output; 1 for an image."""
    seconds: float
    """Duration of this run."""
    fps: float
    """Frames that this run converted, per second."""
    width: int
    height: int
    audio: str
    """copied, transcoded or none."""
    dropped: list[str]
    """What the source has and the output lacks, in words."""
    notices: list[str]
    """What was changed on the way, in words, such as HDR that became SDR."""
    damage: str | None
    """What could not be decoded, in words; the output has the rest. None: the source is intact."""
    resumed_frames: int
    """Frames reused from an earlier, interrupted run."""
    stages_ms: dict[str, float]
    """decode, model, encode: milliseconds of work a frame, without waiting."""


def milliseconds_per_frame(work: StageSeconds, frames: int) -> dict[str, float]:
    """Returns `ConversionReport.stages_ms` of a run over that many frames."""
    return {stage: round(1000 * seconds / max(frames, 1), 3) for stage, seconds in vars(work).items()}
