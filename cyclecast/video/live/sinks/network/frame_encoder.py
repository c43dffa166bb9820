"""Encodes frames for a stream: each at the time of its capture, keyframes at equal distances and on request."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from cyclecast.errors import OutputError
from cyclecast.video.color import SDR, frame_from_bgr
from cyclecast.video.files.encoders import ChosenEncoder, ordinary_priority
from cyclecast.video.files.writer import even, pad_to_even, reason
from cyclecast.video.frame import Image

TICKS = 90_000  # per second: the clock of MPEG and of RTP


class UnusableOutput(OutputError):
    """The output cannot work, however often it is tried."""


def open_context(context: Any, encoder: ChosenEncoder, size: tuple[int, int]) -> None:
    """Configures and opens a codec context. Raises UnusableOutput if the encoder does not take the settings."""
    context.width, context.height = (even(side) for side in size)
    context.pix_fmt = encoder.pix_fmt()
    context.time_base = Fraction(1, TICKS)
    context.colorspace, context.color_range = SDR.matrix, SDR.range
    context.color_primaries, context.color_trc = SDR.primaries, SDR.transfer
    try:
        with ordinary_priority():
            context.open()
    except (av.FFmpegError, ValueError) as error:
        raise UnusableOutput(f"{encoder.name} does not take these settings ({reason(error)}); add #encoder=software") from error


class FrameEncoder:
    """Encodes frames of one size. encode: of a stream or a codec context. interval: between keyframes, in seconds."""

    def __init__(self, encode: Callable[[av.VideoFrame | None], list[Any]], pix_fmt: str, interval: float) -> None:
        self._encode, self._pix_fmt, self._interval = encode, pix_fmt, interval
        self._last = -1  # pts of the last frame
        self._keyframe_due = 0.0  # seconds after the start
        self._reformatter = VideoReformatter()

    def request_keyframe(self) -> None:
        """Makes the next frame a keyframe. Any thread may call it."""
        self._keyframe_due = 0.0

    def encode(self, image: Image, seconds: float) -> list[Any]:
        """Returns the packets of a frame, (H, W, 3) uint8 BGR. seconds: after the start. Raises OutputError if that fails."""
        height, width = image.shape[:2]
        frame = frame_from_bgr(pad_to_even(image) if width % 2 or height % 2 else image, SDR, self._pix_fmt, self._reformatter)
        self._last = max(round(TICKS * seconds), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, TICKS)
        if seconds >= self._keyframe_due:
            frame.pict_type = PictureType.I
            self._keyframe_due = (seconds // self._interval + 1) * self._interval
        try:
            return self._encode(frame)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"the encoder failed ({reason(error)})") from error

    def flush(self) -> list[Any]:
        """Returns the packets that the encoder holds."""
        return self._encode(None)
