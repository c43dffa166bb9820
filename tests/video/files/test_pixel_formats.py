"""Depth and color resolution of the source are kept where the encoder has them; what is lost is reported."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from cyclecast.video.files.encoders import ENCODERS, ChosenEncoder
from cyclecast.video.files.pixel_formats import chroma_pixels, closest_pix_fmt, depth, describe_change
from tests.conftest import moving_frames, shared
from tests.video.clips import convert, psnr, read_frames

TEN = "its 10 bits became 8 for the model; the output has 10"


def encode(path: Path, pix_fmt: str, codec: str = "ffv1") -> Path:
    """Encodes five frames in this pixel format, without loss."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for index, image in enumerate(moving_frames(5)):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "expected", "notices"),
    [
        ("yuv420p", "h264", "yuv420p", []),
        ("yuv422p", "h264", "yuv422p", []),
        ("yuv444p", "hevc", "yuv444p", []),
        ("yuv420p10le", "h264", "yuv420p10le", [TEN]),
        ("yuv422p10le", "h264", "yuv422p10le", [TEN]),
        ("yuv444p10le", "hevc", "yuv444p10le", [TEN]),
        ("yuv422p12le", "hevc", "yuv422p12le", ["its 12 bits became 8 for the model; the output has 12"]),
        ("yuv420p12le", "h264", "yuv420p10le", ["its 12 bits became 8 for the model; the output has 10"]),
        ("yuv420p10le", "av1", "yuv420p10le", [TEN]),
        ("yuv422p", "av1", "yuv420p", ["its colors have a lower resolution: yuv422p became yuv420p"]),
        ("yuv444p10le", "av1", "yuv420p10le", [f"{TEN}; its colors have a lower resolution: yuv444p10le became yuv420p10le"]),
        ("gray", "h264", "yuv420p", []),
        ("gray10le", "h264", "yuv420p10le", [TEN]),
        ("bgr0", "h264", "yuv420p", ["its colors have a lower resolution: bgr0 became yuv420p"]),
    ],
)
def test_the_output_keeps_the_pixel_format_or_says_what_became_of_it(
    tmp_path: Path, pix_fmt: str, codec: str, expected: str, notices: list[str]
) -> None:
    source, out = encode(tmp_path / "in.mkv", pix_fmt), tmp_path / "out.mp4"
    report = convert(source, out, codec=codec, crf=4, **({"preset": "12"} if codec == "av1" else {}))
    assert report.notices == notices
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == expected
    assert psnr(read_frames(out), read_frames(source)) > 38


@pytest.mark.parametrize("codec", ENCODERS)
def test_every_pixel_format_has_a_closest_one(codec: str) -> None:
    encoder = ChosenEncoder(codec, ENCODERS[codec].name)
    listed = encoder.accepted_formats()
    for name in sorted(av.video.format.names):  # type: ignore[attr-defined]
        form = av.VideoFormat(name)
        if form.components and not form.is_bit_stream and "bayer" not in name:
            closest = closest_pix_fmt(encoder, name)
            assert closest in listed and encoder.pix_fmt(closest) == closest
            lost = depth(name) > 8 or chroma_pixels(name) < chroma_pixels(closest)
            assert (describe_change(name, closest) is not None) == lost, name


def test_the_chosen_pixel_format_wins(tmp_path: Path) -> None:
    source = encode(tmp_path / "in.mkv", "yuv422p10le")
    assert convert(source, tmp_path / "out.mp4", pix_fmt="yuv420p").notices == []
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


@pytest.mark.parametrize(("name", "expected"), [("h265_10bits.mp4", "yuv420p10le"), ("cockatoo.mp4", "yuv444p")])
def test_real_clips_keep_their_pixel_format(tmp_path: Path, name: str, expected: str) -> None:
    convert(shared(f"media/clips/{name}"), tmp_path / "out.mp4", duration=Fraction(1, 2))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == expected
