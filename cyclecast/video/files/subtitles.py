"""Subtitles that are transcoded to the text format of the container."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, cast

import av
from av.container import OutputContainer

from cyclecast.video.files.tracks import Packet, copy_description


class Subtitles:
    """Transcodes text subtitles to the container's codec, which may not keep all of their styling."""

    preroll = Fraction(0)

    def __init__(self, out: OutputContainer, stream: Any, codec: str) -> None:
        self._context: Any = stream.codec_context
        self._context.open(strict=False)
        self._stream = cast(Any, out.add_stream(codec))
        self._encoder = self._stream.codec_context
        self._encoder.subtitle_header = self._context.subtitle_header
        self._encoder.time_base = self._stream.time_base = Fraction(1, 1000)
        copy_description(self._stream, stream)

    def take(self, packet: Packet | None) -> Sequence[Packet]:
        """See `Track.take`. Leaves out a text that cannot be decoded."""
        if packet is None:
            return ()
        try:
            text = self._context.decode2(packet)
            if text is None or not len(text):
                return ()
            encoded = self._encoder.encode_subtitle(text)
        except av.FFmpegError:  # no player could show it either
            return ()
        encoded.stream, encoded.time_base = self._stream, packet.time_base
        encoded.pts = encoded.dts = packet.pts
        encoded.duration = packet.duration
        return (encoded,)

    def lost(self) -> int:
        """See `Track.lost`."""
        return 0
