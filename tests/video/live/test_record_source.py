"""`--record-source`: the unstyled video, with every captured frame at its time, beside whatever the model shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyclecast.errors import OutputError
from cyclecast.video.clock import read_clock, seconds_since
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.live.options import LiveOptions
from cyclecast.video.live.session import Session
from cyclecast.video.live.sinks.recording import Recording, Segments
from cyclecast.video.live.sinks.registry import open_sink
from tests.commands import run_command
from tests.video.live.sessions import PATTERN, Collecting, Slow, open_as

MODEL_S = 0.2


def session(path: str, function: Slow, frames: int = 6, **settings: object) -> tuple[Session, Collecting]:
    """Returns a session of so many frames through a slow model, which also records its source."""
    sink = Collecting(lambda shown: len(shown) >= frames)

    def open_either(address: str, controls: object) -> object:
        return sink.open(address, controls) if address == "sink" else open_sink(address, controls, **settings)  # type: ignore

    options = LiveOptions(mirror=True)
    opened = Session(
        PATTERN,
        ["same"],
        open_as(function),
        ["sink"],
        open_either,  # type: ignore[arg-type]
        options=options,
        record_source=path,
    )
    return opened, sink


def test_every_captured_frame_is_recorded_at_its_time_and_the_model_skips_as_before(tmp_path: Path) -> None:
    one, sink = session(str(tmp_path / "raw.mp4"), Slow(MODEL_S))
    report = one.run()
    assert report.captured == report.shown + report.skipped and report.skipped > report.shown
    recorded = next(each for each in report.sinks if each.name.endswith("raw.mp4"))
    assert recorded.failure is None and recorded.shown > 0.8 * report.captured
    with VideoFile(tmp_path / "raw.mp4") as video:
        base = video.info.time_base
        times = [(float(frame.pts * base), read_clock(frame.image)) for frame in video]
    assert len(times) == recorded.shown, "not one is mirrored: their clocks are read below"
    (start, first), *_ = times
    assert first is not None
    for at, clock in times:
        assert clock is not None and seconds_since(first, clock) == pytest.approx(at - start, abs=0.002)
    assert len(sink.frames) >= 6 and report.latency_ms.p50 < 1000 * 3 * MODEL_S


def test_a_recording_of_the_source_that_fails_or_is_missing_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Recording, frame: object) -> None:
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Recording, "show", fail)
        one, sink = session(str(tmp_path / "raw.mp4"), Slow(0))
        report = one.run()
    assert len(sink.frames) >= 6 and [each.failure for each in report.sinks] == [None, "the disk is full"]

    def refuse(self: Recording) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Recording, "_new_file", refuse)
    one, sink = session(str(tmp_path / "raw.mp4"), Slow(0))
    report = one.run()
    assert len(sink.frames) >= 6 and "cannot be written (Read-only" in str(report.sinks[0].failure)


def test_the_rules_are_those_of_recordings(tmp_path: Path) -> None:
    one, _ = session(str(tmp_path / "raw.mp4"), Slow(0), segments=Segments(mib=1))
    one.run()
    assert (tmp_path / "raw-0001.mp4").is_file()
    pattern, sink = ("live", "pattern://160x96@30", "--record-source"), ("--sink", "null")
    there = tmp_path / "raw-0001.mp4"
    for words, message in (
        ((there, *sink), "exists already; --overwrite replaces it"),
        (("window", *sink), "window: expected a file to record to (.mp4"),
        ((tmp_path / "a.mp4", "--sink", tmp_path / "a.mp4"), "two sinks record to this file"),
    ):
        done = run_command(*pattern, *words, "--seconds", 1)
        assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
