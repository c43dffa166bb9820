"""Sound tracks, subtitles, chapters, tags and fonts are kept; what the container cannot hold is reported."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition

from tests.conftest import moving_frames, shared
from tests.video.clips import (
    SUBTITLES,
    SoundTrack,
    convert,
    decode_sound,
    describe_tracks,
    frame_times,
    lag,
    make_video,
    make_video_with_packets,
    read_packets,
)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_every_sound_track_keeps_its_language_title_and_role(tmp_path: Path, suffix: str) -> None:
    codec = {".mov": "aac", ".webm": "opus"}.get(suffix, "mp3")
    encoder = {"opus": "libopus", "mp3": "libmp3lame"}.get(codec, codec)
    source = make_video(
        tmp_path / "in.mkv", [SoundTrack(encoder, tone=300), SoundTrack(encoder, tone=500), SoundTrack(encoder, tone=700)]
    )
    report = convert(source, tmp_path / f"out{suffix}")
    assert report.audio == "copied" and report.dropped == []
    assert describe_tracks(tmp_path / f"out{suffix}", "audio") == [
        (codec, "ger" if suffix == ".mov" else "deu", "Ton 0", Disposition(0)),
        (codec, "eng", "Ton 1", Disposition.default),
        (codec, "fra", "Ton 2", Disposition(0) if suffix in (".webm", ".mov") else Disposition.comment),
    ]
    for number in range(3):
        ours, theirs = read_packets(tmp_path / f"out{suffix}", "audio", number), read_packets(source, "audio", number)
        assert [data for *_, data in ours] == [data for *_, data in theirs]
        assert max(abs(a - b) for (a, *_), (b, *_) in zip(ours, theirs, strict=True)) <= Fraction(1, 48_000)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "mov_text"), (".mov", "mov_text"), (".mkv", "subrip"), (".webm", "webvtt")]
)
def test_subtitles_are_converted_to_the_format_of_the_container(tmp_path: Path, suffix: str, codec: str) -> None:
    source = make_video(tmp_path / "in.mkv", [SoundTrack("libopus")], ["deu", "eng"])
    report = convert(source, tmp_path / f"out{suffix}")
    assert report.dropped == [] and report.damage is None
    assert [(name, language) for name, language, *_ in describe_tracks(tmp_path / f"out{suffix}", "subtitle")] == [
        (codec, "ger" if suffix == ".mov" else "deu"),
        (codec, "eng"),
    ]
    for number in (0, 1):
        found = [entry for entry in read_packets(tmp_path / f"out{suffix}", "subtitle", number) if len(entry[2]) > 2]
        assert [(float(at), float(at + length)) for at, length, _ in found] == [(a, b) for a, b, _ in SUBTITLES]
        assert all(line.encode() in data for (*_, line), (*_, data) in zip(SUBTITLES, found, strict=True))


def test_image_subtitles_are_copied_or_reported(tmp_path: Path) -> None:
    source = make_video_with_packets(tmp_path / "in.mkv", "hdmv_pgs_subtitle")
    assert convert(source, tmp_path / "out.mkv").dropped == []
    assert read_packets(tmp_path / "out.mkv", "subtitle") == read_packets(source, "subtitle")
    for suffix in (".mp4", ".webm"):
        assert convert(source, tmp_path / f"out{suffix}").dropped == [f"subtitles 1: {suffix} cannot hold hdmv_pgs_subtitle"]


def test_a_data_track_is_reported(tmp_path: Path) -> None:
    assert convert(make_video_with_packets(tmp_path / "in.ts", "klv"), tmp_path / "out.mp4").dropped == ["data track 1"]


def test_a_timecode_track_is_reported(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mov"), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata["timecode"] = "01:00:00:00"
        for image in moving_frames(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        out.mux(stream.encode(None))
    for suffix in (".mp4", ".mov", ".mkv"):
        report = convert(tmp_path / "in.mov", tmp_path / f"out{suffix}")
        assert (report.frames, report.dropped) == (3, ["data track 1"])


def test_fonts_are_kept_in_mkv_and_reported_elsewhere(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.add_attachment("Tiny.ttf", "font/ttf", b"a font")
        for image in moving_frames(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        out.mux(stream.encode(None))
    assert convert(tmp_path / "in.mkv", tmp_path / "out.mkv").dropped == []
    with av.open(str(tmp_path / "out.mkv")) as container:
        font: Any = next(stream for stream in container.streams if stream.type == "attachment")
        assert (font.name, font.mimetype, bytes(font.data)) == ("Tiny.ttf", "font/ttf", b"a font")
    assert convert(tmp_path / "in.mkv", tmp_path / "out.mp4").dropped == ["attachment track 1"]


def test_a_cover_image_is_reported(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mp4"), "w") as out:
        stream, cover = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"}), out.add_stream("png", rate=25)
        for track, pix_fmt in ((stream, "yuv420p"), (cover, "rgb24")):
            track.width, track.height, track.pix_fmt = 64, 48, pix_fmt
        cover.disposition = Disposition.attached_pic
        for track, images in ((cover, moving_frames(1)), (stream, moving_frames(3))):
            for index, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=track.pix_fmt)
                frame.pts = index
                out.mux(track.encode(frame))
            out.mux(track.encode(None))
    report = convert(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert (report.frames, report.dropped) == (3, ["cover image 1"])


PHONE_TAGS = {
    "com.apple.quicktime.make": "Apple",
    "com.apple.quicktime.creationdate": "2024-05-06T07:08:09+0200",
    "com.apple.quicktime.location.ISO6709": "+48.8577+002.2950+035.000/",
    "title": "Paris",
}


def read_tags(path: Path) -> dict[str, str]:
    """Reads the tags of the file. Matroska has its own names in capitals."""
    with av.open(str(path)) as container:
        return {key.lower(): value for key, value in container.metadata.items()}


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".m4v", ".mkv"])
@pytest.mark.parametrize("tags", [PHONE_TAGS, {"my_own_tag": "mine", "artist": "me"}])
def test_tags_of_any_name_are_kept(tmp_path: Path, suffix: str, tags: dict[str, str]) -> None:
    source = tmp_path / "in.mov"
    with av.open(str(source), "w", options={"movflags": "use_metadata_tags"}) as out:
        out.metadata.update(tags)
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for image in moving_frames(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        out.mux(stream.encode(None))
    convert(source, tmp_path / f"out{suffix}")
    kept = read_tags(tmp_path / f"out{suffix}")
    assert {key.lower(): value for key, value in tags.items()}.items() <= kept.items()


def test_usual_tags_stay_in_the_usual_boxes(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", title="A lake", artist="me", location="+48.8577+002.2950/")
    for suffix in (".mp4", ".mov"):
        convert(source, tmp_path / f"out{suffix}")
        assert b"\xa9nam" in (tmp_path / f"out{suffix}").read_bytes()  # where every player looks for a title
    assert convert(source, tmp_path / "out.gif", preset=None).dropped == ["tags: artist, location, location-eng, title"]


def test_the_tags_of_a_phone_are_kept(tmp_path: Path) -> None:
    source = shared("faults/footage/iphone.mov")
    convert(source, tmp_path / "out.mov")
    expected = {key: value for key, value in read_tags(source).items() if key.startswith("com.apple.") or key == "title"}
    assert len(expected) == 4 and expected.items() <= read_tags(tmp_path / "out.mov").items()


CHAPTERS = [
    {"id": n, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
    for n, (a, b, title) in enumerate([(0, 500, "dawn"), (500, 1200, "noon"), (1200, 2000, "dusk")])
]


def chapters(path: Path) -> list[tuple[Fraction, Fraction, str]]:
    with av.open(str(path)) as container:
        found: list[Any] = container.chapters()
        return [(c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]["title"]) for c in found]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_chapters_are_kept_and_cut(tmp_path: Path, suffix: str) -> None:
    source = make_video(tmp_path / "in.mkv", chapters=CHAPTERS)
    out = tmp_path / f"out{suffix}"
    convert(source, out)
    assert chapters(out) == chapters(source) != []
    again = convert(out, tmp_path / f"again{suffix}")  # MP4 stores chapters as a track, which is not reported
    assert again.dropped == [] and chapters(tmp_path / f"again{suffix}") == chapters(source)
    convert(source, tmp_path / f"part{suffix}", start=Fraction("0.6"), duration=Fraction("0.8"))
    assert chapters(tmp_path / f"part{suffix}") == [
        (Fraction(0), Fraction("0.6"), "noon"),
        (Fraction("0.6"), Fraction("0.8"), "dusk"),
    ]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_tags_are_kept_except_those_of_the_container(tmp_path: Path, suffix: str) -> None:
    tags: dict[str, Any] = {
        "title": "Der See",
        "artist": "Ada",
        "date": "2019",
        "BPS-eng": "9",
        "NUMBER_OF_FRAMES": "9",
        "comment": "still",
    }
    source = make_video(tmp_path / "in.mkv", **tags, creation_time="2019-05-06T07:08:09.000000Z")
    convert(source, tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        found = {key.lower(): value for key, value in container.metadata.items()}
        kept = {key: found.get(key) for key in ("title", "artist", "date", "comment")}
    assert kept == {key: tags[key] for key in kept}
    assert "creation_time" in found or suffix == ".webm"
    assert not {"bps-eng", "number_of_frames"} & found.keys()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_start_and_duration_cut_all_tracks_alike(tmp_path: Path, suffix: str) -> None:
    source = make_video(tmp_path / "in.mkv", [SoundTrack()], ["eng"])
    out = tmp_path / f"out{suffix}"
    report = convert(source, out, start=Fraction("0.41"), duration=Fraction("1.2"))
    assert report.frames == 30  # from 0.44 to 1.60
    assert [float(t) for t in frame_times(out)] == pytest.approx([0.03 + n / 25 for n in range(30)], abs=1e-9)
    spans = [(at, at + length) for at, length, _ in read_packets(out, "audio")]
    assert -0.03 < spans[0][0] <= 0 < spans[0][1] and 1.2 <= spans[-1][1] < 1.23
    assert abs(lag(decode_sound(out)[:48_000], decode_sound(source)[round(0.41 * 48_000) :][:48_000])) <= 48
    found = [(float(at), float(at + length)) for at, length, text in read_packets(out, "subtitle") if len(text) > 2]
    assert found == [(0.0, 0.29), (0.49, 0.89), (1.09, 1.2)]


def test_subtitles_are_interleaved_with_the_frames(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", [SoundTrack("libopus")], ["eng"])
    convert(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        order = [(p.dts or 0) * p.time_base for p in container.demux() if p.size]
    assert all(after - before > Fraction(-1, 5) for before, after in zip(order, order[1:], strict=False))
