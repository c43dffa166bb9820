"""Sound stays in sync with the frames for every source and codec; copied sound is exact to the sample."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from cyclecast.video.files.side_streams import SideStreams
from cyclecast.video.files.time_range import TimeRange
from tests.conftest import moving_frames, shared
from tests.video.clips import (
    SoundTrack,
    convert,
    correlation,
    decode_sound,
    describe_tracks,
    frame_times,
    lag,
    make_video,
    make_video_with_packets,
    read_packets,
)


def test_a_codec_with_two_names_in_ffmpeg_is_copied(tmp_path: Path) -> None:
    core = bytes.fromhex("7ffe8001fc3c3ff0b5e00138").ljust(1024, b"\0")  # header of a DTS frame
    source = make_video_with_packets(tmp_path / "in.mkv", "dts", core)
    assert (convert(source, tmp_path / "out.mkv")).audio == "copied"


@pytest.mark.parametrize("start", [-0.5, 0.0, 0.3])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_sound_starts_at_the_same_time(tmp_path: Path, suffix: str, start: float) -> None:
    source = make_video(tmp_path / "in.mp4", [SoundTrack(start=start)])
    for out, options in ((tmp_path / f"a{suffix}", {}), (tmp_path / f"b{suffix}", {"start": Fraction("0.64")})):
        report = convert(source, out, **options)
        before, after = decode_sound(source), decode_sound(out)
        before = before[round(options.get("start", Fraction(0)) * 48_000) :]
        after = after[: len(before)]
        assert abs(lag(after, before)) <= (1 if suffix == ".mp4" else 48)  # a millisecond is Matroska's tick
        assert correlation(np.roll(after, -lag(after, before))[4800:], before[4800:]) > (
            0.999 if report.audio == "copied" else 0.9
        )
    if suffix != ".webm":
        moved = [at - Fraction("0.64") for at, *_ in read_packets(source, "audio") if at >= Fraction("0.64")]
        ours = [at for at, *_ in read_packets(tmp_path / f"b{suffix}", "audio") if at >= 0]
        assert all(abs(a - b) <= (0 if suffix == ".mp4" else Fraction(1, 1000)) for a, b in zip(ours, moved, strict=True))


@pytest.mark.parametrize(("suffix", "codec", "start"), [(".avi", "ac3", 0), (".ts", "aac", 5000)])
def test_sound_stays_in_sync_with_late_timestamps(tmp_path: Path, suffix: str, codec: str, start: int) -> None:
    source = make_video(tmp_path / f"in{suffix}", [SoundTrack(codec, start=start)], start=25 * start)
    early = make_video(tmp_path / "early.mp4", [SoundTrack(codec)]) if start else source
    for number, options in enumerate(({}, {"start": Fraction("0.45")})):
        out = tmp_path / f"{number}.mp4"
        frames = convert(source, out, **options).frames
        moved = frame_times(out)[0] - frame_times(early)[50 - frames]  # shift of the frames in seconds
        assert abs(lag(decode_sound(out), decode_sound(early)) - round(moved * 48_000)) <= 24


def test_a_time_range_without_sound_is_converted(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", [SoundTrack(start=1.0, seconds=0.5)], frames=25)
    for suffix in (".mp4", ".webm"):
        assert convert(source, tmp_path / f"out{suffix}", duration=Fraction("0.4")).frames == 10


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_a_gap_in_the_sound_is_kept(tmp_path: Path, codec: str) -> None:
    source = make_video(tmp_path / "in.mkv", [SoundTrack(codec, gap=0.4)])
    for suffix in (".mp4", ".webm"):
        convert(source, tmp_path / f"out{suffix}")
        before, after = decode_sound(source), decode_sound(tmp_path / f"out{suffix}")
        for part in (slice(4_800, 43_200), slice(72_000, 110_000)):
            shift = lag(after[part], before[part])
            assert abs(shift) <= 48 and correlation(np.roll(after[part], -shift), before[part]) > 0.99


def test_sound_whose_timestamps_jump_back_is_reported_and_the_rest_is_kept(tmp_path: Path) -> None:
    first = make_video(tmp_path / "a.ts", [SoundTrack("mp2", seconds=1.0)], frames=25)
    second = make_video(tmp_path / "b.ts", [SoundTrack("mp2", seconds=1.0, start=0.7)], frames=25, start=25)
    (tmp_path / "in.ts").write_bytes(first.read_bytes() + second.read_bytes())
    for suffix in (".mp4", ".webm"):
        report = convert(tmp_path / "in.ts", tmp_path / f"out{suffix}")
        assert report.frames == 50 and report.damage is not None
        assert report.damage.endswith(" packets of sound or subtitles are out of order")
        ends = [at + length for at, length, _ in read_packets(tmp_path / f"out{suffix}", "audio")]
        assert 1.6 < ends[-1] < 1.75


@pytest.mark.parametrize(
    ("codec", "suffix", "output_codec"),
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
def test_sound_stays_in_sync_for_every_output_codec(tmp_path: Path, codec: str, suffix: str, output_codec: str) -> None:
    source = make_video(tmp_path / "in.mkv", [SoundTrack(codec)])
    out = tmp_path / f"out{suffix}"
    report = convert(source, out)
    assert describe_tracks(out, "audio")[0][:3] == (output_codec, "ger" if suffix == ".mov" else "deu", "Ton 0")
    assert report.audio == ("copied" if output_codec in codec else "transcoded")
    before, after = decode_sound(source), decode_sound(out)
    assert abs(lag(after, before)) <= 48 and correlation(np.roll(after, -lag(after, before)), before) > 0.9


def join_sound(first: Path, second: Path, joined: Path) -> Path:
    """The first video, its sound followed by that of the second."""
    with av.open(str(first)) as one, av.open(str(second)) as two, av.open(str(joined), "w") as out:
        tracks: dict[str, Any] = {"video": out.add_stream_from_template(one.streams.video[0], opaque=True)}
        tracks["audio"] = out.add_stream_from_template(one.streams.audio[0])
        for container in (one, two):
            for packet in container.demux():
                if packet.size and (container is one or packet.stream.type == "audio"):
                    packet.stream = tracks[packet.stream.type]
                    out.mux(packet)
    return joined


def test_sound_whose_layout_changes_is_converted(tmp_path: Path) -> None:
    stereo = make_video(tmp_path / "a.mkv", [SoundTrack("mp2", seconds=1.0, layout="stereo")])
    mono = make_video(tmp_path / "b.mkv", [SoundTrack("mp2", seconds=1.0, start=1.0, layout="mono")])
    source = join_sound(stereo, mono, tmp_path / "in.mkv")
    assert convert(source, tmp_path / "out.webm").dropped == []
    with av.open(str(tmp_path / "out.webm")) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == pytest.approx(96_000, abs=3_000)


def test_surround_sound_that_starts_as_stereo_is_reported(tmp_path: Path) -> None:
    stereo = make_video(tmp_path / "a.mkv", [SoundTrack("ac3", seconds=1.0, chunk=1536)])
    surround = make_video(tmp_path / "b.mkv", [SoundTrack("ac3", seconds=0.9, start=1.1, layout="5.1(side)", chunk=1536)])
    report = convert(join_sound(stereo, surround, tmp_path / "in.mkv"), tmp_path / "out.webm")
    assert report.dropped == ["the layout of sound track 1, 5.1(side), which became stereo"]
    early = make_video(tmp_path / "c.mkv", [SoundTrack("ac3", seconds=0.9, layout="5.1(side)", chunk=1536)])
    late = make_video(tmp_path / "d.mkv", [SoundTrack("ac3", seconds=0.9, start=1.1, chunk=1536)])
    report = convert(join_sound(early, late, tmp_path / "in.mkv"), tmp_path / "out.webm", overwrite=True)
    assert (report.dropped, audio_layout(tmp_path / "out.webm")) == ([], "5.1")


def audio_layout(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.streams.audio[0].layout.name


def make_channel_test(path: Path, layout: str) -> Path:
    """Writes a second of video whose sound has a different tone in each channel, see `tone_of`."""
    channels = [channel.name for channel in av.AudioLayout(layout).channels]
    clock = np.arange(48_000) / 48_000
    waves = np.stack([8_000 * np.sin(2 * np.pi * tone_of(name) * clock) for name in channels], 1)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        track = out.add_stream("flac", rate=48_000, layout=layout)
        for index, image in enumerate(moving_frames(25)):
            video_frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            video_frame.pts, video_frame.time_base = index, Fraction(1, 25)
            out.mux(video.encode(video_frame))
            samples = waves[1920 * index : 1920 * (index + 1)].astype(np.int16).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(samples, "s16", layout)
            frame.sample_rate, frame.time_base, frame.pts = 48_000, Fraction(1, 48_000), 1920 * index
            out.mux(track.encode(frame))
        out.mux(video.encode(None))
        out.mux(track.encode(None))
    return path


def tone_of(channel: str) -> int:
    """The tone of a channel, in Hz."""
    return {"FL": 300, "FR": 400, "FC": 500, "LFE": 60, "BL": 700, "BR": 800, "BC": 900, "SL": 1000, "SR": 1100}[channel]


def tones_in(path: Path) -> dict[str, list[int]]:
    """Channel -> the tones that it contains, in Hz."""
    with av.open(str(path)) as container:
        layout = container.streams.audio[0].layout
        resampler = av.AudioResampler("s16", layout, 48_000)
        parts = [part.to_ndarray() for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    waves = np.concatenate(parts, 1).reshape(-1, layout.nb_channels)[12_000:36_000].astype(np.float64)
    spectra = np.abs(np.fft.rfft(waves * np.hanning(24_000)[:, None], axis=0)) / 6_000
    tones = (300, 400, 500, 60, 700, 800, 900, 1000, 1100)
    return {c.name: [tone for tone in tones if spectra[tone // 2, k] > 500] for k, c in enumerate(layout.channels)}


@pytest.mark.parametrize("suffix", [".webm", ".mov"])  # Opus, AAC
@pytest.mark.parametrize("layout", ["mono", "stereo", "3.0", "quad", "5.0", "5.1", "7.1"])
def test_every_channel_keeps_its_place(tmp_path: Path, layout: str, suffix: str) -> None:
    source = make_channel_test(tmp_path / "in.mkv", layout)
    report = convert(source, tmp_path / f"out{suffix}")
    became = "5.1" if (layout, suffix) == ("5.0", ".webm") else layout  # FFmpeg mixes up the channels of Opus in 5.0
    assert report.audio == "transcoded" and audio_layout(tmp_path / f"out{suffix}") == became
    assert report.dropped == ([] if became == layout else [f"the layout of sound track 1, {layout}, which became {became}"])
    expected = {c.name: [tone_of(c.name)] for c in av.AudioLayout(layout).channels}
    silent: dict[str, list[int]] = {c.name: [] for c in av.AudioLayout(became).channels if c.name not in expected}
    assert tones_in(tmp_path / f"out{suffix}") == expected | silent


@pytest.mark.parametrize(("layout", "becomes"), [("5.1(side)", "5.1"), ("5.0(side)", "5.1"), ("quad(side)", "quad")])
def test_side_channels_become_back_channels(tmp_path: Path, layout: str, becomes: str) -> None:
    convert(make_channel_test(tmp_path / "in.mkv", layout), tmp_path / "out.webm")
    assert audio_layout(tmp_path / "out.webm") == becomes
    tones = tones_in(tmp_path / "out.webm")
    assert (tones["BL"], tones["BR"]) == ([tone_of("SL")], [tone_of("SR")])


@pytest.mark.parametrize(
    ("layout", "suffix", "becomes"),
    [("4.0", ".webm", "5.1"), ("2.1", ".webm", "5.1"), ("6.1", ".webm", "7.1"), ("6.0", ".webm", "7.1"), ("3.1", ".webm", "5.1")],
)
def test_a_layout_that_the_codec_cannot_hold_is_reported_and_no_channel_is_lost(
    tmp_path: Path, layout: str, suffix: str, becomes: str
) -> None:
    source = make_channel_test(tmp_path / "in.mkv", layout)
    report = convert(source, tmp_path / f"out{suffix}")
    assert report.dropped == [f"the layout of sound track 1, {layout}, which became {becomes}"]
    assert audio_layout(tmp_path / f"out{suffix}") == becomes
    found = tones_in(tmp_path / f"out{suffix}")
    for channel in av.AudioLayout(layout).channels:
        places = ["BL", "BR"] if channel.name == "BC" else [channel.name]
        assert all(tone_of(channel.name) in found[place] for place in places), found


@pytest.mark.parametrize(("suffix", "becomes"), [(".webm", "5.1"), (".mp4", "5.1(side)"), (".mkv", "5.1(side)")])
def test_surround_sound_of_a_disc_stays_surround(tmp_path: Path, suffix: str, becomes: str) -> None:
    report = convert(shared("faults/footage/s51.mkv"), tmp_path / f"out{suffix}")
    assert report.dropped == [] and audio_layout(tmp_path / f"out{suffix}") == becomes
    assert report.audio == ("transcoded" if suffix == ".webm" else "copied")


def test_surround_sound_stays_in_sync(tmp_path: Path) -> None:
    small = make_video(tmp_path / "small.mkv", frames=125)
    clip = shared("media/clips/bigbuckbunny.mp4")
    source = tmp_path / "in.mp4"
    with av.open(str(small)) as one, av.open(str(clip)) as two, av.open(str(source), "w") as out:
        pairs = [
            (c, s, out.add_stream_from_template(s, opaque=True))
            for c, s in ((one, one.streams.video[0]), (two, two.streams.audio[0]))
        ]
        for container, stream, track in pairs:
            for packet in container.demux(stream):
                if packet.size:
                    packet.stream = track
                    out.mux(packet)
    report = convert(source, tmp_path / "out.webm")
    assert audio_layout(source) == audio_layout(tmp_path / "out.webm") == "5.1"
    assert (report.audio, report.frames, report.dropped) == ("transcoded", 125, [])
    before, after = decode_sound(source), decode_sound(tmp_path / "out.webm")
    assert abs(lag(after, before)) <= 1 and correlation(after, before) > 0.9


def test_channels_without_known_places_are_left_out_and_reported(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", [SoundTrack()])
    with SideStreams(source, Fraction(0), TimeRange(), ".webm") as side_streams, av.open("/dev/null", "w", "webm") as out:
        stream = SimpleNamespace(layout=SimpleNamespace(nb_channels=9, name="9 channels"))
        side_streams._transcode(out, stream, stream, "sound track 1")
        assert side_streams.sound == "none"
        assert side_streams.dropped == ["sound track 1: it is not known which loudspeakers its 9 channels are for"]


def test_broadcast_sound_gets_the_header_that_mp4_needs(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.ts", [SoundTrack("aac")])
    out = tmp_path / "out.mp4"
    assert convert(source, out).audio == "copied"
    assert abs(lag(decode_sound(out), decode_sound(source))) <= 1 and correlation(decode_sound(out), decode_sound(source)) > 0.99
    assert len(read_packets(out, "audio")) == len(read_packets(source, "audio"))


def test_packets_shorter_than_a_tick_keep_their_order(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", [SoundTrack("pcm_s16le", chunk=20)])  # 0.4 ms a packet; Matroska's tick is 1 ms
    report = convert(source, tmp_path / "out.mp4")
    assert (report.audio, report.damage) == ("copied", None)
    ours, theirs = read_packets(tmp_path / "out.mp4", "audio"), read_packets(source, "audio")
    assert b"".join(data for *_, data in ours) == b"".join(data for *_, data in theirs)
    assert max(abs(decode_sound(tmp_path / "out.mp4") - decode_sound(source))) < 1e-3


def test_sound_that_begins_late_in_a_broadcast_is_copied(tmp_path: Path) -> None:
    """FFmpeg looks ahead for 90 seconds and then opens the track without a sampling rate."""
    sounds = [SoundTrack(seconds=1.0), SoundTrack(start=99.0, seconds=1.0, layout="mono")]
    source = make_video(tmp_path / "in.ts", sounds, frames=200, rate=2)
    with av.open(str(source)) as container:
        assert container.streams.audio[1].sample_rate == 0
    for suffix, audio in ((".mp4", "copied"), (".webm", "transcoded")):
        report = convert(source, tmp_path / f"out{suffix}")
        assert (report.audio, report.dropped, report.damage) == (audio, [], None)
        with av.open(str(tmp_path / f"out{suffix}")) as container:
            late = container.streams.audio[1]
            assert late.layout.name == "mono"
            begin = next(frame.time for frame in container.decode(late))
        assert begin == pytest.approx(99, abs=0.1)


def tear(source: Path, out: Path, is_torn: Callable[[int], bool]) -> Path:
    """Copies a video with other bytes in the sound packets with these numbers."""
    with av.open(str(source)) as container, av.open(str(out), "w") as torn:
        tracks = {stream: torn.add_stream_from_template(stream, opaque=True) for stream in container.streams}
        number, noise = 0, np.random.default_rng(0)
        for packet in container.demux():
            if packet.size:
                is_sound = packet.stream.type == "audio"
                data = noise.bytes(packet.size) if is_sound and is_torn(number) else bytes(packet)
                number += is_sound
                copy: Any = av.Packet(data)
                copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
                copy.time_base, copy.is_keyframe, copy.stream = packet.time_base, packet.is_keyframe, tracks[packet.stream]
                torn.mux(copy)
    return out


def test_sound_that_cannot_be_decoded_is_damage(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.mkv", [SoundTrack("aac")])
    report = convert(tear(whole, tmp_path / "some.mkv", lambda number: 20 <= number < 30), tmp_path / "some.webm")
    assert (report.audio, report.damage) == ("transcoded", "10 packets of sound track 1 cannot be decoded")
    report = convert(tear(whole, tmp_path / "first.mkv", lambda number: number < 3), tmp_path / "first.webm")
    assert (report.audio, report.damage) == ("transcoded", None)  # a recording that begins inside a packet
    report = convert(tear(whole, tmp_path / "all.mkv", lambda number: True), tmp_path / "all.webm")
    assert (report.audio, report.frames) == ("none", 50)
    assert report.damage == "sound track 1 cannot be decoded (aac) and is left out"
    with av.open(str(tmp_path / "all.webm")) as container:
        assert not container.streams.audio


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_sound_of_a_disc_that_cannot_be_decoded_is_damage(tmp_path: Path, suffix: str) -> None:
    report = convert(shared("faults/footage/thd.mkv"), tmp_path / f"out{suffix}")
    assert (report.audio, report.damage) == ("none", "sound track 1 cannot be decoded (truehd) and is left out")


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov"])
def test_sound_whose_packets_the_container_refuses_is_transcoded(tmp_path: Path, suffix: str) -> None:
    """MP4 accepts E-AC-3 in its header, and refuses these packets."""
    source = tear(make_video(tmp_path / "whole.mkv", [SoundTrack("eac3")]), tmp_path / "in.nut", lambda number: False)
    report = convert(source, tmp_path / f"out{suffix}")
    assert report.frames == 50 and report.damage is None
    assert abs(lag(decode_sound(tmp_path / f"out{suffix}"), decode_sound(source))) <= 48


def test_sound_without_packets_is_left_out_and_reported(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.mkv", [SoundTrack(), SoundTrack()])
    with av.open(str(whole)) as container, av.open(str(tmp_path / "in.ts"), "w") as out:
        tracks = {stream: out.add_stream_from_template(stream, opaque=True) for stream in container.streams}
        for packet in container.demux(container.streams[0], container.streams[1]):
            if packet.size:
                packet.stream = tracks[packet.stream]
                out.mux(packet)
    report = convert(tmp_path / "in.ts", tmp_path / "out.mp4")
    assert report.dropped == ["sound track 2: it has no sound, or none that FFmpeg can describe"]
    assert report.audio == "copied" and report.damage is None
