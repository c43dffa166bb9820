"""Encodes frames and sound, and sends them to a server through FFmpeg. Runs in the process of the output: it may block."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
from av.codec.context import Flags
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from cyclecast.errors import OutputError
from cyclecast.video.color import SDR, frame_from_bgr
from cyclecast.video.files.encoders import ChosenEncoder, ordinary_priority
from cyclecast.video.files.rate_control import streaming_options
from cyclecast.video.files.writer import even, pad_to_even, reason
from cyclecast.video.frame import Image
from cyclecast.video.live.sound.chunk import SoundChunk
from cyclecast.video.live.sound.track import SoundTrack

TICKS = 90_000  # per second: the clock of MPEG


class UnusableOutput(OutputError):
    """The output cannot work, however often it is tried."""


class MuxedOutput:
    """An encoded video on its way to a server. A frame's time is that of its capture, in seconds.

    Raises UnusableOutput for an encoder or a protocol that does not work, OutputError if the server cannot be reached.
    """

    def __init__(
        self,
        url: str,
        muxer: str,
        options: dict[str, str],
        *,
        size: tuple[int, int],
        rate: float,
        encoder: ChosenEncoder,
        bit_rate: int,
        keyframe_interval: float,
        sound: bool = False,
    ) -> None:
        self._start: float | None = None
        self._interval = keyframe_interval
        self._last = -1  # pts of the last frame
        self._keyframe_due = 0.0  # seconds after the start
        self._reformatter = VideoReformatter()
        try:
            self._container = av.open(url, "w", format=muxer, options=options)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise UnusableOutput(reason(error)) from error
        self._video: Any = self._add_video(encoder, size, rate, bit_rate)
        self._sound = SoundTrack(self._container, "aac", muxer == "tee") if sound else None
        try:
            self._container.start_encoding()
        except av.error.ProtocolNotFoundError as error:
            raise UnusableOutput("this build of FFmpeg does not have the protocol") from error
        except (av.FFmpegError, OSError, ValueError) as error:
            raise OutputError(reason(error)) from error

    def _add_video(self, encoder: ChosenEncoder, size: tuple[int, int], rate: float, bit_rate: int) -> Any:
        hwaccel = encoder.hwaccel()
        extra: dict[str, Any] = {"hwaccel": hwaccel} if hwaccel else {}
        options = streaming_options(encoder, bit_rate, max(1, round(rate * self._interval)))
        fps = Fraction(rate).limit_denominator(1001)
        stream: Any = self._container.add_stream(encoder.name, rate=fps, options=options, **extra)
        context = stream.codec_context
        context.width, context.height = (even(side) for side in size)
        context.pix_fmt = self._pix_fmt = encoder.pix_fmt()
        context.time_base = stream.time_base = Fraction(1, TICKS)
        context.colorspace, context.color_range = SDR.matrix, SDR.range
        context.color_primaries, context.color_trc = SDR.primaries, SDR.transfer
        context.flags |= Flags.global_header if self._container.format.name == "tee" else 0
        try:
            with ordinary_priority():
                context.open()
        except (av.FFmpegError, ValueError) as error:
            raise UnusableOutput(
                f"{encoder.name} does not take these settings ({reason(error)}); add #encoder=software"
            ) from error
        return stream

    def write(self, image: Image, at: float, chunks: Sequence[SoundChunk] = ()) -> None:
        """Encodes and sends a frame, (H, W, 3) uint8 BGR, of the size of the output, after the sound before it.

        Raises OutputError if that fails.
        """
        self._start = at if self._start is None else self._start
        if self._sound is not None:
            self._mux(self._sound.encode(chunks, self._start, at))
        seconds = at - self._start
        height, width = image.shape[:2]
        frame = frame_from_bgr(pad_to_even(image) if width % 2 or height % 2 else image, SDR, self._pix_fmt, self._reformatter)
        self._last = max(round(TICKS * seconds), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, TICKS)
        if seconds >= self._keyframe_due:
            frame.pict_type = PictureType.I
            self._keyframe_due = seconds - seconds % self._interval + self._interval if seconds > 0 else self._interval
        self._mux(self._video.encode(frame))

    def _mux(self, packets: Sequence[Any]) -> None:
        try:
            self._container.mux(packets)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(reason(error)) from error

    def close(self) -> None:
        """Sends what the encoder holds, and says goodbye to the server. Raises OutputError if that fails."""
        self._mux(self._video.encode(None))
        self._mux(self._sound.flush() if self._sound is not None else [])
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            raise OutputError(reason(error)) from error
