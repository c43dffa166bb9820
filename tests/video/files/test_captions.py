"""Closed captions inside the picture reach the output frame by frame, or are reported as left out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.sidedata.sidedata import Type

from tests.conftest import moving_frames, shared
from tests.video.clips import convert, psnr, read_frames

FRAMES = 30
START_CODE = b"\0\0\0\1"


def caption(number: int) -> bytes:
    """Builds an SEI unit with two CEA-608 characters (ATSC A/53, part 4, 6.2)."""
    payload = b"\xb5\0\x31GA94\x03" + bytes((0x41, 0xFF, 0xFC, 0x20 + number, 0x41)) + b"\xff"
    return START_CODE + b"\x06\x04" + bytes((len(payload),)) + payload + b"\x80"


def make_captioned(path: Path, **options: str) -> Path:
    """Writes H.264 in which each frame has a caption of its own."""
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 98, 68, "yuv420p", Fraction(1, 25)
    encoder.framerate = 25
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "10"} | options
    data = b""
    for number, image in enumerate(moving_frames(FRAMES, 98, 68)):
        frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv420p")
        frame.pts = number
        data += b"".join(caption(number) + bytes(packet) for packet in encoder.encode(frame))
    path.write_bytes(data)
    return path


def read_captions(path: Path) -> list[bytes]:
    """Reads the captions of each frame in the order of display; empty for a frame without any."""
    with av.open(str(path)) as container:
        frames: list[Any] = list(container.decode(video=0))
        found = [frame.side_data.get(Type.A53_CC) for frame in frames]
    return [bytes(data) if data is not None else b"" for data in found]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("options", [{}, {"x264-params": "tff=1"}])
def test_each_frame_keeps_its_captions(tmp_path: Path, codec: str, options: dict[str, str]) -> None:
    source = make_captioned(tmp_path / "in.h264", **options)
    captions = read_captions(source)
    assert len(set(captions)) == FRAMES and all(captions)
    report = convert(source, tmp_path / "out.mp4", codec=codec, crf=10, deinterlace="off")
    assert report.notices == [] and read_captions(tmp_path / "out.mp4") == captions
    assert psnr(read_frames(tmp_path / "out.mp4"), moving_frames(FRAMES, 98, 68)) > 30


def test_deinterlaced_frames_keep_their_captions(tmp_path: Path) -> None:
    source = make_captioned(tmp_path / "in.h264", **{"x264-params": "tff=1"})
    report = convert(source, tmp_path / "out.mp4")
    assert len(report.notices) == 1 and "deinterlaced" in report.notices[0]
    assert read_captions(tmp_path / "out.mp4") == read_captions(source)


@pytest.mark.parametrize(("name", "codec"), [("out.webm", "vp9"), ("out.gif", ".gif")])
def test_captions_that_cannot_be_held_are_reported(tmp_path: Path, name: str, codec: str) -> None:
    report = convert(make_captioned(tmp_path / "in.h264"), tmp_path / name, preset=None)
    assert report.notices == [f"closed captions were left out: {codec} cannot hold them"]


def test_the_captions_of_the_issue_are_kept(tmp_path: Path) -> None:
    source = shared("faults/footage/cc.ts")
    convert(source, tmp_path / "out.mkv")
    assert read_captions(tmp_path / "out.mkv") == read_captions(source)
