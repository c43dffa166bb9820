"""Recordings over days: names that do not collide, several files, and an end before the disk is full."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cyclecast.errors import ConfigError, OutputError
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.live.session import Session
from cyclecast.video.live.sinks.recording import Recording, Segments
from cyclecast.video.live.sinks.recording_file import RecordingFile
from cyclecast.video.live.sinks.recording_names import is_pattern, new_path, with_number
from cyclecast.video.live.sinks.registry import open_sink
from cyclecast.video.live.sound.feed import SoundFeed
from cyclecast.video.live.styling.styled_frame import StyledFrame
from tests.conftest import Same, moving_frames
from tests.video.live.sessions import Collecting, open_as, open_session, wait_for

NOON = datetime(2026, 3, 9, 12, 34, 56)


class Controls(SimpleNamespace):
    """Keeps what a recording reports."""

    def __init__(self) -> None:
        super().__init__(lines=[], sound=SoundFeed())

    def report(self, line: str) -> None:
        self.lines.append(line)


def record(
    path: Path, seconds: float, fps: int = 20, segments: Segments | None = None, start: float = 0.0
) -> tuple[Recording, list[str]]:
    """Records a moving bar, at the times of a camera."""
    controls = Controls()
    recording = Recording(str(path), controls, segments=segments)
    for index, image in enumerate(moving_frames(round(seconds * fps))):
        recording.show(StyledFrame(index + 1, start + index / fps, image, image, "same"))
    return recording, controls.lines


def frames_of(path: Path) -> int:
    with VideoFile(path) as video:
        return len(list(video))


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("show-%Y%m%d-%H%M%S.mp4", "show-20260309-123456.mp4"),
        ("%y/%j/100%%.mp4", "26/068/100%.mp4"),
        ("show-%04d.mp4", "show-0001.mp4"),
        ("%Y-%m-%d/%H-%02d.mkv", "2026-03-09/12-01.mkv"),
    ],
)
def test_a_pattern_is_filled_in(pattern: str, name: str, tmp_path: Path) -> None:
    assert is_pattern(Path(pattern)) and new_path(tmp_path / pattern, NOON) == tmp_path / name


@pytest.mark.parametrize("name", ["show.mp4", "100%.mp4", "my%20show.mp4", "show %.mp4", "a%%b.mp4"])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert not is_pattern(Path(name)) and with_number(Path(name)).name.endswith("-%04d.mp4")


def test_a_new_file_never_has_the_name_of_another(tmp_path: Path) -> None:
    for name in ("show-0002.mp4", "show-0007.recording-1a2b.mp4", "show-0009.mkv", "other-0100.mp4", "show-20260309.mp4"):
        (tmp_path / name).touch()
    assert new_path(tmp_path / "show-%04d.mp4", NOON).name == "show-20260310.mp4", "after the highest number there is"
    (tmp_path / "show-20260309.mp4").unlink()
    assert new_path(tmp_path / "show-%04d.mp4", NOON).name == "show-0008.mp4", "after one that was killed"
    (tmp_path / "at-123456.mp4").touch()
    assert new_path(tmp_path / "at-%H%M%S.mp4", NOON).name == "at-123456-1.mp4"


@pytest.mark.parametrize("name", ["show-%Y%m%d-%H%M%S.mp4", "show-%03d.mp4"])
def test_a_run_that_is_started_again_records_into_another_file(name: str, tmp_path: Path) -> None:
    for _ in range(3):
        recording, lines = record(tmp_path / name, 0.5)
        recording.close()
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 3 and all(frames_of(path) == 10 for path in paths)
    assert lines[-1] == f"recorded {paths[-1]}" or name.startswith("show-%Y")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_a_recording_goes_on_in_another_file_after_some_time(suffix: str, tmp_path: Path) -> None:
    recording, _ = record(tmp_path / f"show{suffix}", 2.5, segments=Segments(seconds=1))
    recording.close()
    paths = sorted(tmp_path.iterdir())
    assert [path.name for path in paths] == [f"show-{number:04d}{suffix}" for number in (1, 2, 3)]
    assert [frames_of(path) for path in paths] == [20, 20, 10], "no frame is lost between two files"


def test_a_recording_goes_on_in_another_file_at_some_size(tmp_path: Path) -> None:
    controls, random = Controls(), np.random.default_rng(1)
    recording = Recording(str(tmp_path / "show.mkv"), controls, segments=Segments(mib=1))
    for index in range(60):
        noise = random.integers(0, 255, (240, 320, 3), np.uint8)
        recording.show(StyledFrame(index + 1, index / 10, noise, noise, "same"))
    recording.close()
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert len(sizes) > 2 and all(1 << 20 <= size < 3 << 20 for size in sizes[:-1])


def test_the_next_file_does_not_wait_for_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go, finish = threading.Event(), RecordingFile.finish

    def slow(file: RecordingFile) -> None:
        let_go.wait(20)
        finish(file)

    monkeypatch.setattr(RecordingFile, "finish", slow)
    began = time.monotonic()
    recording, _ = record(tmp_path / "show.mp4", 1.5, segments=Segments(seconds=1))
    assert time.monotonic() - began < 15
    let_go.set()
    recording.close()
    assert [frames_of(path) for path in sorted(tmp_path.iterdir())] == [20, 10]


def almost_full(free: int = 1 << 20) -> Callable[[object], SimpleNamespace]:
    return lambda path: SimpleNamespace(total=100 << 30, free=free)


def test_a_recording_ends_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is complete, the sink fails, the other sinks go on, and whoever watches is told."""
    path, good, messages = tmp_path / "show.mp4", Collecting(), list[str]()

    def open_either(address: str, controls: object) -> object:
        return good.open(address, controls) if address == "good" else open_sink(address, controls)  # type: ignore[arg-type]

    sinks = {"good": open_either, str(path): open_either}
    one = open_session(sinks=sinks, messages=messages, seconds=None)  # type: ignore[arg-type]

    def fill() -> None:
        try:
            wait_for(lambda: len(good.frames) > 40)
            monkeypatch.setattr(shutil, "disk_usage", almost_full())
            wait_for(lambda: one.failures, "a failed recording")
            count = len(good.frames)
            wait_for(lambda: len(good.frames) > count + 10, "the other sink")
        finally:
            one.quit()

    thread = threading.Thread(target=fill)
    thread.start()
    report = one.run()
    thread.join()
    assert frames_of(path) == report.sinks[1].shown - 1 > 20, "the last frame found the disk full"
    assert list(tmp_path.iterdir()) == [path]
    assert one.failures == ["show.mp4: the disk is almost full (1 MiB free), so nothing more is recorded"]


def test_a_small_disk_is_used_almost_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=20 << 20, free=2 << 20))
    recording, _ = record(tmp_path / "show.mp4", 0.5)
    recording.close()
    assert frames_of(tmp_path / "show.mp4") == 10


def test_a_disk_that_is_full_at_the_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", almost_full())
    with pytest.raises(OutputError, match=r"show\.mp4: the disk is almost full \(1 MiB free\)"):
        Session("pattern://160x96@30", ["same"], open_as(Same()), [str(tmp_path / "show.mp4")], partial(open_sink))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("settings", "words"), [({"seconds": 0.5}, "at least 1 second"), ({"mib": 0}, "at least 1 MiB")])
def test_invalid_segments_are_an_error(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Segments(**settings)  # type: ignore[arg-type]
