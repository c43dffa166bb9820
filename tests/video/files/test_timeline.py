"""Recordings whose clock jumps or begins anywhere: the output's clock begins at 0 and continues, with the sound in sync."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cyclecast.errors import InputError
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.files.time_range import ResumePoint, TimeRange
from cyclecast.video.files.timeline import read_timeline
from tests.conftest import moving_frames, shared
from tests.video.clips import SoundTrack, convert, decode_sound, encode_sound, frame_times, lag, make_video, read_frames

FRAMES, MS = 50, 1e-3


def record(path: Path, start: float = 10.0, container: str = "mpegts", options: dict[str, str] | None = None) -> Path:
    """Writes a two-second recording with sound whose clock begins at `start` seconds. options: FFmpeg's, for the container."""
    writer: Any = av.open(str(path), "w", format=container, options=options or {})
    with writer as out:
        video = out.add_stream("mpeg2video", rate=25, options={"g": "10"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        track = SoundTrack("mp2", start=start)
        sound = out.add_stream(track.codec, rate=track.rate, layout=track.layout)
        encoded = list(encode_sound(sound, track))
        for index, image in enumerate(moving_frames(FRAMES)):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = round(25 * start) + index, Fraction(1, 25)
            encoded += video.encode(frame)
        encoded += video.encode(None)
        for packet in sorted(encoded, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    return path


def string_together(path: Path, parts: Sequence[Path]) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize("start", [3.0, 12.0, 500.0, 30_000.0], ids=str)
def test_a_clock_that_jumps_is_continued(tmp_path: Path, start: float) -> None:
    parts = [record(tmp_path / "a.ts"), record(tmp_path / "b.ts", start)]
    source = string_together(tmp_path / "in.ts", parts)
    report = convert(source, tmp_path / "out.mp4")
    assert (report.frames, report.audio, report.dropped, report.damage) == (2 * FRAMES, "copied", [], None)
    times = [float(time) for time in frame_times(tmp_path / "out.mp4")]
    steps = np.diff(times)
    assert times[0] < 0.05 and steps.min() > 0.03 and steps.max() < 0.15
    assert len(report.notices) == (start != 12)
    for notice in report.notices:
        where = "back" if start < 12 else "forward"
        assert notice.startswith(f"its clock jumps {where} by ") and notice.endswith("without a gap")


def test_sound_stays_in_sync_behind_a_jump(tmp_path: Path) -> None:
    one = record(tmp_path / "b.ts", 700.0)
    source = string_together(tmp_path / "in.ts", [record(tmp_path / "a.ts"), one])
    convert(source, tmp_path / "out.mp4")
    convert(one, tmp_path / "one.mp4")
    second = frame_times(tmp_path / "out.mp4")[FRAMES] - frame_times(tmp_path / "one.mp4")[0]
    shift = lag(
        decode_sound(tmp_path / "out.mp4")[round(second * 48_000) :], decode_sound(tmp_path / "one.mp4")[: 48_000 * 3 // 4]
    )
    assert abs(shift) <= 48


def test_a_jump_forward_is_kept_if_the_clock_is_not_mended(tmp_path: Path) -> None:
    source = string_together(tmp_path / "in.ts", [record(tmp_path / "a.ts"), record(tmp_path / "b.ts", 60.0)])
    report = convert(source, tmp_path / "out.mp4", mend_clock=False)
    assert report.notices[0].endswith("the output has this gap") and report.frames == 2 * FRAMES
    assert float(frame_times(tmp_path / "out.mp4")[-1]) == pytest.approx(51.96, abs=0.1)
    string_together(source, [record(tmp_path / "c.ts", 60.0), record(tmp_path / "d.ts")])
    with pytest.raises(
        InputError, match=r"in\.ts: its clock jumps back by .* s after 2\.\d s.*; split it there, or leave out --no-mend"
    ):
        convert(source, tmp_path / "back.mp4", mend_clock=False)


def test_streams_whose_ids_change_are_continued(tmp_path: Path) -> None:
    parts = [record(tmp_path / "a.ts"), record(tmp_path / "b.ts", 10.0, options={"mpegts_start_pid": "512"})]
    report = convert(string_together(tmp_path / "in.ts", parts), tmp_path / "out.mp4")
    assert report.frames >= 2 * FRAMES - 1 and report.dropped == [] and report.damage is None  # FFmpeg finds one frame too late
    assert np.diff([float(time) for time in frame_times(tmp_path / "out.mp4")]).max() < 0.15


def test_streams_that_no_table_connects_are_reported(tmp_path: Path) -> None:
    other = {"mpegts_start_pid": "512", "mpegts_pmt_start_pid": "4400"}
    parts = [record(tmp_path / "a.ts"), record(tmp_path / "b.ts", 500.0, options=other)]
    report = convert(string_together(tmp_path / "in.ts", parts), tmp_path / "out.mp4")
    assert report.damage is not None and "another video begins later in it" in report.damage


def test_reading_resumes_behind_a_jump(tmp_path: Path) -> None:
    source = string_together(tmp_path / "in.ts", [record(tmp_path / "a.ts"), record(tmp_path / "b.ts")])
    with VideoFile(source) as video:
        whole = [(frame.pts, frame.image.tobytes()) for frame in video]
        times = video.times()
    assert len(whole) == 2 * FRAMES and times == [pts for pts, _ in whole]
    for count in (10, FRAMES, FRAMES + 20):
        with VideoFile(source) as video:
            video.resume_at(ResumePoint(count, whole[count - 1][0], True))
            assert [(frame.pts, frame.image.tobytes()) for frame in video] == whole[count:]
    with VideoFile(source, TimeRange(Fraction(3), Fraction(1, 2))) as video:
        tick = video.info.time_base
        inside = [image for pts, image in whole if 3 <= pts * tick < Fraction(7, 2)]
        assert [frame.image.tobytes() for frame in video] == inside and len(inside) >= 12


@pytest.mark.parametrize(("container", "start"), [("mpegts", 0.5), ("mpegts", 7.0), ("mpeg", 0.5), ("vob", 0.5), ("vob", 30.0)])
def test_the_clock_of_broadcasts_and_discs_begins_at_0(tmp_path: Path, container: str, start: float) -> None:
    report = convert(record(tmp_path / f"in.{container}", start, container), tmp_path / "out.mp4")
    assert (report.frames, report.notices) == (FRAMES, [])
    with av.open(str(tmp_path / "out.mp4")) as out:
        begins = [float((stream.start_time or 0) * (stream.time_base or 0)) for stream in out.streams]
    assert min(begins) == pytest.approx(0, abs=MS) and max(begins) < 0.06


def test_other_containers_are_not_scanned(tmp_path: Path) -> None:
    plain = make_video(tmp_path / "in.mkv", [SoundTrack("mp2")])
    timeline = read_timeline(plain)
    assert timeline.jumps == () and timeline.firsts == {}


@pytest.mark.parametrize("name", ["back.ts", "dvd.vob"])
def test_the_faulty_recordings_begin_at_0_and_continue(tmp_path: Path, name: str) -> None:
    report = convert(shared(f"faults/footage/{name}"), tmp_path / "out.mp4")
    times = [float(time) for time in frame_times(tmp_path / "out.mp4")]
    assert report.damage is None and report.frames == 50
    assert times[0] < 0.05 and max(np.diff(times)) < 0.15 and len(read_frames(tmp_path / "out.mp4")) == 50


def test_packed_b_frames_are_shown_when_they_should_be(tmp_path: Path) -> None:
    source = shared("faults/footage/xvid.avi")
    with av.open(str(source)) as container:
        chunks = [entry.timestamp for entry in container.streams.video[0].index_entries]  # each one shows a frame
    assert convert(source, tmp_path / "out.mp4").frames == len(chunks)
    assert [round(time * 25) for time in frame_times(tmp_path / "out.mp4")] == chunks
