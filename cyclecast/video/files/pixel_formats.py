"""Chooses the output's pixel format: the depth and the resolution of colors of the source, as far as the encoder has them."""

from __future__ import annotations

import av
from av.codec import find_best_pix_fmt_of_list

from cyclecast.video.files.encoders import ChosenEncoder

COMMON = "yuv420p"  # what every player shows
UNREADABLE = {("vp9", "yuv440p")}  # codec, pixel format: FFmpeg writes them into MP4 without an error, and cannot read the file


def closest_pix_fmt(encoder: ChosenEncoder, source: str) -> str:
    """Returns FFmpeg's name of the encoder's pixel format that loses the least of a source in this one.

    RGB and gray become 4:2:0 of the same depth: few players show 4:4:4 and gray video, and a styled frame has colors.
    """
    form = av.VideoFormat(source)
    if form.is_rgb or form.has_palette or len(form.components) < 3:
        source = COMMON if depth(source) == 8 else "yuv420p10le"
    accepted = [name for name in encoder.accepted_formats() if (encoder.codec, name) not in UNREADABLE]
    best, _ = find_best_pix_fmt_of_list(accepted, source.replace("yuvj", "yuv"))
    return COMMON if best is None else best.name


def describe_change(source: str, output: str) -> str | None:
    """Describes what is lost of the source's pixel format, in a phrase; None if nothing is."""
    changes = []
    if depth(source) > 8:
        kept = f"the output has {depth(output)}" if depth(output) > 8 else "the encoder has no more"
        changes.append(f"its {depth(source)} bits became 8 for the model; {kept}")
    if chroma_pixels(source) < chroma_pixels(output):
        changes.append(f"its colors have a lower resolution: {source} became {output}")
    return "; ".join(changes) or None


def depth(name: str) -> int:
    """Bits of a color in this pixel format."""
    return max((component.bits for component in av.VideoFormat(name).components), default=8)


def chroma_pixels(name: str) -> int:
    """Returns over how many pixels a color is averaged: 1 in 4:4:4 and RGB, 2 in 4:2:2, 4 in 4:2:0 and gray."""
    form = av.VideoFormat(name)
    if form.is_rgb or form.has_palette:
        return 1
    if len(form.components) < 3:
        return 4
    size = 64
    return size * size // (form.chroma_width(size) * form.chroma_height(size))
