"""How the frames of a video are encoded."""

from __future__ import annotations

from dataclasses import dataclass

from cyclecast.video.alpha import has_alpha
from cyclecast.video.files.encoders import ENCODERS, FIXED_OPTIONS, ChosenEncoder


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded; None: the encoder's default."""

    codec: str
    """One of `encoders.ENCODERS`."""
    crf: int | None = None
    """The encoder's quality scale, lower is better."""
    preset: str | None = None
    """The encoder's own name for its speed."""
    pix_fmt: str | None = None
    """FFmpeg's name of the pixel format."""
    hardware: str | None = None
    """The hardware that encodes, one of `encoders.HARDWARE`; None: software."""

    @property
    def encoder(self) -> ChosenEncoder:
        """FFmpeg's encoder."""
        name = f"{self.codec}_{self.hardware}" if self.hardware else ENCODERS[self.codec].name
        return ChosenEncoder(self.codec, name, self.hardware)

    @property
    def keeps_alpha(self) -> bool:
        """Frames are encoded with their alpha."""
        return self.pix_fmt is not None and has_alpha(self.pix_fmt)

    @property
    def part_suffix(self) -> str:
        """The suffix of the files of a video's parts: MP4 holds neither the alpha of VP9 nor the other codecs."""
        return ".mkv" if self.keeps_alpha or self.codec in FIXED_OPTIONS else ".mp4"
