"""Which codecs a container holds, and how the output of a conversion is encoded."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

import av

from cyclecast.errors import ConfigError, OutputError
from cyclecast.image_formats import FORMATS
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files.encoders import ENCODERS
from cyclecast.video.files.encoding import Encoding
from cyclecast.video.files.pixel_formats import ALPHA_CONTAINERS, UNREADABLE, holds_alpha
from cyclecast.video.files.side_streams import SideStreams
from cyclecast.video.files.time_range import TimeRange
from cyclecast.video.files.writer import CONTAINERS, reason
from cyclecast.video.frame import StreamInfo

GIF = ".gif"
MUXER_NAMES = {".m4v": "ipod", ".mkv": "matroska"}  # where FFmpeg's muxer is not named after the suffix
LISTED_BUT_REFUSED = {".mov": ("av1", "vp9")}  # FFmpeg's mov muxer lists these, then refuses them in the header ("only in MP4")


@lru_cache
def codecs_in(suffix: str) -> tuple[str, ...]:
    """Lists the codecs, of those that we encode, that this container holds. Asks FFmpeg's muxer without writing a file."""
    name = MUXER_NAMES.get(suffix, suffix.removeprefix("."))
    with av.open(io.BytesIO(), "w", format=name) as container:
        listed = container.supported_codecs
    return tuple(codec for codec in ENCODERS if codec in listed and codec not in LISTED_BUT_REFUSED.get(suffix, ()))


def check_tracks(source: Path, output: Path, info: StreamInfo, time_range: TimeRange, sound: bool) -> None:
    """Muxes the first packet of each sound and subtitle track in memory. Raises OutputError if the container refuses them."""
    suffix = output.suffix.lower()
    if suffix == GIF:
        return
    try:
        with (
            SideStreams(source, info.start, time_range, suffix, sound) as side_streams,
            av.open(io.BytesIO(), "w", format=MUXER_NAMES.get(suffix, suffix.removeprefix("."))) as out,
        ):
            side_streams.add_to(out, None, info.time_base)
            if out.streams:
                out.start_encoding()
                for packet in side_streams.first_packets():
                    out.mux(packet)
    except (av.FFmpegError, ValueError) as error:
        hint = "; if it is the sound, --no-audio leaves it out" if sound else ""
        raise OutputError(f"{output}: {suffix} cannot hold the tracks of {source} ({reason(error)}){hint}") from error


def output_encoding(output: Path, options: ConvertOptions, has_alpha: bool = False) -> Encoding:
    """Returns the encoding of a video with this name. A GIF is assembled from frames that were encoded without loss.

    has_alpha: of the source.

    Raises OutputError if the suffix is unknown or the container cannot hold the codec or its pixel format; ConfigError for an
    unknown codec, and for an option that a GIF does not have.
    """
    suffix = output.suffix.lower()
    if suffix == GIF:
        for name in ("codec", "crf", "preset", "pix_fmt"):
            if getattr(options, name) is not None:
                raise ConfigError(f"{output}: a GIF has no {name}; leave out --{name.replace('_', '-')}")
        if has_alpha:
            return Encoding("ffv1", pix_fmt="yuva444p")
        return Encoding("h264", crf=0, preset="ultrafast", pix_fmt="yuv444p")
    if suffix in FORMATS:
        names = ", ".join([*CONTAINERS, GIF])
        raise OutputError(
            f"{output}: the source is a video, which does not become an image; expected an output that ends in {names}"
        )
    if suffix not in CONTAINERS:
        raise OutputError(f"{output}: no container of that name; there are: {', '.join([*CONTAINERS, GIF])}")
    codec = options.codec or CONTAINERS[suffix]
    if codec not in ENCODERS:
        raise ConfigError(f"no codec named {codec!r}; there are: {', '.join(ENCODERS)}")
    _check_container(output, suffix, codec)
    if (codec, options.pix_fmt) in UNREADABLE:
        raise OutputError(f"{output}: {codec} with {options.pix_fmt} pixels cannot be stored; use --pix-fmt yuv444p or yuv420p")
    encoding = Encoding(codec, options.crf, options.preset, options.pix_fmt)
    if encoding.keeps_alpha and not holds_alpha(codec, suffix):
        others = " and ".join(f"{name} in {' and '.join(suffixes)}" for name, suffixes in ALPHA_CONTAINERS.items())
        raise OutputError(f"{output}: {codec} in {suffix} cannot hold the transparency of {options.pix_fmt}; {others} can")
    return encoding


def _check_container(output: Path, suffix: str, codec: str) -> None:
    held = codecs_in(suffix)
    if codec in held:
        return
    others = " or ".join(other for other in CONTAINERS if codec in codecs_in(other))
    advice = f"use --codec {CONTAINERS[suffix]}, or an output that ends in {others}"
    raise OutputError(f"{output}: {suffix} cannot hold {codec}, it holds {', '.join(held)}; {advice}")
