"""A full disk raises an OutputError with a one-line message; read-only frames are processed like others."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cyclecast.errors import OutputError
from cyclecast.video.convert.size_buckets import SizeBuckets
from cyclecast.video.files.encoding import Encoding
from cyclecast.video.files.image_encoding import Still
from cyclecast.video.files.images import write_image, write_still
from cyclecast.video.files.muxer import assemble, assemble_gif
from cyclecast.video.files.side_streams import SideStreams
from cyclecast.video.files.time_range import TimeRange
from cyclecast.video.files.writer import VideoWriter
from cyclecast.video.frame import Color, Frame, Image, StreamInfo
from cyclecast.video.resize import resize_image, style_frame
from tests.conftest import Negative
from tests.video.clips import SoundTrack, make_video

resource = pytest.importorskip("resource")  # not on Windows
INFO = StreamInfo(320, 240, Fraction(25), Fraction(1, 25), None, Color(), Fraction(1))


def noise(number: int, height: int = 240, width: int = 320) -> Image:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Limits the files of this process to `size` bytes. Beyond it, write() raises an OSError as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def write_video(path: Path, frames: int = 12, codec: str = "h264", growing: bool = False) -> VideoWriter:
    preset = {"vp9": "8", "av1": "12"}.get(codec, "ultrafast")
    with VideoWriter(path, INFO, Encoding(codec, preset=preset), growing=growing) as writer:
        for number in range(frames):
            writer.write(Frame(noise(number), number, 1))
    return writer


@pytest.mark.parametrize("size", [0, 1_000, 60_000, 300_000])
@pytest.mark.parametrize(("name", "codec"), [("out.mp4", "h264"), ("out.mkv", "h264"), ("out.mov", "hevc"), ("out.webm", "vp9")])
def test_a_full_disk_while_encoding_is_an_output_error(tmp_path: Path, name: str, codec: str, size: int) -> None:
    with pytest.raises(OutputError, match=r"^[^\n]*\((File too large|No space left on device)\)$"), file_size_limit(size):
        write_video(tmp_path / name, codec=codec)


@pytest.mark.parametrize("frames", [12, 40])  # 12 frames are one fragment of an MP4, 40 are more
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_a_full_disk_while_recording_is_an_output_error(tmp_path: Path, name: str, frames: int) -> None:
    with (
        pytest.raises(OutputError, match=r"^writing failed \(.*(File too large|the disk may be full)\)$"),
        file_size_limit(60_000),
    ):
        write_video(tmp_path / name, frames, growing=True)


@pytest.mark.parametrize("size", [0, 1_000, 60_000, 300_000])
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.gif"])
def test_a_full_disk_while_joining_parts_is_an_output_error(tmp_path: Path, name: str, size: int) -> None:
    part = write_video(tmp_path / "part.mp4").part()
    source = make_video(tmp_path / "in.mkv", [SoundTrack()])
    join = assemble_gif if name.endswith(".gif") else assemble
    line = r"^writing failed \(File too large\)(; if it is the sound, .*)?$"
    with (
        SideStreams(source, Fraction(0), TimeRange(), Path(name).suffix) as side_streams,
        pytest.raises(OutputError, match=line),
        file_size_limit(size),
    ):
        join([part], INFO, tmp_path / name, side_streams)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".webp", ".bmp"])
def test_a_full_disk_while_writing_an_image_is_an_output_error(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(OutputError, match=r"^cannot be written \(File too large\)$"), file_size_limit(1_000):
        write_image(tmp_path / f"out{suffix}", noise(0))


def read_only(image: Image) -> Image:
    """The same pixels in read-only memory, as `np.frombuffer` and `np.asarray(PIL image)` return."""
    frozen = np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape)
    assert not frozen.flags.writeable
    return frozen


@pytest.mark.parametrize("change", [lambda image: image, lambda image: image[:, ::-1], lambda image: image[::2, 1::2]])
def test_read_only_frames_are_encoded_written_and_resized(tmp_path: Path, change: Callable[[Image], Image]) -> None:
    frame = change(read_only(noise(0, 99, 131)))
    height, width = frame.shape[:2]
    info = StreamInfo(width, height, Fraction(25), Fraction(1, 25), None, Color(), Fraction(1))
    with VideoWriter(tmp_path / "out.mp4", info) as writer:
        writer.write(Frame(frame, 0, 1))
    for suffix in (".png", ".jpg", ".tiff", ".webp", ".bmp"):
        write_image(tmp_path / f"image{suffix}", frame)
        write_still(tmp_path / f"still{suffix}", Still(frame, alpha=read_only(noise(1, height, width))[..., 0]))
    assert resize_image(frame, (40, 30)).shape == (30, 40, 3)
    function = Negative()
    assert np.array_equal(style_frame(frame, function), 255 - frame)
    assert style_frame(frame, function, 64).shape == frame.shape
    assert np.array_equal(SizeBuckets(function)(frame), 255 - frame)
