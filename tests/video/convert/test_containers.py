"""A codec or pixel format that the container cannot hold is an error before the first frame."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import pytest

from cyclecast.errors import ConfigError, OutputError
from cyclecast.video.convert.containers import codecs_in, output_encoding
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files.encoders import ENCODERS, WORST
from cyclecast.video.files.encoding import Encoding
from cyclecast.video.files.muxer import assemble
from cyclecast.video.files.side_streams import SideStreams
from cyclecast.video.files.time_range import TimeRange
from cyclecast.video.files.writer import CONTAINERS, Part, VideoWriter
from cyclecast.video.frame import Color, Frame, Image, StreamInfo
from tests.conftest import Negative, Same, moving_frames
from tests.video.clips import SoundTrack, make_video

INFO = StreamInfo(64, 48, Fraction(25), Fraction(1, 25), None, Color(1, 1, 1, 1), Fraction(1))


def encode(stem: Path, codec: str, pix_fmt: str | None = None) -> Part:
    """Three frames as a part of a conversion."""
    encoding = Encoding(codec, pix_fmt=pix_fmt)
    with VideoWriter(stem.with_suffix(encoding.part_suffix), INFO, encoding, is_part=True) as writer:
        for pts, image in enumerate(moving_frames(3)):
            writer.write(Frame(image, pts, 1))
    return writer.part()


def can_mux(part: Part, source: Path, suffix: str) -> bool:
    """Whether FFmpeg can mux this part into this container and read it back."""
    out = part.path.with_name(f"out{suffix}")
    try:
        with SideStreams(source, Fraction(0), TimeRange(), suffix, False) as side_streams:
            assemble([part], INFO, out, side_streams)
        with av.open(str(out)) as container:
            return sum(1 for _ in container.decode(video=0)) == 3
    except (OutputError, av.FFmpegError):
        return False


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Part]:
    return {codec: encode(tmp_path_factory.mktemp("parts") / codec, codec) for codec in ENCODERS}


@pytest.mark.parametrize(("suffix", "codec"), list(itertools.product(CONTAINERS, ENCODERS)))
def test_a_codec_is_refused_exactly_where_ffmpeg_cannot_mux_it(
    parts: dict[str, Part], clip: Path, suffix: str, codec: str
) -> None:
    assert (codec in codecs_in(suffix)) == can_mux(parts[codec], clip, suffix)


REJECTED = [(suffix, codec) for suffix in CONTAINERS for codec in ENCODERS if codec not in codecs_in(suffix)]


class NotCalled(Same):
    """A function that fails if it is called."""

    def __call__(self, frame: Image) -> Image:
        raise AssertionError("a frame was styled")

    def prepare(self, width: int, height: int) -> None:
        raise AssertionError("the model was compiled")


@pytest.mark.parametrize(("suffix", "codec"), REJECTED)
def test_a_codec_that_the_container_cannot_hold_is_refused_before_the_first_frame(
    clip: Path, tmp_path: Path, suffix: str, codec: str
) -> None:
    with pytest.raises(OutputError) as caught:
        convert_file(clip, tmp_path / f"out{suffix}", NotCalled(), ConvertOptions(codec=codec))
    message = str(caught.value)
    assert f"{suffix} cannot hold {codec}, it holds {', '.join(codecs_in(suffix))}" in message and "\n" not in message
    assert ".mkv" in message and f"use --codec {CONTAINERS[suffix]}, or" in message
    assert list(tmp_path.iterdir()) == []


def test_tracks_that_the_container_refuses_are_an_error_before_the_first_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "in.mkv", [SoundTrack("pcm_u8")])
    monkeypatch.setattr("cyclecast.video.files.side_streams.can_hold", lambda *_: True)  # FFmpeg would be wrong about it
    with pytest.raises(
        OutputError, match=r"\.webm cannot hold the tracks of .*in\.mkv \(.+\); if it is the sound, --no-audio"
    ) as caught:
        convert_file(source, tmp_path / "out.webm", NotCalled(), ConvertOptions())
    assert "resumes" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_known_pairs_are_among_the_refused_ones() -> None:
    assert set(REJECTED) >= {(".webm", "h264"), (".webm", "hevc"), (".mov", "vp9"), (".mov", "av1"), (".m4v", "hevc")}
    assert not any(suffix in (".mkv", ".mp4") for suffix, codec in REJECTED if codec in WORST)
    assert {codecs[-2:] for codecs in (codecs_in(".mkv"), codecs_in(".mov"))} == {("prores", "ffv1"), ("hevc", "prores")}


@pytest.mark.parametrize("codec", ENCODERS)
def test_a_pixel_format_is_converted_or_refused_before_the_first_frame(clip: Path, tmp_path: Path, codec: str) -> None:
    """Tries every format that the encoder lists, and one that it does not."""
    formats = [form for form in (av.Codec(ENCODERS[codec].name, "w").video_formats or []) if form.components]
    for name in [form.name for form in formats if not form.name.startswith(("yuvj", "yuva"))] + ["yuv411p"]:
        options = ConvertOptions(codec=codec, pix_fmt=name, duration=Fraction(1, 10))
        out = tmp_path / f"{name}.mkv"
        function = Counting()
        try:
            convert_file(clip, out, function, options)
        except (ConfigError, OutputError) as error:
            assert function.frames == 0 and name in str(error), (name, error)
            assert list(tmp_path.iterdir()) == []
        else:
            out.unlink()


class Counting(Negative):
    frames = 0

    def __call__(self, frame: Image) -> Image:
        self.frames += 1
        return super().__call__(frame)


def test_every_container_has_a_default_codec_that_it_holds(tmp_path: Path) -> None:
    for suffix in CONTAINERS:
        assert output_encoding(tmp_path / f"out{suffix}", ConvertOptions()).codec in codecs_in(suffix)


def test_a_gif_has_no_codec_and_an_unknown_suffix_no_container(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a GIF has no pix_fmt; leave out --pix-fmt"):
        output_encoding(tmp_path / "out.gif", ConvertOptions(pix_fmt="yuv420p"))
    with pytest.raises(OutputError, match=r"out\.xyz: no container of that name; there are: \.mp4"):
        output_encoding(tmp_path / "out.xyz", ConvertOptions())
