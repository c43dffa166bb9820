"""The options of a conversion."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from cyclecast.errors import ConfigError
from cyclecast.video.files.encoders import codec_of
from cyclecast.video.strength import check_strength


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """How a file is converted and written. None means the default of the container or the encoder.

    Raises ConfigError for a work_height below 16, a strength outside of 0 to 1, a negative start, a duration of 0 or less, or
    another value of deinterlace than auto and off.
    """

    codec: str | None = None
    """h264, hevc, av1, vp9, prores or ffv1, also by other names, such as H.265; None: vp9 for .webm, otherwise h264."""
    crf: int | None = None
    """Constant quality on the encoder's own scale; a lower value is better."""
    preset: str | None = None
    """The encoder's own name for a speed, such as x264's `veryfast`."""
    pix_fmt: str | None = None
    """FFmpeg's name of the output's pixel format, such as yuv444p or yuv420p10le; None: the closest one to the source's."""
    encoder: str = "auto"
    """auto (hardware that works on this machine, otherwise software), software, or one of `encoders.HARDWARE`."""
    decoder: str = "auto"
    """auto, software, or one of `decoders.DEVICES`."""
    deinterlace: str = "auto"
    """auto: frames that are interlaced become progressive; off: they stay as they are."""
    audio: bool = True
    """Keep the audio tracks."""
    start: Fraction = Fraction(0)
    """Seconds to skip at the beginning of the source. The output's clock starts at 0 there."""
    duration: Fraction | None = None
    """Seconds to convert from `start` on; None: to the end."""
    mend_clock: bool = True
    """Continue the clock where it jumps, as in concatenated recordings. False: a jump back is an error."""
    work_height: int | None = None
    """Height in pixels at which the model runs; the output keeps the source's size. None: the source's height."""
    strength: float = 1.0
    """Share of the styled frame in the output, from 0 (the source) to 1 (the model's output)."""
    resume: bool = True
    """Resume an interrupted run of the same conversion."""
    overwrite: bool = False
    """Replace an existing output."""

    def __post_init__(self) -> None:
        if self.codec is not None:
            object.__setattr__(self, "codec", codec_of(self.codec))
        if self.deinterlace not in ("auto", "off"):
            raise ConfigError(f"deinterlace must be auto or off, got {self.deinterlace!r}")
        if self.work_height is not None and self.work_height < 16:
            raise ConfigError(f"work_height must be at least 16, got {self.work_height}")
        check_strength(self.strength)
        if self.start < 0:
            raise ConfigError(f"start must be 0 or later, got {float(self.start):g}")
        if self.duration is not None and self.duration <= 0:
            raise ConfigError(f"duration must be more than 0, got {float(self.duration):g}")
