"""Chooses the output's pixel format: the depth and the resolution of colors of the source, as far as the encoder has them."""

from __future__ import annotations

from collections.abc import Sequence

import av
from av.codec import find_best_pix_fmt_of_list

from cyclecast.video.alpha import COMPOSED
from cyclecast.video.files.encoders import FIXED_OPTIONS, ChosenEncoder

COMMON = "yuv420p"  # what every player shows
ALPHA_CONTAINERS = {"vp9": (".webm", ".mkv"), "prores": (".mov", ".mkv"), "ffv1": (".mkv",)}  # codec -> suffixes
UNREADABLE = {("vp9", "yuv440p")}  # codec, pixel format: FFmpeg writes them into MP4 without an error, and cannot read the file


def closest_pix_fmt(encoder: ChosenEncoder, source: str) -> str:
    """Returns FFmpeg's name of the encoder's pixel format that loses the least of a source in this one.

    RGB and gray become 4:2:0 of the same depth: few players show 4:4:4 and gray video, and a styled frame has colors. In ProRes
    and FFV1, which are for further work, they become 4:4:4.
    """
    accepted = [name for name in encoder.accepted_formats() if (encoder.codec, name) not in UNREADABLE]
    return _closest(accepted, source, encoder)


def closest_alpha_pix_fmt(encoder: ChosenEncoder, source: str, suffix: str) -> str | None:
    """Returns what `closest_pix_fmt` does, among formats with alpha; None if the codec has no alpha in this container."""
    accepted = encoder.alpha_formats()
    return _closest(accepted, source, encoder) if accepted and holds_alpha(encoder.codec, suffix) else None


def holds_alpha(codec: str, suffix: str) -> bool:
    """Returns whether players find the alpha of this codec in a container of this suffix."""
    return suffix in ALPHA_CONTAINERS.get(codec, ())


def _closest(accepted: Sequence[str], source: str, encoder: ChosenEncoder) -> str:
    form = av.VideoFormat(source)
    if form.is_rgb or form.has_palette or len(form.components) < 3:
        sampling = "444" if encoder.codec in FIXED_OPTIONS else "420"
        source = f"yuv{sampling}p{'' if depth(source) == 8 else '10le'}"
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


def describe_lost_alpha(codec: str, suffix: str) -> str:
    """Describes that transparent pixels are composed on black, why, and what to type to keep them."""
    if holds_alpha(codec, suffix):
        return f"{COMPOSED}: this encoder or pixel format has no alpha; without --encoder and --pix-fmt it is kept"
    advice = "an output that ends in .webm, or in .mov with --codec prores, keeps the transparency"
    return f"{COMPOSED}: {codec} in {suffix} has no alpha; {advice}"


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
