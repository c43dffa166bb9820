"""Truncated, damaged and concatenated files: every frame that can be decoded is read, and the damage is reported."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from benchmarks.mutated import BUG, check_conversion, draw_case
from cyclecast.errors import InputError
from cyclecast.phrases import count_noun
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files import decoding, reader
from cyclecast.video.files.decoding import LARGEST, can_seek, missing_bytes
from cyclecast.video.files.flag_check import FlagCheck
from cyclecast.video.files.images import write_image
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.files.time_range import ResumePoint, TimeRange
from cyclecast.video.frame import Image
from tests.commands import run_program
from tests.conftest import Same, moving_frames, shared
from tests.video.clips import read_frames

FRAMES = 60
X264 = {"preset": "ultrafast", "g": "12", "bf": "2"}
OPEN_H264 = {"preset": "ultrafast", "x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"}
OPEN_HEVC = {"preset": "ultrafast", "x265-params": "log-level=error:open-gop=1:keyint=12:min-keyint=12:bframes=4:scenecut=0"}
MPEG2 = {"g": "12", "bf": "2"}
ENCODINGS: dict[str, tuple[str, dict[str, str]]] = {  # file -> codec, options
    "b.mp4": ("libx264", X264),
    "open.mp4": ("libx264", OPEN_H264),
    "open.mkv": ("libx264", OPEN_H264),
    "open.ts": ("libx264", OPEN_H264),
    "b.flv": ("libx264", X264),
    "b.avi": ("libx264", X264),
    "refreshed.mp4": ("libx264", {"preset": "ultrafast", "x264-params": "intra-refresh=1:keyint=12"}),
    "raw.h264": ("libx264", X264),
    "hevc.ts": ("libx265", OPEN_HEVC),
    "hevc.mp4": ("libx265", OPEN_HEVC),
    "mpeg2.ts": ("mpeg2video", MPEG2),
    "mpeg2.mpg": ("mpeg2video", MPEG2),
    "mpeg4.avi": ("mpeg4", MPEG2),
    "mpeg4.mkv": ("mpeg4", MPEG2),
    "wmv2.wmv": ("wmv2", {"g": "12"}),
    "flv1.flv": ("flv1", {"g": "12"}),
    "vp8.webm": ("libvpx", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "8"}),
    "vp9.webm": ("libvpx-vp9", {"g": "12", "lag-in-frames": "8", "cpu-used": "8"}),
    "vp9.ivf": ("libvpx-vp9", {"g": "12", "cpu-used": "8"}),
    "gif.gif": ("gif", {}),
}
FrameHashes = list[tuple[int, int, str]]  # pts, duration and MD5 of each image


def encode_video(
    path: Path,
    codec: str,
    options: dict[str, str],
    start: int = 0,
    images: list[Image] | None = None,
    container: str | None = None,
    **muxer: str,
) -> Path:
    """Writes a video at 25 frames per second, `FRAMES` long unless images are given. start: first timestamp, in frames."""
    images = images or moving_frames(FRAMES, 96, 64)
    writer: Any = av.open(str(path), "w", format=container, options=muxer)
    with writer as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 25)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = start + index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """videos(name): the path of that video of `ENCODINGS`."""
    folder = tmp_path_factory.mktemp("videos")

    def video(name: str) -> Path:
        path = folder / name
        return path if path.exists() else encode_video(path, *ENCODINGS[name])

    return video


def read_hashes(
    path: Path, point: ResumePoint | None = None, time_range: TimeRange | None = None
) -> tuple[FrameHashes, list[bool], str | None]:
    """The frames from `point` on, `VideoFile.sequential` at each, and the damage."""
    frames: FrameHashes = []
    sequential = []
    with VideoFile(path, time_range) as video:
        if point:
            video.resume_at(point)
        for frame in video:
            frames.append((frame.pts, frame.duration, hashlib.md5(frame.image.tobytes()).hexdigest()))
            sequential.append(video.sequential)
        return frames, sequential, video.damage


def read_and_check_resuming(path: Path, time_range: TimeRange | None = None) -> FrameHashes:
    """All frames. Asserts that resuming at several points gives the remaining frames and the same damage."""
    whole, sequential, damage = read_hashes(path, time_range=time_range)
    for count in {1, 2, len(whole) // 3, len(whole) // 2, len(whole) - 1, len(whole)}:
        point = ResumePoint(count, whole[count - 1][0], sequential[count - 1])
        rest, _, found = read_hashes(path, point, time_range)
        assert rest == whole[count:] and found == damage, f"{path.name} from {point}"
    return whole


def set_thread_count(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Decodes with as many threads as on a machine with this many cores."""

    def main_stream(container: Any, path: Path) -> av.VideoStream:
        stream = decoding.main_stream(container, path)
        stream.codec_context.thread_count = count
        return stream

    monkeypatch.setattr(reader, "main_stream", main_stream)


def damage_packets(path: Path, out: Path, packets: list[int], zero: bool = True) -> Path:
    """Copies a video with the bytes of these packets zeroed, or else every seventh byte of their second halves changed."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        positions = [(packet.pos or 0, packet.size) for packet in container.demux(video=0) if packet.size]
    for number in packets:
        position, size = positions[number]
        if zero:
            data[position : position + size] = bytes(size)
        else:
            changed = slice(position + size // 2, position + size, 7)
            data[changed] = b"\xaa" * len(data[changed])
    out.write_bytes(data)
    return out


def truncate(path: Path, out: Path) -> Path:
    """Copies the first two thirds of the file."""
    out.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return out


@pytest.mark.parametrize("name", list(ENCODINGS))
def test_a_video_resumes_at_any_point_with_the_same_frames(videos: Callable[[str], Path], name: str) -> None:
    frames = read_and_check_resuming(videos(name))
    assert len(frames) == FRAMES and read_hashes(videos(name))[2] is None


@pytest.mark.parametrize(
    ("name", "start"), [("late.ts", 50_000 * 25), ("late.mkv", 500 * 25), ("half.mp4", 13), ("early.ts", -13)]
)
def test_a_video_whose_timestamps_do_not_start_at_0_resumes(tmp_path: Path, name: str, start: int) -> None:
    frames = read_and_check_resuming(encode_video(tmp_path / name, "libx264", X264, start, avoid_negative_ts="disabled"))
    assert len(frames) == FRAMES
    assert (frames[0][0] > 0) == (name == "half.mp4")


@pytest.mark.parametrize("name", ["open.mp4", "open.ts", "hevc.mp4", "mpeg2.ts", "vp9.webm", "b.avi"])
def test_a_time_range_holds_the_frames_of_that_time(videos: Callable[[str], Path], name: str) -> None:
    with VideoFile(videos(name)) as video:
        tick = video.info.time_base
    time_range = TimeRange(Fraction(22, 25), Fraction(20, 25))
    whole = read_hashes(videos(name))[0]
    expected = [frame for frame in whole if time_range.start <= frame[0] * tick < Fraction(42, 25)]
    part = read_and_check_resuming(videos(name), time_range)
    assert [frame[2] for frame in part] == [frame[2] for frame in expected] and len(part) == 20


def test_frames_without_timestamps_get_a_constant_rate(videos: Callable[[str], Path]) -> None:
    pts = [frame[0] for frame in read_hashes(videos("b.avi"))[0]]
    assert [after - before for before, after in zip(pts, pts[1:], strict=False)] == [1] * (FRAMES - 1)
    images = [image.astype(np.float32) for image in read_frames(videos("b.avi"))]
    for image, expected in zip(images, moving_frames(FRAMES, 96, 64), strict=True):
        assert np.abs(image - expected).mean() < 12


def test_frames_that_an_edit_list_hides_are_not_damage(videos: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("b.mp4", "hevc.mp4"):
        trimmed = tmp_path / name
        muxer = {"avoid_negative_ts": "disabled"}
        with av.open(str(videos(name))) as source, av.open(str(trimmed), "w", options=muxer) as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None and packet.pts is not None and packet.time_base is not None:
                    shift = round(Fraction(20, 25) / packet.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                    out.mux(packet)
        frames = read_and_check_resuming(trimmed)
        assert len(frames) == FRAMES - 20 and read_hashes(trimmed)[2] is None


@pytest.mark.parametrize("cores", [1, 16])
@pytest.mark.parametrize("name", ["b.mp4", "hevc.mp4", "mpeg4.avi"])
def test_every_damaged_packet_is_counted(
    videos: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, cores: int
) -> None:
    set_thread_count(monkeypatch, cores)
    for packets in ([FRAMES - 1], [FRAMES // 2], [FRAMES - 9, FRAMES - 8]):
        source = damage_packets(videos(name), tmp_path / name, packets)
        frames, _, damage = read_hashes(source)
        assert damage == f"damaged: {count_noun(len(packets), 'packet')} cannot be decoded"
        assert FRAMES - 12 <= len(frames) <= FRAMES - len(packets)
        pts = [frame[0] for frame in frames]
        assert pts == sorted(set(pts))
        read_and_check_resuming(source)


def test_a_video_with_a_damaged_start_starts_later_or_is_an_error(videos: Callable[[str], Path], tmp_path: Path) -> None:
    frames, _, damage = read_hashes(damage_packets(videos("mpeg2.ts"), tmp_path / "damaged.ts", [0, 1]))
    assert 0 < len(frames) < FRAMES - 1 and damage is None  # it looks like a recording that starts there
    with pytest.raises(InputError, match=r"damaged\.mp4: no frame of it can be decoded"):
        VideoFile(damage_packets(videos("b.mp4"), tmp_path / "damaged.mp4", list(range(FRAMES))))


def test_concealed_and_lost_frames_are_reported(videos: Callable[[str], Path], tmp_path: Path) -> None:
    assert read_hashes(damage_packets(videos("b.mp4"), tmp_path / "b.mp4", [12], zero=False))[2] == "damaged: 1 frame is damaged"
    assert read_hashes(damage_packets(videos("open.ts"), tmp_path / "open.ts", [FRAMES // 2]))[2] == "damaged: 1 frame is lost"


@pytest.mark.parametrize("name", ["b.mp4", "open.mkv", "open.ts", "b.avi", "raw.h264"])
def test_a_flag_is_confirmed_by_decoding_on_one_thread(
    videos: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("cyclecast.video.files.flag_check.RUN_UP_S", Fraction(1, 2))  # so that it seeks in a video of 2.4 s
    sources = [videos(name), damage_packets(videos(name), tmp_path / name, [12], zero=False)]
    for source, is_damaged in zip(sources, (False, True), strict=True):
        with av.open(str(source)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            frames = [(frame.pts, frame.is_corrupt) for frame in container.decode(video=0)]
            is_seekable = can_seek(container, container.streams.video[0])
            time_base = container.streams.video[0].time_base
        # In a transport stream, the changed bytes are headers of the container, too: its frame is lost.
        assert time_base is not None and any(flag for _, flag in frames) == (is_damaged and name != "open.ts")
        flag_check = FlagCheck(source, time_base)
        for number, (pts, flag) in enumerate(frames, 1):
            if flag or number % 7 == 0:
                assert flag_check.is_damaged(number, pts if is_seekable else None) == flag


@pytest.mark.parametrize("cores", [2, 4])
def test_intact_field_pictures_are_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    set_thread_count(monkeypatch, cores)
    source = shared("faults/footage/FRExt2_Panasonic.avc")
    frames, _, damage = read_hashes(source)
    assert len(frames) == 15 and damage is None
    data = bytearray(source.read_bytes())
    data[100_000:100_400] = bytes(400)
    (tmp_path / "torn.avc").write_bytes(data)
    damage = read_hashes(tmp_path / "torn.avc")[2]
    assert damage is not None and "damaged" in damage.removeprefix("damaged: ")


@pytest.mark.parametrize("name", ["b.mp4", "open.mkv", "b.avi", "vp8.webm", "vp9.ivf", "mpeg4.mkv"])
def test_a_truncated_file_is_reported_as_damaged(videos: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    if name == "b.mp4":
        encode_video(tmp_path / "front.mp4", *ENCODINGS[name], movflags="+faststart")
        truncate(tmp_path / "front.mp4", source)
    else:
        truncate(videos(name), source)
    frames, _, damage = read_hashes(source)
    assert 0 < len(frames) < FRAMES
    assert damage is not None and damage.startswith("damaged: ")
    report = convert_file(source, tmp_path / "out.mp4", Same(), ConvertOptions(preset="ultrafast"))
    assert report.frames == len(frames) and report.damage == damage
    assert missing_bytes(videos(name)) == 0


@pytest.mark.parametrize(("name", "container"), [("two.h264", "h264"), ("two.ts", "mpegts")])
def test_frames_of_another_size_are_resized_to_the_first(tmp_path: Path, name: str, container: str) -> None:
    data = b""
    for number, size in enumerate([(96, 64), (128, 96)]):
        part = encode_video(
            tmp_path / "part", "libx264", X264 | {"bf": "0"}, FRAMES * number, moving_frames(FRAMES, *size), container
        )
        data += part.read_bytes()
    (tmp_path / name).write_bytes(data)
    with VideoFile(tmp_path / name) as video:
        assert {frame.image.shape for frame in video} == {(64, 96, 3)}
        assert video.notices == ["frames that are not of the first one's size, such as 128x96, were resized"]
        assert video.damage is None
    assert len(read_and_check_resuming(tmp_path / name)) == 2 * FRAMES


def test_impossible_sizes_and_unknown_codecs_are_an_error(videos: Callable[[str], Path], tmp_path: Path) -> None:
    data = bytearray(videos("gif.gif").read_bytes())
    data[6:10] = b"\xff\xff\xff\xff"
    (tmp_path / "huge.gif").write_bytes(data)
    with pytest.raises(InputError, match=rf"huge\.gif: (says that .* more than {LARGEST} pixels|no frame of it can be decoded)"):
        VideoFile(tmp_path / "huge.gif")
    (tmp_path / "new.mp4").write_bytes(videos("b.mp4").read_bytes().replace(b"avc1", b"zzz1"))
    with pytest.raises(InputError, match=r"new\.mp4: the codec of its video is unknown here"):
        VideoFile(tmp_path / "new.mp4")


@pytest.mark.parametrize(("degrees", "size"), [(0, (568, 320)), (90, (320, 568)), (180, (568, 320))])
def test_a_rotated_video_has_the_size_of_its_frames(degrees: int, size: tuple[int, int]) -> None:
    with VideoFile(shared(f"media/clips/video_{degrees}.mov")) as video:
        assert (video.info.width, video.info.height) == size
        assert {frame.image.shape[1::-1] for frame in video} == {size} and video.notices == []


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path: Path) -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("memory is read from /proc")
    few = moving_frames(10, 160, 120)
    source = encode_video(tmp_path / "long.mkv", "libx264", X264, images=few * 100)
    pages = []
    with VideoFile(source) as video:
        for number, _ in enumerate(video):
            if number in (300, 999):
                pages.append(int(statm.read_text().split()[1]))
    assert (pages[1] - pages[0]) * 4096 < 10e6  # the frames between them are 40 MB as BGR


def test_randomly_damaged_files_are_converted_or_an_error_in_one_line(videos: Callable[[str], Path], tmp_path: Path) -> None:
    intact = [videos(name) for name in ("b.mp4", "open.mkv", "open.ts", "vp8.webm", "mpeg4.avi", "gif.gif")]
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        intact.append(tmp_path / f"image{suffix}")
        write_image(intact[-1], moving_frames(1, 160, 120)[0])
    verdicts = []
    for number in range(40):
        mutation = draw_case(intact, 0, number)
        source, folder = tmp_path / mutation.name, tmp_path / f"out-{number}"
        folder.mkdir()
        source.write_bytes(mutation.data)
        verdict, message = check_conversion(source, folder / f"out{mutation.output}")
        assert verdict != BUG, f"{mutation.options} ({mutation.mutation}): {message}"
        verdicts.append(verdict)
    assert len(set(verdicts)) == 3


def test_a_batch_reports_each_broken_file_in_one_line_and_converts_the_rest(clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    broken, folder, out = shared("media/broken"), tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for path in broken.iterdir():
        shutil.copyfile(path, folder / (f"{path.stem}.mkv" if path.suffix == ".wav" else path.name))
    shutil.copyfile(clip, folder / "good.mp4")
    (folder / "text.mp4").write_text("no video\n")
    (folder / "short.jpg").write_bytes((broken / "hopper.jpg").read_bytes()[:-500])
    damage_packets(clip, folder / "damaged.mp4", [5])
    done = run_program("convert", folder, out, "--model", tiny_model, "--json")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    messages = {Path(file["source"]).name: file.get("error") or file["damage"] for file in json.loads(done.stdout)["files"]}
    rejected = {"audio_only.mkv", "badrle.bmp", "badwidth.bmp", "broken.png", "broken_data_stream.png", "shortfile.bmp"}
    rejected |= {"text.mp4", "truncated_image.png"}
    whole, damaged = {"good.mp4", "hopper.jpg", "pil_sample_cmyk.jpg", "truncated_jpeg.jpg"}, {"damaged.mp4", "short.jpg"}
    # truncated_jpeg.jpg lacks only half of its end marker
    assert {name for name, message in messages.items() if message} == rejected | damaged
    for name in rejected | damaged:  # a library may print its own line before it
        assert done.stderr.count(f"error: {folder / name}: ") == 1
    written = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert written == whole | damaged


def test_keep_going_exits_with_0_where_damaged_frames_were_skipped(clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    source = damage_packets(clip, tmp_path / "damaged.mp4", [5])
    for options, code in (([], 1), (["--keep-going", "--overwrite"], 0)):
        done = run_program("convert", source, tmp_path / "out.mp4", "--model", tiny_model, *options)
        assert done.returncode == code, done.stderr
        assert "damaged.mp4: damaged: 1 packet cannot be decoded; what can be decoded is in" in done.stderr
        assert (tmp_path / "out.mp4").exists()
