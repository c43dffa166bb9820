"""Recordings and snapshots of a live run: no file is lost, whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from cyclecast.errors import InputError, OutputError
from cyclecast.video.clock import read_clock
from cyclecast.video.files.images import read_image
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.files.writer import CONTAINERS
from cyclecast.video.live.session import LiveReport, Session
from cyclecast.video.live.sinks import disk_sync
from cyclecast.video.live.sinks.recording import check_files
from cyclecast.video.live.sinks.registry import open_sink
from tests.conftest import Same
from tests.video.live.sessions import LIMIT, PATTERN, Collecting, open_as, open_session, wait_for

OLD = b"a video that somebody needs"


def record(path: Path | str, source: str = PATTERN, overwrite: bool = True) -> Session:
    return Session(source, ["same"], open_as(Same()), [str(path)], partial(open_sink, overwrite=overwrite))


def run_with(one: Session, actions: Callable[[], None]) -> LiveReport:
    """Runs a session while another thread does something to it; then the run ends."""
    errors: list[BaseException] = []

    def act() -> None:
        try:
            actions()
        except BaseException as error:
            errors.append(error)
        one.quit()

    thread = threading.Thread(target=act)
    thread.start()
    report = one.run()
    thread.join(LIMIT)
    if errors:
        raise errors[0]
    return report


def test_a_source_that_cannot_be_opened_leaves_the_old_file(tmp_path: Path) -> None:
    old = tmp_path / "show.mp4"
    old.write_bytes(OLD)
    with pytest.raises(InputError, match="no such file"):
        record(old, source=str(tmp_path / "absent.mp4")).run()
    assert old.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [old]


def test_the_old_file_stays_until_the_recording_is_finished(tmp_path: Path) -> None:
    old = tmp_path / "show.mp4"
    old.write_bytes(OLD)
    one = record(old)

    def check() -> None:
        wait_for(lambda: one.meter.shown > 5)
        assert old.read_bytes() == OLD
        (temporary,) = tmp_path.glob("show.recording-*.mp4")
        assert temporary.exists()

    report = run_with(one, check)
    with VideoFile(old) as video:
        assert len(list(video)) == report.sinks[0].shown > 5
    assert list(tmp_path.iterdir()) == [old]


def test_a_recording_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "show.mp4"
    old.write_bytes(OLD)
    one = record(old)
    monkeypatch.setattr("cyclecast.video.files.writer.VideoWriter.write", _no_space)
    with pytest.raises(OutputError, match="No space left on device"):
        one.run()
    assert old.read_bytes() == OLD


def test_a_disk_that_is_full_at_the_end_leaves_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "show.mp4"
    old.write_bytes(OLD)
    messages: list[str] = []
    open_overwriting = partial(open_sink, overwrite=True)
    one = Session(PATTERN, ["same"], open_as(Same()), [str(old)], open_overwriting, on_message=messages.append)
    monkeypatch.setattr("cyclecast.video.files.writer.VideoWriter.close", _no_space)
    report = run_with(one, lambda: wait_for(lambda: one.meter.shown > 2))
    assert report.sinks[0].failure == "writing failed (No space left on device)"
    (temporary,) = tmp_path.glob("show.recording-*.mp4")
    assert f"{old}: everything up to the failure is in {temporary.name}" in messages
    assert old.read_bytes() == OLD


KILLED = """
import os, signal, sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from cyclecast.video.files.writer import CONTAINERS, Encoding, VideoWriter
from cyclecast.video.frame import Color, Frame, StreamInfo
from cyclecast.video.live.sinks.recording_file import FAST_PRESETS
image, info = np.full((96, 128, 3), 90, np.uint8), StreamInfo(
    128, 96, Fraction(30), Fraction(1, 90_000), None, Color(1, 1, 1, 1), Fraction(1)
)
for name in sys.argv[1:]:
    codec = CONTAINERS[Path(name).suffix]
    writer = VideoWriter(Path(name), info, Encoding(codec, preset=FAST_PRESETS[codec]), growing=True)
    for index in range(90):
        writer.write(Frame(image, 3000 * index, 3000))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_recording_of_a_quiet_scene_lacks_its_last_second_at_most(tmp_path: Path) -> None:
    """Three seconds of it are a few kilobytes, which no buffer may hold."""
    paths = [tmp_path / f"quiet{suffix}" for suffix in CONTAINERS]
    subprocess.run([sys.executable, "-c", KILLED, *map(str, paths)], timeout=LIMIT)
    for path in paths:
        with VideoFile(path) as video:
            assert len(list(video)) >= 90 - 30 - 5, path


def test_a_recording_is_synced_to_the_disk_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_sync, "SYNC_INTERVAL_S", 0.05)
    synced: list[tuple[int, int]] = []  # (inode, bytes)

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.append((status.st_ino, status.st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "show.mkv"
    one = record(path)
    run_with(one, lambda: wait_for(lambda: len({size for _, size in synced}) > 3))
    assert {inode for inode, _ in synced} == {path.stat().st_ino}
    assert synced[-1][1] == path.stat().st_size, "the finished file too"


def _no_space(*arguments: object) -> None:
    raise OutputError("writing failed (No space left on device)")


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "show.mp4"
    one = record(path, overwrite=False)

    def appear() -> None:
        wait_for(lambda: one.meter.shown > 2)
        path.write_bytes(OLD)

    report = run_with(one, appear)
    assert report.sinks[0].failure is not None and "show.recording-" in report.sinks[0].failure
    assert path.read_bytes() == OLD
    (temporary,) = tmp_path.glob("show.recording-*.mp4")
    with VideoFile(temporary) as video:
        assert list(video)


@pytest.mark.parametrize("second", ["show.mp4", "./show.mp4", "sub/../show.mp4", "{}/show.mp4", "file://{}/show.mp4", "link.mp4"])
@pytest.mark.parametrize("exists", [True, False])
def test_two_sinks_cannot_record_to_one_file(second: str, exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.mp4").symlink_to("show.mp4")
    if exists:
        (tmp_path / "show.mp4").write_bytes(OLD)
    before = sorted(tmp_path.iterdir())
    second = second.format(tmp_path)
    with pytest.raises(OutputError, match="two sinks record to this file"):
        Session(PATTERN, ["same"], open_as(Same()), ["show.mp4", second], partial(open_sink, overwrite=True))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("source", ["show.mp4", "./show.mp4", "file://{}/show.mp4", "link.mp4", "hard.mp4"])
def test_a_sink_cannot_replace_the_source(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "show.mp4").write_bytes(OLD)
    (tmp_path / "link.mp4").symlink_to("show.mp4")
    os.link("show.mp4", "hard.mp4")
    with pytest.raises(OutputError, match=r"^show\.mp4: is the source; record to another file$"):
        record("show.mp4", source=source.format(tmp_path))
    assert (tmp_path / "show.mp4").read_bytes() == OLD


def test_different_files_and_other_sinks_are_accepted(tmp_path: Path) -> None:
    check_files("rtsp://host/show.mp4", ["show.mp4", "show.mkv", "null", "null", "web://0.0.0.0:8080", "window"])
    check_files("0", [str(tmp_path / "show.mp4"), "show.mp4"])


def test_snapshot_and_recording_of_the_controls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sink = Collecting()
    one = open_session(sinks={"one": sink.open}, seconds=None)
    with pytest.raises(OutputError, match="there is no frame yet"):
        one.snapshot()

    def press() -> None:
        wait_for(lambda: len(sink.frames) > 2)
        one.snapshot()
        path = one.set_recording(True)
        assert path is not None and one.set_recording(True) == path == one.recording, "it records already"
        count = len(sink.frames)
        wait_for(lambda: len(sink.frames) > count + 12)
        assert one.set_recording(False) is None and one.set_recording(False) is None and one.recording is None

    report = run_with(one, press)
    (snapshot,), (recorded,) = tmp_path.glob("*.png"), tmp_path.glob("*.mp4")
    assert read_clock(read_image(snapshot)) is not None
    with VideoFile(recorded) as video:
        assert len(list(video)) == next(sink.shown for sink in report.sinks if sink.name == recorded.name) >= 10


def test_many_requests_at_once_start_one_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = open_session(seconds=None)
    paths: list[Path | None] = []

    def request(start: threading.Barrier, on: bool) -> None:
        start.wait(LIMIT)
        paths.append(one.set_recording(on))

    def press() -> None:
        wait_for(lambda: one.newest is not None)
        for on in (True, False):
            start = threading.Barrier(8)
            threads = [threading.Thread(target=request, args=(start, on)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LIMIT)
            time.sleep(0.2)

    report = run_with(one, press)
    assert len(set(paths[:8])) == 1 and paths[0] is not None
    assert paths[8:] == [None] * 8
    assert len(report.sinks) == 2, "null and one recording"


def test_a_recording_that_fails_is_over_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sink, messages = Collecting(), list[str]()
    one = open_session(sinks={"one": sink.open}, messages=messages, seconds=None)

    def press() -> None:
        wait_for(lambda: len(sink.frames) > 2)
        with monkeypatch.context() as patch:
            patch.setattr("cyclecast.video.files.writer.VideoWriter.write", _no_space)
            assert one.set_recording(True) is not None
            wait_for(lambda: one.recording is None)
        count = len(sink.frames)
        wait_for(lambda: len(sink.frames) > count + 5)
        assert one.set_recording(True) is not None, "another one can be started"

    report = run_with(one, press)
    assert [found.failure is None for found in report.sinks] == [True, False, True]
    assert any("failed and gets no more frames" in line for line in messages)
