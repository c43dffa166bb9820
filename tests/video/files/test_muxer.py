"""Joined parts keep every encoded frame, its timestamp and the pixel aspect ratio, in every container."""

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
from cyclecast.video.files.encoding import Encoding
from cyclecast.video.files.muxer import assemble
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.files.side_streams import SideStreams
from cyclecast.video.files.time_range import TimeRange
from cyclecast.video.files.writer import Part, VideoWriter
from cyclecast.video.frame import Color, Frame, Image, StreamInfo
from tests.conftest import Same, moving_frames
from tests.video.clips import SoundTrack, convert, frame_times, make_video, psnr, read_frames

PRESETS = {"h264": "veryfast", "hevc": "ultrafast", "av1": "12", "vp9": "8"}
UNEVEN_MS = [40 * n + (0, 9, 3, 17)[n % 4] for n in range(60)]


def stream_info(rate: int = 25, width: int = 64, height: int = 48, **more: Any) -> StreamInfo:
    aspect = more.pop("pixel_aspect", Fraction(1))
    return StreamInfo(width, height, Fraction(rate), Fraction(1, 1000), None, Color(), aspect, **more)


def write_parts(
    folder: Path, codec: str, times_ms: list[int], info: StreamInfo, sizes: tuple[int, ...] = (25, 20, 15)
) -> list[Part]:
    """Writes parts. sizes: frames of each part; times_ms: timestamp of each frame."""
    images = moving_frames(sum(sizes), info.width, info.height)
    parts: list[Part] = []
    start = 0
    for number, size in enumerate(sizes):
        encoding = Encoding(codec, preset=PRESETS[codec])
        with VideoWriter(folder / f"{number}.mp4", info, encoding, first=times_ms[start]) as writer:
            for index in range(start, start + size):
                writer.write(Frame(images[index], times_ms[index], 40 if index < sum(sizes) - 1 else 500))
        parts.append(writer.part())
        start += size
    return parts


def decode_frames(path: Path) -> list[bytes]:
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
def test_joined_parts_keep_frames_and_timestamps(tmp_path: Path, codec: str, suffixes: tuple[str, ...]) -> None:
    info = stream_info()
    parts = write_parts(tmp_path, codec, UNEVEN_MS, info)
    assert codec not in ("h264", "hevc") or max(part.reordered for part in parts) > 0
    expected = [frame for part in parts for frame in decode_frames(part.path)]
    for suffix in suffixes:
        out = join(parts, info, tmp_path / f"out{suffix}")
        assert frame_times(out) == [Fraction(ms, 1000) for ms in UNEVEN_MS]
        assert decode_frames(out) == expected
        with av.open(str(out)) as container:
            stream = container.streams.video[0]
            found = [packet for packet in container.demux(stream) if packet.size]
            assert abs(float(container.duration or 0) / 1e6 - (UNEVEN_MS[-1] + 500) / 1000) < 0.02
            assert stream.codec_context.codec_tag == "hvc1" or codec != "hevc" or suffix == ".mkv"
        assert [p.is_keyframe for p in found].count(True) >= 3
        decoding = [p.dts for p in found if p.dts is not None]
        assert decoding == sorted(set(decoding))
        assert all(p.dts is None or p.pts is None or p.dts <= p.pts for p in found)


@pytest.mark.parametrize("codec", PRESETS)
def test_parts_of_one_or_two_frames_are_written(tmp_path: Path, codec: str) -> None:
    """25 times each: x265 leaves the decoding times of so few frames to chance."""
    for repeat in range(25):
        for sizes in ((1,), (2,), (3, 1), (3, 2)):
            times_ms = UNEVEN_MS[: sum(sizes)]
            folder = tmp_path / f"{repeat}-{sizes}"
            folder.mkdir()
            out = join(write_parts(folder, codec, times_ms, stream_info(), sizes), stream_info(), folder / "out.mp4")
            assert frame_times(out) == [Fraction(ms, 1000) for ms in times_ms]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_repeated_timestamp_between_parts_becomes_the_next_tick(tmp_path: Path, suffix: str) -> None:
    info, times_ms = stream_info(), [0, 40, 80, 80, 80, 160]
    out = join(write_parts(tmp_path, "h264", times_ms, info, (3, 3)), info, tmp_path / f"out{suffix}")
    found = frame_times(out)
    assert len(found) == 6 and found == sorted(found) and found[-1] == Fraction(160, 1000)


def test_a_long_video_is_converted_in_parts(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", [SoundTrack()], frames=PART_FRAMES * 2 + 5)
    out = tmp_path / "out.mp4"
    assert convert(source, out, crf=1).frames == PART_FRAMES * 2 + 5
    assert frame_times(out) == frame_times(source)
    assert psnr(read_frames(out)[::40], read_frames(source)[::40]) > 40


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_odd_sizes_are_padded_and_keep_the_pixel_aspect_ratio(tmp_path: Path, suffix: str) -> None:
    info = stream_info(width=65, height=47, pixel_aspect=Fraction(16, 11))
    source = join(write_parts(tmp_path, "h264", [0, 40, 80], info, (3,)), info, tmp_path / f"in{suffix}")
    convert(source, tmp_path / f"out{suffix}")
    for path in (source, tmp_path / f"out{suffix}"):
        with VideoFile(path) as video:
            assert (video.info.width, video.info.height, video.info.pixel_aspect) == (66, 48, Fraction(16, 11))


def test_a_lost_pixel_aspect_ratio_is_reported(tmp_path: Path) -> None:
    info = stream_info(pixel_aspect=Fraction(16, 11))
    source = join(write_parts(tmp_path, "h264", [0, 40, 80], info, (3,)), info, tmp_path / "in.mp4")
    assert convert(source, tmp_path / "out.webm").dropped == ["the shape of its pixels, 16:11"]
    assert convert(source, tmp_path / "out.mp4", codec="vp9", preset="8").dropped == []
    with VideoFile(tmp_path / "out.mp4") as video:
        assert video.info.pixel_aspect == Fraction(16, 11)


@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv420p10le", "yuv422p10le"])
def test_the_output_has_the_requested_pixel_format(tmp_path: Path, pix_fmt: str) -> None:
    source = make_video(tmp_path / "in.mp4", frames=5)
    for suffix, codec in ((".mp4", "h264"), (".mkv", "hevc")):
        out = tmp_path / f"out{suffix}"
        convert(source, out, pix_fmt=pix_fmt, codec=codec, crf=4)
        with av.open(str(out)) as container:
            assert container.streams.video[0].codec_context.pix_fmt == pix_fmt
        assert psnr(read_frames(out), read_frames(source)) > 40


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_time_range_keeps_its_frames_and_their_timestamps(tmp_path: Path, suffix: str) -> None:
    times_ms = [0, 40, 47, 120, 160, 260, 300]
    info = stream_info()
    source = join(write_parts(tmp_path, "h264", times_ms, info, (7,)), info, tmp_path / f"in{suffix}")
    out = tmp_path / f"out{suffix}"
    convert(source, out, start=Fraction(47, 1000), duration=Fraction(213, 1000), crf=1)
    assert frame_times(out) == [Fraction(ms - 47, 1000) for ms in (47, 120, 160)]
    assert psnr(read_frames(out), read_frames(source)[2:5]) > 40
    convert(source, tmp_path / f"late{suffix}", start=Fraction(100, 1000))
    assert frame_times(tmp_path / f"late{suffix}") == [Fraction(ms - 100, 1000) for ms in (120, 160, 260, 300)]


COLORS = ((200, 30, 60), (20, 180, 90), (40, 60, 220), (250, 250, 250), (5, 5, 5))
DELAYS_CS = (7, 12, 4, 30, 21)  # hundredths of a second


def make_gif(path: Path, width: int = 33, height: int = 25) -> Path:
    with av.open(str(path), "w", options={"final_delay": str(DELAYS_CS[-1])}) as out:
        stream: Any = out.add_stream("gif", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb8"
        stream.codec_context.time_base = Fraction(1, 100)
        pts = 0
        for color, delay in zip(COLORS, DELAYS_CS, strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), color, np.uint8), format="bgr24")
            frame = frame.reformat(format="rgb8")
            frame.pts, frame.time_base = pts, Fraction(1, 100)
            out.mux(stream.encode(frame))
            pts += delay
        out.mux(stream.encode(None))
    return path


def gif_delays(path: Path) -> list[int]:
    """The delays in the graphic control blocks of a GIF, in hundredths of a second."""
    data = path.read_bytes()
    delays, position = [], data.find(b"\x21\xf9\x04")
    while position >= 0:
        delays.append(data[position + 4] | data[position + 5] << 8)
        position = data.find(b"\x21\xf9\x04", position + 8)
    return delays


def read_gif(path: Path) -> list[Image]:
    with av.open(str(path)) as container:
        return [np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in container.decode(video=0)]


def test_a_gif_keeps_its_frames_and_delays(tmp_path: Path) -> None:
    source = make_gif(tmp_path / "in.gif")
    report = convert_file(source, tmp_path / "out.gif", Same())
    assert (report.frames, report.width, report.height, report.dropped) == (5, 33, 25, [])
    assert gif_delays(tmp_path / "out.gif") == gif_delays(source) == list(DELAYS_CS)
    assert b"NETSCAPE2.0\x03\x01\x00\x00" in (tmp_path / "out.gif").read_bytes()  # loops endlessly
    for ours, theirs in zip(read_gif(tmp_path / "out.gif"), read_gif(source), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours.astype(int), theirs.astype(int), atol=6)


def test_a_gif_of_a_video_reports_the_lost_sound(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", [SoundTrack()], frames=20)
    report = convert_file(source, tmp_path / "out.gif", Same())
    assert (report.frames, report.audio, report.dropped) == (20, "none", ["sound track 1: .gif cannot hold aac"])
    assert gif_delays(tmp_path / "out.gif") == [4] * 20
    assert psnr(read_gif(tmp_path / "out.gif"), read_frames(source)) > 30


def test_a_gif_has_at_most_fifty_frames_per_second(tmp_path: Path) -> None:
    info = stream_info(rate=100)
    source = join(write_parts(tmp_path, "h264", [10 * n for n in range(10)], info, (10,)), info, tmp_path / "in.mp4")
    report = convert_file(source, tmp_path / "out.gif", Same(), ConvertOptions())
    assert report.dropped == ["5 frames that followed within 0.02 s"]
    assert len(read_gif(tmp_path / "out.gif")) == 5
