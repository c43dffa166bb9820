"""Parts become one film: every picture as it was encoded, at its own time, of its own shape, in every container."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.convert.parts import PART_FRAMES
from cyclecast.video.files.muxer import assemble
from cyclecast.video.files.reader import TimeRange, VideoFile
from cyclecast.video.files.side_streams import SideStreams
from cyclecast.video.files.writer import Encoding, Part, VideoWriter
from cyclecast.video.frame import Color, Frame, Image, StreamInfo
from tests.conftest import Same, moving_pictures
from tests.video.convert.test_convert import pictures, psnr, times
from tests.video.films import Sound, convert, film

PRESETS = {"h264": "veryfast", "hevc": "ultrafast", "av1": "12", "vp9": "8"}
UNEVEN = [40 * n + (0, 9, 3, 17)[n % 4] for n in range(60)]  # ms


def info_of(rate: int = 25, width: int = 64, height: int = 48, **more: Any) -> StreamInfo:
    aspect = more.pop("pixel_aspect", Fraction(1))
    return StreamInfo(width, height, Fraction(rate), Fraction(1, 1000), None, Color(), aspect, **more)


def written(folder: Path, codec: str, at: list[int], info: StreamInfo, sizes: tuple[int, ...] = (25, 20, 15)) -> list[Part]:
    """Parts of so many pictures each, shown at these milliseconds."""
    images = moving_pictures(sum(sizes), info.width, info.height)
    parts: list[Part] = []
    begin = 0
    for number, size in enumerate(sizes):
        encoding = Encoding(codec, preset=PRESETS[codec])
        with VideoWriter(folder / f"{number}.mp4", info, encoding, first=at[begin]) as writer:
            for index in range(begin, begin + size):
                writer.write(Frame(images[index], at[index], 40 if index < sum(sizes) - 1 else 500))
        parts.append(writer.part())
        begin += size
    return parts


def decoded(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]


def join(parts: list[Part], info: StreamInfo, path: Path) -> Path:
    with SideStreams(parts[0].path, Fraction(0), TimeRange(), path.suffix) as side_streams:
        assemble(parts, info, path, side_streams)
    return path


@pytest.mark.parametrize(
    ("codec", "suffixes"),
    [
        ("h264", (".mp4", ".mkv", ".mov")),
        ("hevc", (".mp4", ".mkv", ".mov")),
        ("av1", (".mp4", ".mkv", ".webm")),
        ("vp9", (".mp4", ".mkv", ".webm")),
    ],
)
def test_joined_parts_are_the_pictures_of_each_at_their_times(tmp_path: Path, codec: str, suffixes: tuple[str, ...]) -> None:
    info = info_of()
    parts = written(tmp_path, codec, UNEVEN, info)
    assert codec not in ("h264", "hevc") or max(part.reordered for part in parts) > 0
    expected = [picture for part in parts for picture in decoded(part.path)]
    for suffix in suffixes:
        out = join(parts, info, tmp_path / f"film{suffix}")
        assert times(out) == [Fraction(ms, 1000) for ms in UNEVEN]
        assert decoded(out) == expected
        with av.open(str(out)) as container:
            stream = container.streams.video[0]
            found = [packet for packet in container.demux(stream) if packet.size]
            assert abs(float(container.duration or 0) / 1e6 - (UNEVEN[-1] + 500) / 1000) < 0.02
            assert stream.codec_context.codec_tag == "hvc1" or codec != "hevc" or suffix == ".mkv"
        assert [p.is_keyframe for p in found].count(True) >= 3
        decoding = [p.dts for p in found if p.dts is not None]
        assert decoding == sorted(set(decoding))
        assert all(p.dts is None or p.pts is None or p.dts <= p.pts for p in found)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_time_that_comes_twice_between_parts_moves_on(tmp_path: Path, suffix: str) -> None:
    info, at = info_of(), [0, 40, 80, 80, 80, 160]
    out = join(written(tmp_path, "h264", at, info, (3, 3)), info, tmp_path / f"film{suffix}")
    found = times(out)
    assert len(found) == 6 and found == sorted(found) and found[-1] == Fraction(160, 1000)


def test_a_long_film_is_made_of_parts(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mp4", [Sound()], frames=PART_FRAMES * 2 + 5)
    out = tmp_path / "out.mp4"
    assert convert(source, out, crf=1).frames == PART_FRAMES * 2 + 5
    assert times(out) == times(source)
    assert psnr(pictures(out)[::40], pictures(source)[::40]) > 40


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_pixels_that_are_not_square_and_odd_sizes(tmp_path: Path, suffix: str) -> None:
    info = info_of(width=65, height=47, pixel_aspect=Fraction(16, 11))
    source = join(written(tmp_path, "h264", [0, 40, 80], info, (3,)), info, tmp_path / f"in{suffix}")
    convert(source, tmp_path / f"out{suffix}")
    for path in (source, tmp_path / f"out{suffix}"):
        with VideoFile(path) as video:
            assert (video.info.width, video.info.height, video.info.pixel_aspect) == (66, 48, Fraction(16, 11))


def test_the_shape_of_pixels_is_named_where_it_is_lost(tmp_path: Path) -> None:
    info = info_of(pixel_aspect=Fraction(16, 11))
    source = join(written(tmp_path, "h264", [0, 40, 80], info, (3,)), info, tmp_path / "in.mp4")
    assert convert(source, tmp_path / "out.webm").dropped == ["the shape of its pixels, 16:11"]
    assert convert(source, tmp_path / "out.mp4", codec="vp9", preset="8").dropped == []
    with VideoFile(tmp_path / "out.mp4") as video:
        assert video.info.pixel_aspect == Fraction(16, 11)


@pytest.mark.parametrize("form", ["yuv444p", "yuv420p10le", "yuv422p10le"])
def test_pixel_formats_that_are_asked_for(tmp_path: Path, form: str) -> None:
    source = film(tmp_path / "in.mp4", frames=5)
    for suffix, codec in ((".mp4", "h264"), (".mkv", "hevc")):
        out = tmp_path / f"out{suffix}"
        convert(source, out, pix_fmt=form, codec=codec, crf=4)
        with av.open(str(out)) as container:
            assert container.streams.video[0].codec_context.pix_fmt == form
        assert psnr(pictures(out), pictures(source)) > 40


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_window_begins_with_what_is_shown_then(tmp_path: Path, suffix: str) -> None:
    at = [0, 40, 47, 120, 160, 260, 300]
    info = info_of()
    source = join(written(tmp_path, "h264", at, info, (7,)), info, tmp_path / f"in{suffix}")
    out = tmp_path / f"out{suffix}"
    convert(source, out, start=Fraction(47, 1000), duration=Fraction(213, 1000), crf=1)
    assert times(out) == [Fraction(ms - 47, 1000) for ms in (47, 120, 160)]
    assert psnr(pictures(out), pictures(source)[2:5]) > 40
    convert(source, tmp_path / f"late{suffix}", start=Fraction(100, 1000))
    assert times(tmp_path / f"late{suffix}") == [Fraction(ms - 100, 1000) for ms in (120, 160, 260, 300)]


COLORS = ((200, 30, 60), (20, 180, 90), (40, 60, 220), (250, 250, 250), (5, 5, 5))
DELAYS = (7, 12, 4, 30, 21)  # hundredths of a second


def animation(path: Path, width: int = 33, height: int = 25) -> Path:
    with av.open(str(path), "w", options={"final_delay": str(DELAYS[-1])}) as out:
        stream: Any = out.add_stream("gif", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb8"
        stream.codec_context.time_base = Fraction(1, 100)
        at = 0
        for color, delay in zip(COLORS, DELAYS, strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), color, np.uint8), format="bgr24")
            frame = frame.reformat(format="rgb8")
            frame.pts, frame.time_base = at, Fraction(1, 100)
            out.mux(stream.encode(frame))
            at += delay
        out.mux(stream.encode(None))
    return path


def delays(path: Path) -> list[int]:
    """Of a GIF, in hundredths of a second, from its graphic control blocks."""
    data = path.read_bytes()
    found, place = [], data.find(b"\x21\xf9\x04")
    while place >= 0:
        found.append(data[place + 4] | data[place + 5] << 8)
        place = data.find(b"\x21\xf9\x04", place + 8)
    return found


def flat(path: Path) -> list[Image]:
    with av.open(str(path)) as container:
        return [np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in container.decode(video=0)]


def test_a_gif_stays_one(tmp_path: Path) -> None:
    source = animation(tmp_path / "in.gif")
    report = convert_file(source, tmp_path / "out.gif", Same())
    assert (report.frames, report.width, report.height, report.dropped) == (5, 33, 25, [])
    assert delays(tmp_path / "out.gif") == delays(source) == list(DELAYS)
    assert b"NETSCAPE2.0\x03\x01\x00\x00" in (tmp_path / "out.gif").read_bytes()  # for ever
    for ours, theirs in zip(flat(tmp_path / "out.gif"), flat(source), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours.astype(int), theirs.astype(int), atol=6)


def test_a_film_as_gif_is_silent_and_says_so(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mp4", [Sound()], frames=20)
    report = convert_file(source, tmp_path / "out.gif", Same())
    assert (report.frames, report.audio, report.dropped) == (20, "none", ["sound track 1: .gif cannot hold aac"])
    assert delays(tmp_path / "out.gif") == [4] * 20
    assert psnr(flat(tmp_path / "out.gif"), pictures(source)) > 30


def test_a_gif_of_more_than_fifty_pictures_a_second_has_fewer(tmp_path: Path) -> None:
    info = info_of(rate=100)
    source = join(written(tmp_path, "h264", [10 * n for n in range(10)], info, (10,)), info, tmp_path / "in.mp4")
    report = convert_file(source, tmp_path / "out.gif", Same(), ConvertOptions())
    assert report.dropped == ["5 frames that followed within 0.02 s"]
    assert len(flat(tmp_path / "out.gif")) == 5
