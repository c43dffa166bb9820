"""Files as they come: cut short, torn, strung together, of every container. What can be decoded is, the rest is named."""

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

from benchmarks.mutated import BUG, case, check_conversion
from cyclecast.errors import InputError
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files import decoding
from cyclecast.video.files import reader as file
from cyclecast.video.files.decoding import LARGEST, missing_bytes
from cyclecast.video.files.images import write_image
from cyclecast.video.files.reader import ResumePoint, TimeRange, VideoFile
from cyclecast.video.frame import Image
from tests.commands import run_program
from tests.conftest import Same, moving_pictures, shared

FRAMES = 60
X264 = {"preset": "ultrafast", "g": "12", "bf": "2"}
OPEN_H264 = {"preset": "ultrafast", "x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"}
OPEN_HEVC = {"preset": "ultrafast", "x265-params": "log-level=error:open-gop=1:keyint=12:min-keyint=12:bframes=4:scenecut=0"}
MPEG2 = {"g": "12", "bf": "2"}
KINDS: dict[str, tuple[str, dict[str, str]]] = {  # file -> codec, options
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
Seen = list[tuple[int, int, str]]  # pts, duration and a hash of the picture


def encoded(
    path: Path,
    codec: str,
    options: dict[str, str],
    start: int = 0,
    pictures: list[Image] | None = None,
    container: str | None = None,
    **muxer: str,
) -> Path:
    """A film of `FRAMES` frames, 25 a second, the first of which is shown at `start` frames."""
    pictures = pictures or moving_pictures(FRAMES, 96, 64)
    writer: Any = av.open(str(path), "w", format=container, options=muxer)
    with writer as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 25)
        for index, image in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = start + index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """films(name): that film of `KINDS`."""
    folder = tmp_path_factory.mktemp("films")

    def film(name: str) -> Path:
        path = folder / name
        return path if path.exists() else encoded(path, *KINDS[name])

    return film


def seen(path: Path, place: ResumePoint | None = None, window: TimeRange | None = None) -> tuple[Seen, list[bool], str | None]:
    """The frames from `place` on, whether they were sequential at each, and the damage."""
    frames: Seen = []
    sequential = []
    with VideoFile(path, window) as video:
        if place:
            video.resume_at(place)
        for frame in video:
            frames.append((frame.pts, frame.duration, hashlib.md5(frame.image.tobytes()).hexdigest()))
            sequential.append(video.sequential)
        return frames, sequential, video.damage


def same_from_everywhere(path: Path, window: TimeRange | None = None) -> Seen:
    """All frames, once it is certain that every place gives those that come behind it, and the same damage."""
    whole, sequential, damage = seen(path, window=window)
    for count in {1, 2, len(whole) // 3, len(whole) // 2, len(whole) - 1, len(whole)}:
        place = ResumePoint(count, whole[count - 1][0], sequential[count - 1])
        rest, _, found = seen(path, place, window)
        assert rest == whole[count:] and found == damage, f"{path.name} from {place}"
    return whole


def threads(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """As on a machine of so many cores."""

    def main_stream(container: Any, path: Path) -> av.VideoStream:
        stream = decoding.main_stream(container, path)
        stream.codec_context.thread_count = count
        return stream

    monkeypatch.setattr(file, "main_stream", main_stream)


def torn(path: Path, out: Path, packets: list[int], all_of_it: bool = True) -> Path:
    """The film with these packets' bytes zeroed, or their second halves disturbed."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [(packet.pos or 0, packet.size) for packet in container.demux(video=0) if packet.size]
    for number in packets:
        at, size = places[number]
        if all_of_it:
            data[at : at + size] = bytes(size)
        else:
            data[at + size // 2 : at + size : 7] = b"\xaa" * len(data[at + size // 2 : at + size : 7])
    out.write_bytes(data)
    return out


def shortened(path: Path, out: Path) -> Path:
    """Two thirds of the file."""
    out.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return out


@pytest.mark.parametrize("name", list(KINDS))
def test_a_video_resumes_at_any_point_with_the_same_frames(films: Callable[[str], Path], name: str) -> None:
    frames = same_from_everywhere(films(name))
    assert len(frames) == FRAMES and seen(films(name))[2] is None


@pytest.mark.parametrize(
    ("name", "start"), [("late.ts", 50_000 * 25), ("late.mkv", 500 * 25), ("half.mp4", 13), ("early.ts", -13)]
)
def test_so_does_one_that_does_not_begin_at_0(tmp_path: Path, name: str, start: int) -> None:
    frames = same_from_everywhere(encoded(tmp_path / name, "libx264", X264, start, avoid_negative_ts="disabled"))
    assert len(frames) == FRAMES
    assert (frames[0][0] > 0) == (name == "half.mp4")


@pytest.mark.parametrize("name", ["open.mp4", "open.ts", "hevc.mp4", "mpeg2.ts", "vp9.webm", "b.avi"])
def test_a_window_holds_what_the_film_shows_then(films: Callable[[str], Path], name: str) -> None:
    with VideoFile(films(name)) as video:
        tick, start = video.info.time_base, video.info.start
    window = TimeRange(Fraction(22, 25), Fraction(20, 25))
    whole = seen(films(name))[0]
    wanted = [frame for frame in whole if window.start <= frame[0] * tick + start < Fraction(42, 25)]
    part = same_from_everywhere(films(name), window)
    assert [frame[2] for frame in part] == [frame[2] for frame in wanted] and len(part) == 20


def test_frames_without_times_of_their_own_come_at_a_constant_rate(films: Callable[[str], Path]) -> None:
    pts = [frame[0] for frame in seen(films("b.avi"))[0]]
    assert [after - before for before, after in zip(pts, pts[1:], strict=False)] == [1] * (FRAMES - 1)
    lightness = [image.astype(np.float32) for image in pictures_of(films("b.avi"))]
    for image, expected in zip(lightness, moving_pictures(FRAMES, 96, 64), strict=True):
        assert np.abs(image - expected).mean() < 12


def pictures_of(path: Path) -> list[Image]:
    with VideoFile(path) as video:
        return [frame.image for frame in video]


def test_what_an_edit_list_leaves_out_is_no_damage(films: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("b.mp4", "hevc.mp4"):
        trimmed = tmp_path / name
        muxer = {"avoid_negative_ts": "disabled"}
        with av.open(str(films(name))) as source, av.open(str(trimmed), "w", options=muxer) as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None and packet.pts is not None and packet.time_base is not None:
                    shift = round(Fraction(20, 25) / packet.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                    out.mux(packet)
        frames = same_from_everywhere(trimmed)
        assert len(frames) == FRAMES - 20 and seen(trimmed)[2] is None


@pytest.mark.parametrize("cores", [1, 2, 16])
@pytest.mark.parametrize("name", ["b.mp4", "hevc.mp4", "mpeg4.avi"])
def test_every_torn_packet_is_counted_wherever_it_is(
    films: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, cores: int
) -> None:
    threads(monkeypatch, cores)
    for packets in ([FRAMES - 1], [FRAMES // 2], [FRAMES - 9, FRAMES - 8]):
        source = torn(films(name), tmp_path / name, packets)
        frames, _, damage = seen(source)
        assert damage == f"damaged: {len(packets)} packets cannot be decoded"
        assert FRAMES - 12 <= len(frames) <= FRAMES - len(packets)
        pts = [frame[0] for frame in frames]
        assert pts == sorted(set(pts))
        same_from_everywhere(source)


def test_a_film_that_begins_torn_is_refused_or_begins_later(films: Callable[[str], Path], tmp_path: Path) -> None:
    frames, _, damage = seen(torn(films("mpeg2.ts"), tmp_path / "torn.ts", [0, 1]))
    assert 0 < len(frames) < FRAMES - 1 and damage is None  # no packet of it is told from a recording that begins there
    with pytest.raises(InputError, match=r"torn\.mp4: no frame of it can be decoded"):
        VideoFile(torn(films("b.mp4"), tmp_path / "torn.mp4", list(range(FRAMES))))


def test_what_a_decoder_fills_in_and_what_a_transport_stream_lost_is_told(films: Callable[[str], Path], tmp_path: Path) -> None:
    assert seen(torn(films("b.mp4"), tmp_path / "b.mp4", [12], all_of_it=False))[2] == "damaged: 1 frames are damaged"
    assert seen(torn(films("open.ts"), tmp_path / "open.ts", [FRAMES // 2]))[2] == "damaged: 1 frames are lost"


@pytest.mark.parametrize("name", ["b.mp4", "open.mkv", "b.avi", "vp8.webm", "vp9.ivf", "mpeg4.mkv"])
def test_a_file_that_is_cut_short_says_so(films: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    if name == "b.mp4":
        encoded(tmp_path / "front.mp4", *KINDS[name], movflags="+faststart")
        shortened(tmp_path / "front.mp4", source)
    else:
        shortened(films(name), source)
    frames, _, damage = seen(source)
    assert 0 < len(frames) < FRAMES
    assert damage is not None and damage.startswith("damaged: ")
    report = convert_file(source, tmp_path / "out.mp4", Same(), ConvertOptions(preset="ultrafast"))
    assert report.frames == len(frames) and report.damage == damage
    assert missing_bytes(films(name)) == 0


@pytest.mark.parametrize(("name", "container"), [("two.h264", "h264"), ("two.ts", "mpegts")])
def test_frames_that_change_their_size_are_brought_to_the_first_ones(tmp_path: Path, name: str, container: str) -> None:
    data = b""
    for number, size in enumerate([(96, 64), (128, 96)]):
        part = encoded(
            tmp_path / "part", "libx264", X264 | {"bf": "0"}, FRAMES * number, moving_pictures(FRAMES, *size), container
        )
        data += part.read_bytes()
    (tmp_path / name).write_bytes(data)
    with VideoFile(tmp_path / name) as video:
        assert {frame.image.shape for frame in video} == {(64, 96, 3)}
        assert video.notices == ["frames that are not of the first one's size, such as 128x96, were resized"]
        assert video.damage is None
    assert len(same_from_everywhere(tmp_path / name)) == 2 * FRAMES


def test_sizes_and_codecs_that_cannot_be(films: Callable[[str], Path], tmp_path: Path) -> None:
    data = bytearray(films("gif.gif").read_bytes())
    data[6:10] = b"\xff\xff\xff\xff"
    (tmp_path / "huge.gif").write_bytes(data)
    with pytest.raises(InputError, match=rf"huge\.gif: (says that .* more than {LARGEST} pixels|no frame of it can be decoded)"):
        VideoFile(tmp_path / "huge.gif")
    (tmp_path / "new.mp4").write_bytes(films("b.mp4").read_bytes().replace(b"avc1", b"zzz1"))
    with pytest.raises(InputError, match=r"new\.mp4: the codec of its video is unknown here"):
        VideoFile(tmp_path / "new.mp4")


@pytest.mark.parametrize(("turn", "size"), [(0, (568, 320)), (90, (320, 568)), (180, (568, 320))])
def test_a_turned_film_says_the_size_that_it_delivers(turn: int, size: tuple[int, int]) -> None:
    with VideoFile(shared(f"media/clips/video_{turn}.mov")) as video:
        assert (video.info.width, video.info.height) == size
        assert {frame.image.shape[1::-1] for frame in video} == {size} and video.notices == []


def test_a_long_film_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("memory is read from /proc")
    few = moving_pictures(10, 160, 120)
    source = encoded(tmp_path / "long.mkv", "libx264", X264, pictures=few * 100)
    pages = []
    with VideoFile(source) as video:
        for number, _ in enumerate(video):
            if number in (300, 999):
                pages.append(int(statm.read_text().split()[1]))
    assert (pages[1] - pages[0]) * 4096 < 10e6  # the frames between them are 40 MB as BGR


def test_files_changed_at_random_are_converted_or_refused_in_a_line(films: Callable[[str], Path], tmp_path: Path) -> None:
    goods = [films(name) for name in ("b.mp4", "open.mkv", "open.ts", "vp8.webm", "mpeg4.avi", "gif.gif")]
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        goods.append(tmp_path / f"picture{suffix}")
        write_image(goods[-1], moving_pictures(1, 160, 120)[0])
    found = []
    for number in range(40):
        one = case(goods, 0, number)
        source, folder = tmp_path / one.name, tmp_path / f"out-{number}"
        folder.mkdir()
        source.write_bytes(one.data)
        verdict, words = check_conversion(source, folder / f"made{one.output}")
        assert verdict != BUG, f"{one.seed} ({one.how}): {words}"
        found.append(verdict)
    assert len(set(found)) == 3


def test_a_batch_of_broken_files_is_a_line_for_each_and_the_rest_is_done(clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    broken, folder, out = shared("media/broken"), tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for path in broken.iterdir():
        shutil.copyfile(path, folder / (f"{path.stem}.mkv" if path.suffix == ".wav" else path.name))
    shutil.copyfile(clip, folder / "good.mp4")
    (folder / "text.mp4").write_text("no video\n")
    torn(clip, folder / "torn.mp4", [5])
    done = run_program("convert", folder, out, "--model", tiny_model, "--json")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    told = {Path(one["source"]).name: one.get("error") or one["damage"] for one in json.loads(done.stdout)["files"]}
    refused = {"audio_only.mkv", "badrle.bmp", "badwidth.bmp", "broken.png", "broken_data_stream.png", "shortfile.bmp"}
    refused |= {"text.mp4", "truncated_image.png"}
    whole, damaged = {"good.mp4", "hopper.jpg", "pil_sample_cmyk.jpg"}, {"torn.mp4", "truncated_jpeg.jpg"}
    assert {name for name, words in told.items() if words} == refused | damaged
    for name in refused | damaged:  # a library's own line may stand before one of ours
        assert done.stderr.count(f"error: {folder / name}: ") == 1
    made = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert made == whole | damaged


def test_keep_going_exits_with_0_where_damaged_frames_were_skipped(clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    source = torn(clip, tmp_path / "torn.mp4", [5])
    for options, code in (([], 1), (["--keep-going", "--overwrite"], 0)):
        done = run_program("convert", source, tmp_path / "out.mp4", "--model", tiny_model, *options)
        assert done.returncode == code, done.stderr
        assert "torn.mp4: damaged: 1 packets cannot be decoded; what can be decoded is in" in done.stderr
        assert (tmp_path / "out.mp4").exists()
