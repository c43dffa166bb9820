"""Conversions keep time, sound, color and shape, and leave no incomplete file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from cyclecast.errors import ConfigError, CyclecastError, InputError, OutputError
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files.encoding import Encoding
from cyclecast.video.files.images import write_image
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.files.writer import VideoWriter
from cyclecast.video.frame import Color, Frame, Image, StreamInfo
from tests.conftest import Negative, Same, moving_frames, shared
from tests.video.clips import SoundTrack, encode_sound, frame_times, psnr, read_frames


def sound_packets(path: Path) -> list[tuple[float, bytes]]:
    """Time in seconds and bytes of every packet of the first sound track."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        packets = container.demux(container.streams.audio[0])
        return [(float(p.pts * p.time_base), bytes(p)) for p in packets if p.pts is not None]


def decode_first_channel(path: Path) -> NDArray[np.float32]:
    """The first channel of the first sound track from time 0 on, at 48 kHz."""
    parts = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", "stereo", 48_000)
        for frame in container.decode(audio=0):
            start = round(float(frame.time or 0) * 48_000)
            samples = np.concatenate([part.to_ndarray()[0] for part in resampler.resample(frame)] or [np.zeros(0, np.float32)])
            parts.append(samples[max(0, -start) :])
    return np.concatenate(parts)


def test_each_frame_keeps_its_timestamp_and_the_sound_its_bytes(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    report = convert_file(clip, out, Negative(), ConvertOptions(crf=1))
    assert frame_times(out) == frame_times(clip) == [Fraction(40 * i + 7 * (i % 3), 1000) for i in range(12)]
    assert sound_packets(out) == sound_packets(clip) and len(sound_packets(out)) > 20
    assert (report.frames, report.audio, report.resumed_frames) == (12, "copied", 0)
    assert (report.width, report.height) == (64, 48)
    assert report.stages_ms.keys() == {"decode", "model", "encode"}
    assert psnr(read_frames(out), [255 - image for image in read_frames(clip)]) > 38


def test_the_function_is_compiled_for_the_size_before_the_first_frame(clip: Path, tmp_path: Path) -> None:
    function = Negative()
    convert_file(clip, tmp_path / "out.mp4", function)
    assert function.prepared == [(64, 48)]


def test_the_model_runs_at_the_work_height_and_the_output_has_the_source_size(clip: Path, tmp_path: Path) -> None:
    class Small(Negative):
        sizes: set[tuple[int, ...]] = set()

        def __call__(self, frame: Image) -> Image:
            self.sizes.add(frame.shape)
            return super().__call__(frame)

    function = Small()
    report = convert_file(clip, tmp_path / "out.mp4", function, ConvertOptions(work_height=24))
    assert Small.sizes == {(24, 32, 3)} and function.prepared == [(32, 24)]
    assert (report.width, report.height) == (64, 48)
    assert read_frames(tmp_path / "out.mp4")[0].shape == (48, 64, 3)


def test_no_audio_leaves_the_sound_out(clip: Path, tmp_path: Path) -> None:
    report = convert_file(clip, tmp_path / "out.mp4", Same(), ConvertOptions(audio=False))
    assert report.audio == "none" and sound_packets(tmp_path / "out.mp4") == []


@pytest.mark.parametrize(
    ("codec", "suffix"), [("h264", ".mkv"), ("h264", ".mov"), ("hevc", ".mp4"), ("av1", ".mp4"), ("vp9", ".mkv")]
)
def test_every_codec_and_container_keeps_timestamps_and_sound(clip: Path, tmp_path: Path, codec: str, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    convert_file(clip, out, Same(), ConvertOptions(codec=codec))
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == codec
    assert frame_times(out) == frame_times(clip)
    assert len(sound_packets(out)) == len(sound_packets(clip))
    assert psnr(read_frames(out), read_frames(clip)) > 30


def test_sound_that_the_container_cannot_hold_is_transcoded(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.webm"
    assert convert_file(clip, out, Same()).audio == "transcoded"
    assert frame_times(out) == frame_times(clip)
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == "opus"
    ours, theirs = decode_first_channel(out), decode_first_channel(clip)
    assert abs(len(ours) - len(theirs)) < 2000  # samples at 48 kHz: a packet of either
    count = min(len(ours), len(theirs))
    assert np.corrcoef(ours[:count], theirs[:count])[0, 1] > 0.95  # in sync, and the same


@pytest.mark.parametrize("color", [Color(1, 1, 1, 1), Color(6, 1, 6, 6), Color(1, 2, 1, 1), Color()], ids=str)
def test_color_is_unchanged(tmp_path: Path, color: Color) -> None:
    info = StreamInfo(64, 48, Fraction(25), Fraction(1, 25), None, color, Fraction(1))
    flat = [
        np.full((48, 64, 3), bgr, np.uint8) for bgr in ((200, 30, 60), (20, 180, 90), (40, 60, 220), (255, 255, 255), (0, 0, 0))
    ]
    with VideoWriter(tmp_path / "in.mp4", info, Encoding("h264", crf=1)) as writer:
        for index, image in enumerate(flat):
            writer.write(Frame(image, index, 1))
    convert_file(tmp_path / "in.mp4", tmp_path / "out.mp4", Same(), ConvertOptions(crf=1))
    for name in ("in.mp4", "out.mp4"):
        with VideoFile(tmp_path / name) as video:
            assert video.info.color == color
            got = [frame.image.reshape(-1, 3).mean(0) for frame in video]
        np.testing.assert_allclose(got, [image[0, 0] for image in flat], atol=3)


@pytest.mark.parametrize("size", [(65, 48), (64, 47), (33, 31)], ids=str)
def test_odd_sizes_gain_a_repeated_row_or_column(tmp_path: Path, size: tuple[int, int]) -> None:
    info = StreamInfo(*size, Fraction(25), Fraction(1, 25), None, Color(), Fraction(1))
    images = moving_frames(3, *size)
    with VideoWriter(tmp_path / "out.mp4", info, Encoding("h264", crf=1)) as writer:
        for index, image in enumerate(images):
            writer.write(Frame(image, index, 1))
    got = read_frames(tmp_path / "out.mp4")
    assert got[0].shape == (size[1] + size[1] % 2, size[0] + size[0] % 2, 3)
    assert psnr([image[: size[1], : size[0]] for image in got], images) > 38


def test_a_repeated_timestamp_becomes_the_next_tick(tmp_path: Path) -> None:
    info = StreamInfo(64, 48, Fraction(25), Fraction(1, 1000), None, Color(), Fraction(1))
    with VideoWriter(tmp_path / "out.mp4", info) as writer:
        for pts, image in zip((0, 40, 40, 39, 120), moving_frames(5), strict=True):
            writer.write(Frame(image, pts, 40))
    assert frame_times(tmp_path / "out.mp4") == [Fraction(ms, 1000) for ms in (0, 40, 41, 42, 120)]


@pytest.mark.parametrize(
    ("codec", "suffix"), [("h264", ".mp4"), ("hevc", ".mp4"), ("av1", ".mp4"), ("h264", ".mkv"), ("vp9", ".webm")]
)
def test_the_last_frame_keeps_its_duration(tmp_path: Path, codec: str, suffix: str) -> None:
    info = StreamInfo(64, 48, Fraction(25), Fraction(1, 1000), None, Color(), Fraction(1))
    out = tmp_path / f"out{suffix}"
    with VideoWriter(out, info, Encoding(codec)) as writer:
        for index, image in enumerate(moving_frames(4)):
            writer.write(Frame(image, 40 * index, 40 if index < 3 else 5000))
    with av.open(str(out)) as container:
        assert container.duration is not None and abs(container.duration / 1e6 - 5.12) < 0.05


def transport_stream(path: Path, starts: list[int]) -> Path:
    """Writes an MPEG transport stream with 25 frames from each start (seconds) on, as a recorder or `cat` would."""
    data = b""
    for start in starts:
        with av.open(str(path), "w", format="mpegts") as container:
            stream = container.add_stream("libx264", rate=25, options={"g": "10", "bf": "0"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, 25)
            for index, image in enumerate(moving_frames(25)):
                frame = av.VideoFrame.from_ndarray(image, format="bgr24")
                frame.pts, frame.time_base = start * 25 + index, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        data += path.read_bytes()
    path.write_bytes(data)
    return path


def test_timestamps_that_start_late_are_shifted_to_0(tmp_path: Path) -> None:
    source = transport_stream(tmp_path / "late.ts", [50_000])
    convert_file(source, tmp_path / "out.mp4", Same())
    assert frame_times(source)[0] > 49_000
    assert [float(t) for t in frame_times(tmp_path / "out.mp4")] == pytest.approx([i / 25 for i in range(25)], abs=1e-3)


def test_timestamps_that_jump_back_are_an_error_if_the_clock_is_not_mended(tmp_path: Path) -> None:
    source = transport_stream(tmp_path / "joined.ts", [20, 5])
    with pytest.raises(
        InputError, match=r"joined\.ts: its clock jumps back by 16\.0 s after 1\.0 s, as in concatenated files; split"
    ):
        convert_file(source, tmp_path / "out.mp4", Same(), ConvertOptions(mend_clock=False))
    assert [p.name for p in tmp_path.iterdir()] == ["joined.ts"]


def test_a_recording_that_starts_between_key_frames_is_converted(tmp_path: Path) -> None:
    source = transport_stream(tmp_path / "cut.ts", [0])
    data = source.read_bytes()
    source.write_bytes(data[: 188 * 2] + data[188 * (len(data) // 188 // 4) :])
    report = convert_file(source, tmp_path / "out.mp4", Same())
    assert report.frames >= 10
    assert len(read_frames(tmp_path / "out.mp4")) == report.frames


def test_a_cover_image_is_not_the_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "video.mkv"), "w") as container:
        cover, video = container.add_stream("mjpeg", rate=1), container.add_stream("libx264", rate=25)
        cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for stream, images in ((cover, moving_frames(1, 640, 480)), (video, moving_frames(10))):
            for index, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=stream.pix_fmt)
                frame.pts = index
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    report = convert_file(tmp_path / "video.mkv", tmp_path / "out.mp4", Same())
    assert (report.width, report.height, report.frames) == (64, 48, 10)


@pytest.mark.parametrize("name", ["podcast.mp4", "song.m4a", "song.mp3", "song.flac", "song.mka"])
def test_sound_with_a_cover_image_is_no_video(tmp_path: Path, name: str) -> None:
    container: Any = av.open(str(tmp_path / name), "w", format={".mka": "matroska", ".m4a": "mp4"}.get(Path(name).suffix))
    with container:
        codec = {".mp3": "libmp3lame", ".flac": "flac"}.get(Path(name).suffix, "aac")
        sound, cover = container.add_stream(codec, rate=48_000, layout="stereo"), None
        if name.endswith("mka"):
            container.add_attachment("cover.jpg", "image/jpeg", jpeg())
        else:
            cover = container.add_stream("mjpeg", rate=25)
            cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
            cover.disposition = Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(moving_frames(1, 64, 48)[0], format="bgr24").reformat(format="yuvj420p")
            packets = [*cover.encode(frame), *cover.encode(None)]
            for packet in packets:
                packet.pts = packet.dts = 0
            container.mux(packets)
        for packet in encode_sound(sound, SoundTrack(codec, seconds=0.5)):
            container.mux(packet)
    with pytest.raises(InputError, match=rf"{name}: has no video stream, only a cover image$"):
        convert_file(tmp_path / name, tmp_path / "out.mp4", Same())
    assert [path.name for path in tmp_path.iterdir()] == [name]


def jpeg() -> bytes:
    return cv2.imencode(".jpg", moving_frames(1, 64, 48)[0])[1].tobytes()


def test_sound_of_an_unknown_codec_is_left_out_and_reported(clip: Path, tmp_path: Path) -> None:
    source = tmp_path / "odd.mp4"
    source.write_bytes(clip.read_bytes().replace(b"mp4a", b"zzza").replace(b"esds", b"zzzz"))
    report = convert_file(source, tmp_path / "out.mp4", Same())
    assert report.audio == "none" and report.dropped == ["sound track 1: its codec is unknown here"]
    assert report.frames == 12


@pytest.mark.parametrize("name", ["café.png", b"caf\xe9.png", "trip-12:30.png"])
def test_unusual_file_names_work(tmp_path: Path, name: str | bytes, clip: Path) -> None:
    image = tmp_path / os.fsdecode(name)
    write_image(tmp_path / "plain.png", moving_frames(1)[0])
    (tmp_path / "plain.png").rename(image)
    assert convert_file(image, tmp_path / "out.png", Same()).frames == 1
    video = image.with_suffix(".mp4")
    video.write_bytes(clip.read_bytes())
    assert convert_file(video, video.with_suffix(".mkv"), Same()).frames == 12


def test_a_source_with_the_name_of_a_temporary_file_is_kept(clip: Path, tmp_path: Path) -> None:
    source = tmp_path / "clip.partial.mp4"
    source.write_bytes(clip.read_bytes())
    assert convert_file(source, tmp_path / "clip.mp4", Same()).frames == 12
    assert source.read_bytes() == clip.read_bytes()


@pytest.mark.parametrize("nth", [1, 6])
def test_a_model_that_fails_leaves_no_file(
    clip: Path, tmp_path: Path, slow_failing: Callable[[int], type[Negative]], nth: int
) -> None:
    with pytest.raises(RuntimeError, match="the model broke"):
        convert_file(clip, tmp_path / "out.mp4", slow_failing(nth)())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_overwrite_keeps_the_old_file(clip: Path, tmp_path: Path, slow_failing: Callable[[int], type[Negative]]) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("precious")
    with pytest.raises(RuntimeError):
        convert_file(clip, out, slow_failing(3)(), ConvertOptions(overwrite=True))
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"] and out.read_text() == "precious"


def make_bad_video(folder: Path, problem: str) -> Path:
    path = folder / f"{problem}.mp4"
    if problem == "text":
        path.write_text("not a video\n" * 50)
    elif problem == "empty":
        path.touch()
    elif problem == "folder":
        path.mkdir()
    elif problem == "sound":
        from cyclecast.video.scene import write_sound

        write_sound(path, 0.2)
    return path


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ("missing", "no such file"),
        ("text", "cannot be read as a video"),
        ("empty", "cannot be read as a video"),
        ("folder", "is a folder"),
        ("sound", "has no video stream"),
    ],
)
def test_a_source_that_is_not_a_video_is_an_error(tmp_path: Path, problem: str, message: str) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=message):
        convert_file(make_bad_video(tmp_path, problem), tmp_path / "out" / "out.mp4", Same())
    assert list((tmp_path / "out").iterdir()) == []


def test_an_output_that_cannot_be_written_is_an_error(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "there.mp4").write_text("precious")
    (tmp_path / "file").touch()
    own = tmp_path / "own.mp4"
    own.write_bytes(clip.read_bytes())
    for source, output, message in (
        (clip, tmp_path / "there.mp4", "exists already; --overwrite replaces it"),
        (clip, tmp_path / "file" / "out.mp4", "cannot be written"),
        (clip, tmp_path / "out.xyz", "no container of that name"),
        (own, own, "is the source itself"),
    ):
        with pytest.raises(OutputError, match=f"{output.name}.*: {message}"):
            convert_file(source, output, Same(), ConvertOptions(overwrite=message.startswith("is the")))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "own.mp4", "there.mp4"]
    assert own.read_bytes() == clip.read_bytes()


def test_a_folder_without_write_permission_is_an_error(clip: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(locked, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(OutputError, match="cannot be written"):
        convert_file(clip, locked / "out.mp4", Same())


def test_unknown_codecs_and_presets_are_an_error(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no codec named 'mpeg99'"):
        convert_file(clip, tmp_path / "out.mp4", Same(), ConvertOptions(codec="mpeg99"))
    with pytest.raises(OutputError, match="the h264 encoder does not take these settings"):
        convert_file(clip, tmp_path / "out.mp4", Same(), ConvertOptions(preset="warp"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_images_are_converted_to_every_format(tmp_path: Path, suffix: str) -> None:
    image = moving_frames(1, 61, 47)[0]
    write_image(tmp_path / "in.png", image)
    report = convert_file(tmp_path / "in.png", tmp_path / f"out{suffix}", Negative())
    out = cv2.imread(str(tmp_path / f"out{suffix}"))
    assert out is not None and psnr([np.asarray(out, np.uint8)], [255 - image]) > 35
    assert (report.frames, report.audio, report.width, report.height) == (1, "none", 61, 47)


def test_an_image_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(InputError, match="cannot be read as an image"):
        convert_file(tmp_path / "text.jpg", tmp_path / "out.png", Same())
    assert [p.name for p in tmp_path.iterdir()] == ["text.jpg"]


REAL_CLIPS = {  # name -> frames, sound codec
    "flower.mp4": (150, "aac"),
    "flower.webm": (150, "vorbis"),
    "friday.mp4": (185, "aac"),
    "bigbuckbunny.mp4": (132, "aac"),
    "realshort.mp4": (36, "aac"),
    "newtonscradle.gif": (36, None),
    "video_90.mov": (3, None),
    "flipping_a_pancake.mkv": (310, "opus"),
}


@pytest.mark.parametrize("name", list(REAL_CLIPS))
def test_real_clips_keep_timestamps_and_sound(name: str, tmp_path: Path) -> None:
    source, out = shared(f"media/clips/{name}"), tmp_path / "out.mp4"
    frames, codec = REAL_CLIPS[name]
    report = convert_file(source, out, Same(), ConvertOptions(preset="ultrafast"))
    assert report.frames == frames and report.audio == ("copied" if codec else "none")
    assert frame_times(out) == frame_times(source)
    ours, theirs = sound_packets(out), sound_packets(source)
    assert [packet for _, packet in ours] == [packet for _, packet in theirs]
    assert all(abs(a - b) < 0.001 for (a, _), (b, _) in zip(ours, theirs, strict=True))


def test_rotated_clips_come_out_upright(tmp_path: Path) -> None:
    shapes = {}
    for degrees in (0, 90, 180):
        convert_file(shared(f"media/clips/video_{degrees}.mov"), tmp_path / f"{degrees}.mp4", Same())
        with av.open(str(tmp_path / f"{degrees}.mp4")) as container:
            frame = next(container.decode(video=0))
            shapes[degrees] = (frame.width, frame.height, frame.rotation)
    assert shapes == {0: (568, 320, 0), 90: (320, 568, 0), 180: (568, 320, 0)}


@pytest.mark.parametrize("name", ["audio_only.wav", "badrle.bmp", "broken.png", "shortfile.bmp"])
def test_a_broken_file_is_an_error_in_one_line(name: str, tmp_path: Path) -> None:
    source = shared(f"media/broken/{name}")
    try:
        convert_file(source, tmp_path / f"out{'.mp4' if name.endswith('wav') else '.png'}", Same())
    except CyclecastError as error:
        assert name in str(error) and "\n" not in str(error)
        assert list(tmp_path.iterdir()) == []
    else:
        assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
