"""Transparency: outputs that can hold it keep it, others are composed on black with a notice, and hidden colors stay hidden."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageSequence

from cyclecast.errors import ConfigError, Interrupted, OutputError
from cyclecast.video.alpha import fill_hidden, read_alpha, write_alpha
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files.reader import VideoFile
from tests.commands import json_of
from tests.conftest import Negative, Same, shared
from tests.video.clips import convert, frame_times, read_frames, read_packets
from tests.video.convert.test_resume import RaisingOnNth
from tests.video.test_color import set_display_matrix

HEIGHT, WIDTH, FRAMES = 48, 64, 6
Levels = NDArray[np.uint8]
ADVICE = "an output that ends in .webm, or in .mov with --codec prores, keeps the transparency"
SOURCES = {  # file -> encoder, pixel format, options
    "qtrle.mov": ("qtrle", "argb", {}),
    "4444.mov": ("prores_ks", "yuva444p10le", {}),
    "png.mov": ("png", "rgba", {}),
    "cineform.mov": ("cfhd", "gbrap12le", {"quality": "film3+"}),
    "animated.apng": ("apng", "rgba", {}),
    "planes.mkv": ("ffv1", "yuva420p10le", {}),
    "packed.mkv": ("ffv1", "bgra", {}),
    "ut.avi": ("utvideo", "gbrap", {}),
    "raw.avi": ("rawvideo", "bgra", {}),
    "vp9.webm": ("libvpx-vp9", "yuva420p", {"crf": "0", "b": "0", "lossless": "1", "deadline": "realtime"}),
    "vp8.webm": ("libvpx", "yuva420p", {"b": "9M", "crf": "4", "auto-alt-ref": "0", "deadline": "realtime"}),
}
OUTPUTS = [(".webm", None), (".mkv", "vp9"), (".mov", "prores"), (".mkv", "prores"), (".mkv", "ffv1")]


def alpha_at(index: int, opaque: bool = False) -> Levels:
    """Returns a disc with a soft edge that moves; all of its levels occur."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(rows - 24, columns - 24 - 2 * index)
    return np.full((HEIGHT, WIDTH), 255, np.uint8) if opaque else np.clip(420 - 20 * distance, 0, 255).astype(np.uint8)


def pixels_at(index: int, opaque: bool = False) -> Levels:
    """Returns green that is seen, and red under what is fully transparent: (H, W, 4) uint8 BGRA."""
    alpha = alpha_at(index, opaque)
    shown = np.where(alpha[..., None] > 0, color([20, 200, 20]), color([0, 0, 255]))
    return np.dstack([shown, alpha])


def encode(path: Path, codec: str, pix_fmt: str, options: dict[str, str], frames: list[Levels], times: Any = None) -> Path:
    """Encodes (H, W, 4) BGRA frames at these times, in 1/12800 s; by default at 25 frames per second."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], pix_fmt
        tick = stream.codec_context.time_base = Fraction(1, 25 if times is None else 12_800)
        for pts, pixels in zip(times or range(len(frames)), frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="bgra").reformat(format=pix_fmt)
            frame.pts, frame.time_base = pts, tick
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def make(folder: Path, name: str, opaque: bool = False, times: Any = None) -> Path:
    """Encodes one of `SOURCES`, as long as `times`."""
    frames = [pixels_at(index, opaque) for index in range(len(times or range(FRAMES)))]
    return encode(folder / name, *SOURCES[name], frames, times)


def make_gif(path: Path) -> Path:
    """Writes an animation with Pillow: a square that moves over transparent pixels."""
    frames = []
    for index in range(FRAMES):
        pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
        pixels[10:30, 4 * index : 4 * index + 20] = (20, 200, 20, 255)
        frames.append(PillowImage.fromarray(pixels))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40, disposal=2, loop=0)
    return path


def decode(path: Path) -> list[Levels]:
    """Returns (H, W, 4) BGRA of each frame, by FFmpeg's decoder that knows the alpha."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder: Any = stream.codec_context
        if decoder.name == "vp9":
            assert {key.lower(): value for key, value in stream.metadata.items()}["alpha_mode"] == "1"
            decoder = av.CodecContext.create("libvpx-vp9", "r")
        packets = [packet for packet in container.demux(stream) if packet.size]
        return [frame.to_ndarray(format="bgra") for packet in (*packets, None) for frame in decoder.decode(packet)]


def color(bgr: list[int]) -> Levels:
    return np.array(bgr, np.uint8)


def worst(levels: Levels, expected: Levels) -> int:
    """Returns the largest difference."""
    return int(np.abs(levels.astype(int) - expected).max())


@pytest.mark.parametrize("name", SOURCES)
def test_the_alpha_of_a_source_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    source = make(tmp_path, name)
    report = convert(source, tmp_path / "out.mkv", codec="ffv1", preset=None)
    assert not report.dropped and not any("transparen" in notice for notice in report.notices)
    decoded = decode(tmp_path / "out.mkv")
    tolerance = {"vp8.webm": 24, "cineform.mov": 6, "4444.mov": 2}.get(name, 1)  # of the encoder, and of swscale in this test
    assert len(decoded) == FRAMES
    assert max(worst(pixels[..., 3], alpha_at(index)) for index, pixels in enumerate(decoded)) <= tolerance


@pytest.mark.parametrize(("suffix", "codec"), OUTPUTS)
def test_outputs_that_can_hold_it_keep_the_transparency(tmp_path: Path, suffix: str, codec: str | None) -> None:
    report = convert(make(tmp_path, "qtrle.mov"), out := tmp_path / f"out{suffix}", codec=codec, preset=None)
    assert not report.dropped and not any("transparen" in notice for notice in report.notices)
    decoded = decode(out)
    assert len(decoded) == FRAMES
    lossy = codec not in ("prores", "ffv1")
    for index, pixels in enumerate(decoded):
        assert worst(pixels[..., 3], alpha_at(index)) <= (12 if lossy else 1)
        assert pixels[..., 2].max() < 60  # the hidden red is nowhere, not even where it is hidden
        assert worst(pixels[20:28, 20 + 2 * index : 28 + 2 * index, :3], color([20, 200, 20])) < 12
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        assert codec != "prores" or (context.codec_tag, context.profile) == ("ap4h", "4444")


def test_alpha_is_turned_and_padded_with_its_frame(tmp_path: Path) -> None:
    odd = [pixels_at(index)[:47, :63] for index in range(2)]
    upright = encode(tmp_path / "in.mov", "png", "rgba", {}, odd)
    turned = set_display_matrix(upright, tmp_path / "turned.mov", (0, 1, -1, 0))
    convert(turned, tmp_path / "out.mkv", codec="ffv1", preset=None)
    for index, pixels in enumerate(decode(tmp_path / "out.mkv")):
        assert pixels.shape == (64, 48, 4)
        assert worst(pixels[:63, :47, 3], np.rot90(odd[index][..., 3], -1)) <= 1
        assert np.array_equal(pixels[63], pixels[62]) and np.array_equal(pixels[:, 47], pixels[:, 46])


def test_a_gif_keeps_its_transparent_pixels(tmp_path: Path) -> None:
    source, out, messages = make_gif(tmp_path / "in.gif"), tmp_path / "out.gif", list[str]()
    report = convert_file(source, out, Same(), on_message=messages.append)
    assert report.notices == report.dropped == []
    assert messages[0].startswith("out.gif: encoder gif in software, decoder")
    with PillowImage.open(source) as before, PillowImage.open(out) as after:
        pairs = zip(ImageSequence.Iterator(before), ImageSequence.Iterator(after), strict=True)
        for one, other in ((np.asarray(a.convert("RGBA")), np.asarray(b.convert("RGBA"))) for a, b in pairs):
            assert np.array_equal(one[..., 3], other[..., 3]) and one[..., 3].min() == 0
            assert worst(other[other[..., 3] > 0][:, :3], color([20, 200, 20])) < 12
    report = convert(make(tmp_path, "qtrle.mov"), tmp_path / "soft.gif", preset=None)
    assert report.dropped == ["partial transparency (.gif has none: its pixels are opaque or fully transparent)"]
    assert all(
        np.array_equal(pixels[..., 3] > 0, alpha_at(index) > 127) for index, pixels in enumerate(decode(tmp_path / "soft.gif"))
    )


def test_other_outputs_are_composed_on_black_and_say_so(tmp_path: Path, tiny_model: Path) -> None:
    source = make(tmp_path, "qtrle.mov")
    report = json_of("convert", source, tmp_path / "out.mp4", "-m", tiny_model, "--strength", "0", "--codec", "hevc")
    assert report["notices"][1:] == [f"transparent pixels were composed on black: hevc in .mp4 has no alpha; {ADVICE}"]
    for index, image in enumerate(read_frames(tmp_path / "out.mp4")):
        seen = pixels_at(index)[..., :3] * (alpha_at(index)[..., None] / 255)
        assert np.abs(image - seen).mean() < 4 and image[..., 2].max() < 60
    for suffix, more in ((".webm", ()), (".mov", ("--codec", "prores"))):
        assert "transparent" not in str(json_of("convert", source, tmp_path / f"out{suffix}", "-m", tiny_model, *more)["notices"])
    notices = convert(source, tmp_path / "plain.webm", pix_fmt="yuv420p").notices
    assert len(notices) == 1 and "without --encoder and --pix-fmt it is kept" in notices[0]
    with VideoFile(tmp_path / "plain.webm") as video:
        assert not video.info.has_alpha


def test_opaque_sources_lose_nothing(tmp_path: Path) -> None:
    """Their pixel format has an alpha component that is opaque everywhere, or an unused byte."""
    opaque = make(tmp_path, "qtrle.mov", opaque=True)
    assert not any("transparent" in notice for notice in convert(opaque, tmp_path / "opaque.mp4").notices)
    pixels = pixels_at(0, opaque=True)
    pixels[..., 3] = 0
    unused = encode(tmp_path / "unused.avi", "rawvideo", "bgra", {}, [pixels])
    assert not any("transparent" in notice for notice in convert(unused, tmp_path / "unused.mp4").notices)
    assert read_frames(tmp_path / "unused.mp4")[0][24, 24, 1] > 180


@pytest.mark.parametrize(("suffix", "codec"), [*OUTPUTS[::2], (".gif", None)])
def test_an_interrupted_run_gives_the_same_file_at_the_same_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, codec: str | None
) -> None:
    monkeypatch.setattr("cyclecast.video.convert.parts.PART_FRAMES", 4)
    times = [0, 512, 1067, 1500, 2048, 2051 + 400, 3333, 3900, 4444, 5001]
    source, options = make(tmp_path, "qtrle.mov", times=times), ConvertOptions(codec=codec)
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    convert_file(source, whole, Negative(), options)
    with pytest.raises(Interrupted):
        convert_file(source, out, RaisingOnNth(10, KeyboardInterrupt()), options)
    report = convert_file(source, out, Negative(), options)
    assert report.frames == 10 and report.resumed_frames >= 4
    assert [pixels.tobytes() for pixels in decode(out)] == [pixels.tobytes() for pixels in decode(whole)]
    assert read_packets(out, "video") == read_packets(whole, "video")
    tick = {".mov": Fraction(1, 12_800), ".gif": Fraction(1, 100)}.get(suffix, Fraction(1, 1000))
    assert frame_times(out) == [round(Fraction(time, 12_800) / tick) * tick for time in times]


def test_a_resumed_run_reports_transparency_before_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cyclecast.video.convert.parts.PART_FRAMES", 4)
    frames = [pixels_at(index, opaque=index > 0) for index in range(10)]
    source, out = encode(tmp_path / "in.mov", "qtrle", "argb", {}, frames), tmp_path / "out.mp4"
    with pytest.raises(Interrupted):
        convert_file(source, out, RaisingOnNth(10, KeyboardInterrupt()))
    report = convert_file(source, out, Negative())
    assert report.resumed_frames >= 4 and report.notices[-1].endswith(ADVICE)


def test_a_pixel_format_with_alpha_needs_a_container_for_it(tmp_path: Path) -> None:
    source = make(tmp_path, "qtrle.mov")
    with pytest.raises(OutputError, match=r"vp9 in \.mp4 cannot hold the transparency of yuva420p; vp9 in \.webm and \.mkv"):
        convert(source, tmp_path / "out.mp4", codec="vp9", pix_fmt="yuva420p")
    for name, value in (("crf", 20), ("preset", "fast"), ("encoder", "nvenc")):
        with pytest.raises(ConfigError, match=f"leave out --{name}"):
            convert_file(source, tmp_path / "out.mov", Same(), ConvertOptions(codec="prores", **{name: value}))  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["qtrle.mov"]


def test_hidden_colors_come_from_the_visible_pixels_around_them() -> None:
    image = np.zeros((40, 50, 3), np.uint8)
    image[...], alpha = (0, 0, 255), np.zeros((40, 50), np.uint8)
    image[10:30, :25], image[10:30, 25:] = (200, 0, 0), (0, 200, 0)
    alpha[10:30] = 255
    filled = fill_hidden(image, alpha)
    assert np.array_equal(filled[10:30], image[10:30]) and filled[..., 2].max() == 0
    assert worst(filled[2, 4], color([200, 0, 0])) < 20 and worst(filled[37, 46], color([0, 200, 0])) < 20
    assert fill_hidden(image, np.full_like(alpha, 255)) is image and not fill_hidden(image, np.zeros_like(alpha)).any()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_hidden_colors_of_images_do_not_appear(tmp_path: Path, suffix: str) -> None:
    PillowImage.fromarray(pixels_at(0)[..., [2, 1, 0, 3]]).save(tmp_path / "in.png")
    convert_file(tmp_path / "in.png", tmp_path / f"out{suffix}", Same())
    with PillowImage.open(tmp_path / f"out{suffix}") as image:
        written = np.asarray(image)
    assert written[..., 0].max() < 60 and (suffix == ".jpg" or np.array_equal(written[..., 3], alpha_at(0)))


@pytest.mark.parametrize("pix_fmt", ["yuva420p", "yuva422p", "yuva444p10le", "yuva444p12le", "yuva444p16le", "gbrap10le"])
def test_alpha_is_stored_exactly(pix_fmt: str) -> None:
    alpha = np.arange(62 * 6, dtype=np.int64).reshape(6, 62).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(np.zeros((6, 62, 3), np.uint8), format="bgr24").reformat(format=pix_fmt)
    write_alpha(frame, alpha)
    read = read_alpha(frame)
    assert read is not None and np.array_equal(read, alpha)
    write_alpha(frame, None)
    read = read_alpha(frame)
    assert read is not None and read.min() == 255


def test_a_real_recording_keeps_its_alpha(tmp_path: Path) -> None:
    source = shared("faults/footage/a.mov")
    convert(source, tmp_path / "out.webm")
    before, after = decode(source), decode(tmp_path / "out.webm")
    assert len(before) == len(after) and min(pixels[..., 3].min() for pixels in before) < 255
    assert max(np.abs(one[..., 3].astype(int) - other[..., 3]).mean() for one, other in zip(before, after, strict=True)) < 2
