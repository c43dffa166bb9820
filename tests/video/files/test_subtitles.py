"""Texts that overlap keep their times in containers that show one at a time; drawings are reported."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.conftest import shared
from tests.video.clips import convert, make_video, read_packets

Cue = tuple[float, float, str]  # begin and end in seconds, text


def with_subtitles(path: Path, cues: list[Cue], suffix: str = ".ass") -> Path:
    """Writes a two-second video with these subtitles, in Matroska."""
    file = path.with_suffix(suffix)
    if suffix == ".ass":
        events = "".join(f"Dialogue: 0,{clock(a)},{clock(b)},Default,,0,0,0,,{text}\n" for a, b, text in cues)
        style = "Style: Default,Arial,20,&HFFFFFF,&HFFFFFF,0,0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1\n"
        file.write_text(
            "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize, PrimaryColour, "
            "SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, "
            f"BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding\n{style}\n[Events]\n"
            f"Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n{events}"
        )
    else:
        lines = (f"{n}\n0{clock(a)}0 --> 0{clock(b)}0\n{text}\n" for n, (a, b, text) in enumerate(cues, 1))
        file.write_text("\n".join(lines).replace(".", ","))
    plain = make_video(path.with_name("plain.mkv"))
    with av.open(str(plain)) as video, av.open(str(file)) as texts, av.open(str(path), "w") as out:
        tracks = {id(c): out.add_stream_from_template(c.streams[0], opaque=True) for c in (video, texts)}
        packets = [(packet, tracks[id(c)]) for c in (video, texts) for packet in c.demux() if packet.size]
        for packet, track in sorted(packets, key=lambda pair: (pair[0].dts or 0) * (pair[0].time_base or 0)):
            packet.stream = track
            out.mux(packet)
    return path


def clock(seconds: float) -> str:
    return f"0:00:{seconds:05.2f}"


def read_cues(path: Path) -> list[Cue]:
    """Reads the texts of an MP4 file, without the empty packets between them."""
    found = read_packets(path, "subtitle")
    return [(float(a), float(a + length), data[2 : 2 + data[1]].decode()) for a, length, data in found if data[1] and length]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v"])
@pytest.mark.parametrize("container", [".ass", ".srt"])
def test_overlapping_texts_keep_their_times(tmp_path: Path, suffix: str, container: str) -> None:
    cues = [(0.2, 1.6, "SIGN"), (0.4, 0.8, "one"), (0.6, 1.0, "two"), (1.2, 1.8, "three"), (1.9, 2.0, "four")]
    report = convert(with_subtitles(tmp_path / "in.mkv", cues, container), tmp_path / f"out{suffix}")
    assert report.dropped == [] and report.damage is None
    assert read_cues(tmp_path / f"out{suffix}") == [
        (0.2, 0.4, "SIGN"),
        (0.4, 0.6, "SIGN\none"),
        (0.6, 0.8, "SIGN\none\ntwo"),
        (0.8, 1.0, "SIGN\ntwo"),
        (1.0, 1.2, "SIGN"),
        (1.2, 1.6, "SIGN\nthree"),
        (1.6, 1.8, "three"),
        (1.9, 2.0, "four"),
    ]


def test_texts_of_the_same_time_are_shown_together(tmp_path: Path) -> None:
    cues = [(0.2, 0.8, "above"), (0.2, 0.8, "below"), (0.8, 1.0, "next")]
    convert(with_subtitles(tmp_path / "in.mkv", cues), tmp_path / "out.mp4")
    assert read_cues(tmp_path / "out.mp4") == [(0.2, 0.8, "above\nbelow"), (0.8, 1.0, "next")]


def test_containers_that_show_several_texts_keep_them_apart(tmp_path: Path) -> None:
    cues = [(0.2, 1.6, "SIGN"), (0.4, 0.8, "one")]
    convert(with_subtitles(tmp_path / "in.mkv", cues), tmp_path / "out.webm")
    found = read_packets(tmp_path / "out.webm", "subtitle")
    assert [(float(a), float(a + b), data.decode()) for a, b, data in found] == cues


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_drawings_are_left_out_and_reported(tmp_path: Path, suffix: str) -> None:
    shape = r"{\an7\p1}m 0 0 l 100 0 100 100 0 100"
    cues = [(0.2, 1.6, shape), (0.4, 0.8, "one"), (1.0, 1.2, shape + r"{\p0}label"), (1.4, 1.6, r"{\pos(3,4)}two")]
    report = convert(with_subtitles(tmp_path / "in.mkv", cues), tmp_path / f"out{suffix}")
    assert report.dropped == ["2 drawings in subtitles 1"]
    texts = b"".join(data for *_, data in read_packets(tmp_path / f"out{suffix}", "subtitle"))
    assert all(text in texts for text in (b"one", b"label", b"two")) and b"100" not in texts


def test_the_faulty_subtitles_keep_their_times(tmp_path: Path) -> None:
    convert(shared("faults/footage/sign.mkv"), tmp_path / "out.mp4")
    assert [cue for cue in read_cues(tmp_path / "out.mp4") if "\n" in cue[2]] == [
        (2.0, 3.0, "SIGN\nHello."),
        (4.0, 5.0, "SIGN\nHow are you?"),
    ]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v"])
def test_chapters_without_a_title_get_no_other(tmp_path: Path, suffix: str) -> None:
    begin = [{"id": n, "start": 500 * n, "end": 500 * (n + 1), "time_base": Fraction(1, 1000)} for n in range(4)]
    titles = [{}, {"title": "noon"}, {}, {"title": "dusk"}]
    chapters = [chapter | {"metadata": title} for chapter, title in zip(begin, titles, strict=True)]
    convert(make_video(tmp_path / "in.mkv", chapters=chapters), tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        found = container.chapters()
    assert [chapter["metadata"].get("title", "") for chapter in found] == ["", "noon", "", "dusk"]
    assert [float(chapter["start"] * (chapter["time_base"] or 0)) for chapter in found] == [0, 0.5, 1, 1.5]
