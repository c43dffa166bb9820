"""Sound stays in step with the pictures, to the sample where it is copied, whatever it comes from and whatever it becomes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.conftest import shared
from tests.video.convert.test_convert import times
from tests.video.films import Sound, convert, described, film, heard, lag, likeness, packets, with_packets


def test_sound_that_ffmpeg_calls_by_two_names_is_copied(tmp_path: Path) -> None:
    core = bytes.fromhex("7ffe8001fc3c3ff0b5e00138").ljust(1024, b"\0")  # a DTS frame's head
    source = with_packets(tmp_path / "in.mkv", "dts", core)
    assert (convert(source, tmp_path / "out.mkv")).audio == "copied"


@pytest.mark.parametrize("begin", [-0.5, 0.0, 0.3])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_sound_begins_where_it_began(tmp_path: Path, suffix: str, begin: float) -> None:
    source = film(tmp_path / "in.mp4", [Sound(begin=begin)])
    for out, options in ((tmp_path / f"a{suffix}", {}), (tmp_path / f"b{suffix}", {"start": Fraction("0.64")})):
        report = convert(source, out, **options)
        before, after = heard(source), heard(out)
        before = before[round(options.get("start", Fraction(0)) * 48_000) :]
        after = after[: len(before)]
        assert abs(lag(after, before)) <= (1 if suffix == ".mp4" else 48)  # a millisecond is Matroska's tick
        assert likeness(np.roll(after, -lag(after, before))[4800:], before[4800:]) > (0.999 if report.audio == "copied" else 0.9)
    if suffix != ".webm":
        moved = [at - Fraction("0.64") for at, *_ in packets(source, "audio") if at >= Fraction("0.64")]
        ours = [at for at, *_ in packets(tmp_path / f"b{suffix}", "audio") if at >= 0]
        assert all(abs(a - b) <= (0 if suffix == ".mp4" else Fraction(1, 1000)) for a, b in zip(ours, moved, strict=True))


@pytest.mark.parametrize(("suffix", "codec", "begin"), [(".avi", "ac3", 0), (".ts", "aac", 5000)])
def test_sound_in_step_whatever_the_source_s_clock(tmp_path: Path, suffix: str, codec: str, begin: int) -> None:
    source = film(tmp_path / f"in{suffix}", [Sound(codec, begin=begin)], begin=25 * begin)
    early = film(tmp_path / "early.mp4", [Sound(codec)]) if begin else source
    for number, options in enumerate(({}, {"start": Fraction("0.45")})):
        out = tmp_path / f"{number}.mp4"
        frames = convert(source, out, **options).frames
        moved = times(out)[0] - times(early)[50 - frames]  # of the pictures
        assert abs(lag(heard(out), heard(early)) - round(moved * 48_000)) <= 24


def test_a_window_without_sound(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mp4", [Sound(begin=1.0, seconds=0.5)], frames=25)
    for suffix in (".mp4", ".webm"):
        assert convert(source, tmp_path / f"out{suffix}", duration=Fraction("0.4")).frames == 10


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_a_gap_in_the_sound_stays_one(tmp_path: Path, codec: str) -> None:
    source = film(tmp_path / "in.mkv", [Sound(codec, gap=0.4)])
    for suffix in (".mp4", ".webm"):
        convert(source, tmp_path / f"out{suffix}")
        before, after = heard(source), heard(tmp_path / f"out{suffix}")
        for part in (slice(4_800, 43_200), slice(72_000, 110_000)):
            late = lag(after[part], before[part])
            assert abs(late) <= 48 and likeness(np.roll(after[part], -late), before[part]) > 0.99


def test_sound_whose_clock_jumps_back_is_named_and_the_rest_kept(tmp_path: Path) -> None:
    first = film(tmp_path / "a.ts", [Sound("mp2", seconds=1.0)], frames=25)
    second = film(tmp_path / "b.ts", [Sound("mp2", seconds=1.0, begin=0.7)], frames=25, begin=25)
    (tmp_path / "in.ts").write_bytes(first.read_bytes() + second.read_bytes())
    for suffix in (".mp4", ".webm"):
        report = convert(tmp_path / "in.ts", tmp_path / f"out{suffix}")
        assert report.frames == 50 and report.damage is not None
        assert report.damage.endswith(" packets of sound or subtitles are out of order")
        ends = [at + length for at, length, _ in packets(tmp_path / f"out{suffix}", "audio")]
        assert 1.6 < ends[-1] < 1.75


@pytest.mark.parametrize(
    ("codec", "suffix", "becomes"),
    [
        ("libopus", ".mp4", "opus"),
        ("libopus", ".mov", "aac"),
        ("flac", ".mp4", "flac"),
        ("flac", ".mov", "aac"),
        ("pcm_s16le", ".mp4", "pcm_s16le"),
        ("pcm_s16le", ".mov", "pcm_s16le"),
        ("pcm_s16le", ".webm", "opus"),
        ("flac", ".webm", "opus"),
        ("pcm_u8", ".mp4", "aac"),
    ],
)
def test_sound_in_step_whatever_it_becomes(tmp_path: Path, codec: str, suffix: str, becomes: str) -> None:
    source = film(tmp_path / "in.mkv", [Sound(codec)])
    out = tmp_path / f"out{suffix}"
    report = convert(source, out)
    assert described(out, "audio")[0][:3] == (becomes, "ger" if suffix == ".mov" else "deu", "Ton 0")
    assert report.audio == ("copied" if becomes in codec else "transcoded")
    before, after = heard(source), heard(out)
    assert abs(lag(after, before)) <= 48 and likeness(np.roll(after, -lag(after, before)), before) > 0.9


def test_sound_that_changes_its_form_on_the_way(tmp_path: Path) -> None:
    stereo = film(tmp_path / "a.mkv", [Sound("mp2", seconds=1.0, layout="stereo")])
    mono = film(tmp_path / "b.mkv", [Sound("mp2", seconds=1.0, begin=1.0, layout="mono")])
    with av.open(str(stereo)) as one, av.open(str(mono)) as two, av.open(str(tmp_path / "in.mkv"), "w") as out:
        tracks: dict[str, Any] = {"video": out.add_stream_from_template(one.streams.video[0], opaque=True)}
        tracks["audio"] = out.add_stream_from_template(one.streams.audio[0])
        for container in (one, two):
            for packet in container.demux():
                if packet.size and (container is one or packet.stream.type == "audio"):
                    packet.stream = tracks[packet.stream.type]
                    out.mux(packet)
    source = tmp_path / "in.mkv"
    convert(source, tmp_path / "out.webm")
    with av.open(str(tmp_path / "out.webm")) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == pytest.approx(96_000, abs=3_000)


def test_five_channels_become_two(tmp_path: Path) -> None:
    small = film(tmp_path / "small.mkv", frames=125)
    clip = shared("media/clips/bigbuckbunny.mp4")
    with av.open(str(small)) as one, av.open(str(clip)) as two, av.open(str(tmp_path / "in.mp4"), "w") as out:
        pairs = [
            (c, s, out.add_stream_from_template(s, opaque=True))
            for c, s in ((one, one.streams.video[0]), (two, two.streams.audio[0]))
        ]
        for container, stream, track in pairs:
            for packet in container.demux(stream):
                if packet.size:
                    packet.stream = track
                    out.mux(packet)
    source = tmp_path / "in.mp4"
    report = convert(source, tmp_path / "out.webm")
    with av.open(str(tmp_path / "out.webm")) as container:
        assert container.streams.audio[0].layout.name == "stereo"
    assert (report.audio, report.frames) == ("transcoded", 125)
    before, after = heard(source), heard(tmp_path / "out.webm")
    assert abs(lag(after, before)) <= 1 and likeness(after, before) > 0.9


def test_broadcast_sound_gets_the_head_that_mp4_wants(tmp_path: Path) -> None:
    source = film(tmp_path / "in.ts", [Sound("aac")])
    out = tmp_path / "out.mp4"
    assert convert(source, out).audio == "copied"
    assert abs(lag(heard(out), heard(source))) <= 1 and likeness(heard(out), heard(source)) > 0.99
    assert len(packets(out, "audio")) == len(packets(source, "audio"))


def test_packets_of_less_than_a_tick_keep_their_order(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", [Sound("pcm_s16le", chunk=20)])  # 0.4 ms of sound, where times are in ms
    report = convert(source, tmp_path / "out.mp4")
    assert (report.audio, report.damage) == ("copied", None)
    ours, theirs = packets(tmp_path / "out.mp4", "audio"), packets(source, "audio")
    assert b"".join(data for *_, data in ours) == b"".join(data for *_, data in theirs)
    assert max(abs(heard(tmp_path / "out.mp4") - heard(source))) < 1e-3
