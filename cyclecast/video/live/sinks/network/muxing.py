"""Sends encoded frames and sound to a server through FFmpeg. Runs in the process of the output: it may block."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
from av.codec.context import Flags

from cyclecast.errors import OutputError
from cyclecast.video.files.codecs import capture_ffmpeg_errors
from cyclecast.video.files.encoders import ChosenEncoder
from cyclecast.video.files.rate_control import streaming_options
from cyclecast.video.files.writer import reason
from cyclecast.video.frame import Image
from cyclecast.video.live.sinks.network.frame_encoder import TICKS, FrameEncoder, UnusableOutput, open_context
from cyclecast.video.live.sound.chunk import SoundChunk
from cyclecast.video.live.sound.track import SoundTrack, add_sound


class MuxedOutput:
    """A stream to a server. A frame's time is that of its capture, in seconds.

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
        sound: bool,
    ) -> None:
        self._start: float | None = None
        try:
            self._container = av.open(url, "w", format=muxer, options=options)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise UnusableOutput(reason(error)) from error
        has_global_header = muxer == "tee"  # the others say themselves what they need
        hwaccel = encoder.hwaccel()
        extra: dict[str, Any] = {"hwaccel": hwaccel} if hwaccel else {}
        encoder_options = streaming_options(encoder, bit_rate, max(1, round(rate * keyframe_interval)))
        fps = Fraction(rate).limit_denominator(1001)
        stream: Any = self._container.add_stream(encoder.name, rate=fps, options=encoder_options, **extra)
        stream.time_base = Fraction(1, TICKS)
        if has_global_header:
            stream.codec_context.flags |= Flags.global_header
        open_context(stream.codec_context, encoder, size)
        self._encoder = FrameEncoder(stream.encode, encoder.pix_fmt(), keyframe_interval)
        self._sound: SoundTrack | None = add_sound(self._container, "aac", has_global_header) if sound else None
        with capture_ffmpeg_errors() as messages:  # the codecs are open: no thread of theirs can wait for Python
            try:
                self._container.start_encoding()
            except av.error.ProtocolNotFoundError as error:
                raise UnusableOutput("this build of FFmpeg does not have the protocol") from error
            except (av.FFmpegError, OSError, ValueError) as error:
                first = next((text.strip() for _, _, text in messages if text.strip()), "")  # the others follow from it
                is_vague = getattr(error, "errno", None) == errno.EIO
                raise OutputError(first if first and is_vague else reason(error)) from error

    def write(self, image: Image, at: float, chunks: Sequence[SoundChunk] = ()) -> None:
        """Encodes and sends a frame, (H, W, 3) uint8 BGR, of the size of the output, after the sound before it.

        Raises OutputError if that fails.
        """
        self._start = at if self._start is None else self._start
        if self._sound is not None:
            self._mux(self._sound.encode(chunks, self._start, at))
        self._mux(self._encoder.encode(image, at - self._start))

    def _mux(self, packets: Sequence[Any]) -> None:
        try:
            self._container.mux(packets)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(reason(error)) from error

    def close(self) -> None:
        """Sends what the encoders hold, and says goodbye to the server. Raises OutputError if that fails."""
        self._mux(self._encoder.flush())
        self._mux(self._sound.flush() if self._sound is not None else [])
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            raise OutputError(reason(error)) from error
