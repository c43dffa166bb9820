"""An interrupted conversion resumes, and its output equals that of an uninterrupted run."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks.killed import content
from cyclecast.errors import EngineError, InputError, Interrupted, OutputError
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.job import LIST_NAME, Job, folder_of
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.convert.parts import PART_FRAMES
from cyclecast.video.frame import Image
from tests.commands import run_command
from tests.conftest import LONG_FRAMES as FRAMES
from tests.conftest import Negative, Same

QUICK = ConvertOptions(preset="ultrafast")


@pytest.fixture(scope="session")
def uninterrupted(long_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The content of the output of a single run."""
    out = tmp_path_factory.mktemp("whole") / "out.mp4"
    assert convert_file(long_clip, out, Negative(), QUICK).frames == FRAMES
    return content(out)


class RaisingOnNth(Negative):
    """A negative that raises on its n-th frame."""

    def __init__(self, nth: int, error: BaseException) -> None:
        super().__init__()
        self._left, self._error = nth, error

    def __call__(self, frame: Image) -> Image:
        self._left -= 1
        if not self._left:
            raise self._error
        return super().__call__(frame)


def run_interrupted(clip: Path, out: Path, frames: int = 2 * PART_FRAMES + 30, options: ConvertOptions = QUICK) -> None:
    """Runs a conversion that Ctrl-C ends after this many frames."""
    with pytest.raises(Interrupted):
        convert_file(clip, out, RaisingOnNth(frames, KeyboardInterrupt()), options)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt(), r"out\.mp4: interrupted; (\d+) frames are kept, the same command resumes after them"),
        (EngineError("the device is lost"), r"the device is lost; (\d+) frames are kept, the same command resumes after them"),
        (RuntimeError("a bug"), "a bug"),
    ],
    ids=["ctrl-c", "engine", "bug"],
)
def test_a_run_resumes_after_the_last_part(
    long_clip: Path, uninterrupted: str, tmp_path: Path, error: BaseException, message: str
) -> None:
    out = tmp_path / "out.mp4"
    with pytest.raises(Exception, match=message):
        convert_file(long_clip, out, RaisingOnNth(2 * PART_FRAMES + 60, error), QUICK)
    assert [path.name for path in tmp_path.iterdir()] == [".out.mp4.cyclecast"]
    kept = len(list(folder_of(out).glob("0*.mp4"))) * PART_FRAMES
    assert kept >= PART_FRAMES and not list(folder_of(out).glob("open-*"))
    messages: list[str] = []
    seen: list[tuple[int, int | None]] = []
    report = convert_file(long_clip, out, Negative(), QUICK, lambda done, total: seen.append((done, total)), messages.append)
    assert (report.frames, report.resumed_frames) == (FRAMES, kept)
    assert messages[0] == f"out.mp4: resumed after {kept} frames of an interrupted run"
    assert seen[0] == (kept + 1, FRAMES) and seen[-1] == (FRAMES, FRAMES)
    assert content(out) == uninterrupted
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize(
    ("codec", "suffix"), [("hevc", ".mp4"), ("vp9", ".webm"), ("av1", ".mkv"), ("h264", ".mov"), (None, ".gif")]
)
def test_every_codec_and_container_resumes(
    clip_of: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str | None, suffix: str
) -> None:
    monkeypatch.setattr("cyclecast.video.convert.parts.PART_FRAMES", 30)
    clip, preset = clip_of(45), {"hevc": "ultrafast", "vp9": "8", "av1": "12", "h264": "ultrafast"}.get(codec or "")
    options = ConvertOptions(codec=codec, preset=preset)
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    convert_file(clip, whole, Negative(), options)
    run_interrupted(clip, out, 43, options)
    report = convert_file(clip, out, Negative(), options)
    assert (report.frames, report.resumed_frames) == (45, 30)
    assert content(out) == content(whole)


@pytest.fixture(scope="session")
def clip_of(long_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Makes a clip with this many frames."""

    def make(count: int) -> Path:
        path = tmp_path_factory.mktemp("clip") / "clip.mkv"
        convert_file(long_clip, path, Same(), dataclasses.replace(QUICK, duration=Fraction(count, 25)))
        return path

    return make


def test_another_option_model_or_source_starts_over_with_a_message(
    clip_of: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(Negative):
        identity = "another"

    monkeypatch.setattr("cyclecast.video.convert.parts.PART_FRAMES", 30)
    clip = clip_of(45)
    for name, function, options in (
        ("options", Negative(), dataclasses.replace(QUICK, crf=30)),
        ("model", Other(), QUICK),
        ("source", Negative(), QUICK),
    ):
        out = tmp_path / f"{name}.mp4"
        run_interrupted(clip, out, 43)
        if name == "source":
            os.utime(clip)
        messages: list[str] = []
        report = convert_file(clip, out, function, options, on_message=messages.append)
        assert report.resumed_frames == 0 and report.frames == 45
        assert messages[0] == f"{name}.mp4: starting over: changed since the interrupted run: {name}"


def test_a_function_without_an_identity_starts_over(long_clip: Path, tmp_path: Path) -> None:
    class Unknown(Negative):
        identity = None

    run_interrupted(long_clip, tmp_path / "out.mp4")
    assert convert_file(long_clip, tmp_path / "out.mp4", Unknown(), QUICK).resumed_frames == 0


def test_no_resume_starts_over(long_clip: Path, tmp_path: Path) -> None:
    run_interrupted(long_clip, tmp_path / "out.mp4")
    report = convert_file(long_clip, tmp_path / "out.mp4", Negative(), dataclasses.replace(QUICK, resume=False))
    assert report.resumed_frames == 0


def test_a_truncated_list_and_a_missing_part_cost_only_their_own_frames(
    long_clip: Path, uninterrupted: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    run_interrupted(long_clip, out, 3 * PART_FRAMES + 9)
    lines = (folder_of(out) / LIST_NAME).read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    (folder_of(out) / LIST_NAME).write_bytes(b"".join(lines[:3]) + lines[3][:20])  # a power failure during the write
    run_interrupted(long_clip, out, 5)
    (folder_of(out) / "000001.mp4").unlink()
    report = convert_file(long_clip, out, Negative(), QUICK)
    assert report.resumed_frames == PART_FRAMES and content(out) == uninterrupted


def test_when_all_parts_are_finished_only_the_assembly_runs(
    long_clip: Path, uninterrupted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.mp4"

    def full(*_: object) -> None:
        raise OutputError("writing failed (No space left on device)")

    with monkeypatch.context() as patch:
        patch.setattr("cyclecast.video.convert.convert.assemble", full)
        with pytest.raises(OutputError, match=rf"out\.mp4: .*No space left on device.*; {FRAMES} frames are kept"):
            convert_file(long_clip, out, Negative(), QUICK)
    report = convert_file(long_clip, out, RaisingOnNth(1, AssertionError("no frame is needed")), QUICK)
    assert report.resumed_frames == report.frames == FRAMES and content(out) == uninterrupted


def test_a_part_that_is_lost_before_the_assembly_is_encoded_again(
    long_clip: Path, uninterrupted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.mp4"

    def full(*_: object) -> None:
        raise OutputError("writing failed (No space left on device)")

    with monkeypatch.context() as patch, pytest.raises(OutputError):
        patch.setattr("cyclecast.video.convert.convert.assemble", full)
        convert_file(long_clip, out, Negative(), QUICK)
    (folder_of(out) / "000002.mp4").unlink()
    report = convert_file(long_clip, out, Negative(), QUICK)
    assert report.resumed_frames == 2 * PART_FRAMES and report.frames == FRAMES and content(out) == uninterrupted


def test_two_runs_for_one_output_are_an_error(long_clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    with Job(out, {}), pytest.raises(OutputError, match=r"out\.mp4: another conversion is writing it"):
        convert_file(long_clip, out, Negative(), QUICK)


def test_an_output_that_appears_during_the_run_is_not_overwritten(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"

    class Intruding(Same):
        def __call__(self, frame: Image) -> Image:
            out.write_text("precious")
            return frame

    with pytest.raises(OutputError, match="exists already"):
        convert_file(clip, out, Intruding())
    assert out.read_text() == "precious"


def test_long_file_names_work(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / f"{'é' * 120}.mp4"
    assert convert_file(clip, out, Same()).frames == 12
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_start_after_the_end_is_an_error(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"uneven\.mp4: has no frames between --start and the end of --duration"):
        convert_file(clip, tmp_path / "out.mp4", Same(), ConvertOptions(start=Fraction(100)))
    assert list(tmp_path.iterdir()) == []


def arguments(source: Path, out: Path, model: Path) -> list[str]:
    """The arguments of `cyclecast`."""
    return ["convert", str(source), str(out), "-m", str(model), "--preset", "ultrafast", "--json"]


def command(source: Path, out: Path, model: Path) -> list[str]:
    """The command line of a separate process."""
    return [sys.executable, "-m", "cyclecast", *arguments(source, out, model)]


def test_a_run_killed_with_sigkill_resumes(long_clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    assert run_command(*arguments(long_clip, whole, tiny_model)).returncode == 0
    process = subprocess.Popen(command(long_clip, out, tiny_model), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (folder_of(out) / "000001.mp4").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = run_command(*arguments(long_clip, out, tiny_model))
    assert json.loads(done.stdout)["resumed_frames"] >= PART_FRAMES
    assert content(out) == content(whole)


def test_a_full_disk_is_an_error_in_one_line_and_the_next_run_finishes(long_clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    out = tmp_path / "out.mkv"
    options = ["--crf", "0"]  # large parts
    failed = subprocess.run(
        [*command(long_clip, out, tiny_model), *options], capture_output=True, text=True, preexec_fn=small_files
    )
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert "out.mkv: " in failed.stderr.splitlines()[-1] and "File too large" in failed.stderr.splitlines()[-1]
    assert not out.exists()
    done = run_command(*arguments(long_clip, out, tiny_model), *options)
    assert done.returncode == 0 and json.loads(done.stdout)["frames"] == FRAMES


def test_an_interrupted_batch_converts_the_rest(long_clip: Path, clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    (folder / "b.mp4").write_text("no video")
    first = run_command(*arguments(folder, out, tiny_model))
    assert first.returncode == 1
    (folder / "b.mp4").write_bytes(clip.read_bytes())
    second = run_command(*arguments(folder, out, tiny_model))
    assert second.returncode == 0, second.stderr
    a, b = json.loads(second.stdout)["files"]
    assert a["skipped"] == "converted by an earlier run" and b["frames"] == 12
    assert sorted(path.name for path in out.iterdir()) == ["a.mp4", "b.mp4"]
    third = run_command(*arguments(folder, out, tiny_model))
    assert third.returncode == 1 and third.stderr.count("exists already") == 2  # a finished batch keeps no log
