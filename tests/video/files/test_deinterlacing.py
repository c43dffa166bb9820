"""Interlaced frames are found by the decoder's flags and become progressive, at their own times and in their field order."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.filter import Graph

from cyclecast.errors import ConfigError
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files.deinterlacing import NOTICE, Deinterlacer
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.files.time_range import ResumePoint, TimeRange
from cyclecast.video.frame import Image
from tests.conftest import moving_frames, shared
from tests.video.clips import convert, frame_times, psnr, read_frames

FRAMES = 30
WIDTH, HEIGHT = 96, 64
X264 = {"preset": "ultrafast", "crf": "10", "g": "12", "bf": "2"}
MPEG2 = {"flags": "+ilme+ildct", "b": "4000000", "g": "12"}
KINDS: dict[str, tuple[str, str, dict[str, str], tuple[int, int]]] = {  # file -> codec, first field, options, size
    "pal.ts": ("libx264", "tff", X264 | {"x264-params": "tff=1"}, (WIDTH, HEIGHT)),
    "bottom.mp4": ("libx264", "bff", X264 | {"x264-params": "bff=1"}, (WIDTH, HEIGHT)),
    "dvd.mpg": ("mpeg2video", "tff", MPEG2, (WIDTH, HEIGHT)),
    "ntsc.mkv": ("mpeg2video", "bff", MPEG2, (WIDTH, HEIGHT)),
    "flags.mkv": ("ffv1", "tff", {"level": "3"}, (WIDTH, HEIGHT)),  # stores a flag for each frame
    "camcorder.dv": ("dvvideo", "bff", {}, (720, 576)),
}


def draw_fields(count: int, size: tuple[int, int]) -> list[Image]:
    """Draws smooth images of a moving pattern, 50 a second: two for each frame."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    scale = 64 / size[1]
    return [
        np.repeat((128 + 90 * np.sin((x * scale - 1.5 * n) / 7) * np.cos(y * scale / 11))[..., None], 3, 2).astype(np.uint8)
        for n in range(count)
    ]


def weave(fields: list[Image], first: str) -> list[Image]:
    """Frames whose two fields come from consecutive images."""
    frames = []
    for one, two in zip(fields[::2], fields[1::2], strict=True):
        frame = one.copy()
        frame[1 if first == "tff" else 0 :: 2] = two[1 if first == "tff" else 0 :: 2]
        frames.append(frame)
    return frames


def encode(path: Path, kind: str, images: list[Image], flagged: list[bool] | None = None) -> Path:
    """Writes a video at 25 frames per second. flagged: which frames the encoder stores as interlaced; None: all."""
    codec, first, options, (width, height) = KINDS[kind]
    graphs = {field: _set_field(width, height, field) for field in (first, "prog")}
    writer: Any = av.open(str(path), "w")
    with writer as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 25)
        for index, image in enumerate(images):
            graph = graphs[first if flagged is None or flagged[index] else "prog"]
            graph.push(av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv420p"))
            frame: Any = graph.pull()
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _set_field(width: int, height: int, mode: str) -> Graph:
    """Builds a graph that marks frames as interlaced (tff, bff) or progressive (prog), as a camera does."""
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("yuv420p"), time_base=Fraction(1, 25))
    setfield, sink = graph.add("setfield", f"mode={mode}"), graph.add("buffersink")
    source.link_to(setfield)
    setfield.link_to(sink)
    graph.configure()
    return graph


def make(folder: Path, kind: str, frames: int = FRAMES) -> tuple[Path, list[Image]]:
    """Writes an interlaced video. Returns it, and the images that its fields were taken from."""
    _, first, _, size = KINDS[kind]
    fields = draw_fields(2 * frames, size)
    return encode(folder / kind, kind, weave(fields, first)), fields


def hashes(path: Path, point: ResumePoint | None = None, time_range: TimeRange | None = None) -> list[tuple[int, str]]:
    """Returns (pts, MD5) of each frame after `point`."""
    with VideoFile(path, time_range) as video:
        if point:
            video.resume_at(point)
        return [(frame.pts, hashlib.md5(frame.image.tobytes()).hexdigest()) for frame in video]


@pytest.mark.parametrize("kind", KINDS)
def test_each_frame_shows_the_moment_of_its_first_field(kind: str, tmp_path: Path) -> None:
    source, fields = make(tmp_path, kind, 8 if kind.endswith("dv") else FRAMES)
    report = convert(source, tmp_path / "out.mp4", crf=10)
    assert report.notices == [NOTICE] and report.frames == len(fields) // 2
    images = read_frames(tmp_path / "out.mp4")
    first, second = psnr(images[1:-1], fields[2:-2:2]), psnr(images[1:-1], fields[3:-2:2])
    assert first > 32 and first > second + 3
    combed = psnr(images[1:-1], weave(fields, KINDS[kind][1])[1:-1])
    assert first > combed + 3
    times = frame_times(tmp_path / "out.mp4")
    assert [time - times[0] for time in times] == [Fraction(n, 25) for n in range(len(images))]


def test_off_keeps_the_fields(tmp_path: Path) -> None:
    source, fields = make(tmp_path, "pal.ts")
    report = convert(source, tmp_path / "out.mp4", crf=10, deinterlace="off")
    assert report.notices == []
    assert psnr(read_frames(tmp_path / "out.mp4"), weave(fields, "tff")) > 35
    with pytest.raises(ConfigError, match="deinterlace must be auto or off, got 'on'"):
        ConvertOptions(deinterlace="on")


def test_paff(tmp_path: Path) -> None:
    source = shared("faults/footage/FRExt2_Panasonic.avc")
    report = convert(source, tmp_path / "out.mp4")
    assert report.notices == [NOTICE] and report.frames == 15


@pytest.mark.parametrize("kind", ["pal.ts", "bottom.mp4", "ntsc.mkv"])
def test_resuming_gives_the_same_frames(kind: str, tmp_path: Path) -> None:
    path, _ = make(tmp_path, kind)
    for time_range in (None, TimeRange(Fraction(1, 2))):
        whole = hashes(path, None, time_range)
        for count in (1, 2, 11, 12, 13, len(whole) - 1):
            assert hashes(path, ResumePoint(count, whole[count - 1][0], True), time_range) == whole[count:]


def test_the_frames_of_a_part_do_not_depend_on_where_decoding_began(tmp_path: Path) -> None:
    path, _ = make(tmp_path, "ntsc.mkv")  # a key frame at 0.48 s
    with VideoFile(path, TimeRange(Fraction(12, 25))) as video:
        assert next(iter(video)).image.tobytes() == read_frames(path)[12].tobytes()


def test_progressive_frames_stay_as_they_are(tmp_path: Path) -> None:
    images = moving_frames(FRAMES, WIDTH, HEIGHT)
    path = encode(tmp_path / "flags.mkv", "flags.mkv", images, [False] * FRAMES)
    with VideoFile(path) as video, VideoFile(path, deinterlace=False) as plain:
        assert [frame.image.tobytes() for frame in video] == [frame.image.tobytes() for frame in plain]
        assert video.notices == []


def test_one_flag_is_not_believed(tmp_path: Path) -> None:
    images = moving_frames(FRAMES, WIDTH, HEIGHT)
    path = encode(tmp_path / "flags.mkv", "flags.mkv", images, [n in (9, 20) for n in range(FRAMES)])
    with VideoFile(path) as video, VideoFile(path, deinterlace=False) as plain:
        assert [frame.image.tobytes() for frame in video] == [frame.image.tobytes() for frame in plain]
        assert video.notices == [] and video.sequential


def test_a_part_that_is_interlaced(tmp_path: Path) -> None:
    fields = draw_fields(2 * FRAMES, (WIDTH, HEIGHT))
    frames = fields[:20:2] + weave(fields[20:40], "tff") + fields[40::2]
    path = encode(tmp_path / "flags.mkv", "flags.mkv", frames, [10 <= n < 20 for n in range(FRAMES)])
    with VideoFile(path) as video, VideoFile(path, deinterlace=False) as plain:
        images, kept = [frame.image for frame in video], [frame.image for frame in plain]
        assert video.notices == [NOTICE] and not video.sequential
    is_same = [one.tobytes() == other.tobytes() for one, other in zip(images, kept, strict=True)]
    assert is_same == [not 10 <= n < 20 for n in range(FRAMES)]
    assert psnr(images[11:19], fields[22:38:2]) > psnr(kept[11:19], fields[22:38:2]) + 3


def test_frames_without_times_and_of_two_sizes() -> None:
    graphs = [_set_field(width, 48, "tff") for width in (64, 96)]
    frames = []
    for graph in graphs:
        for _ in range(3):
            graph.push(av.VideoFrame(64 if graph is graphs[0] else 96, 48, "yuv420p"))
            frame = graph.pull()
            assert isinstance(frame, av.VideoFrame)
            frame.pts, frame.duration = None, 7
            frames.append(frame)
    notices: list[str] = []
    made = list(Deinterlacer(notices.append)(frames))
    assert [(frame.width, frame.pts, frame.duration) for frame in made] == [(64, None, 7)] * 3 + [(96, None, 7)] * 3
    assert notices == [NOTICE]
