"""In a batch, each error costs one file and is one line; the other files are converted."""

from __future__ import annotations

import builtins
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cyclecast.errors import EngineError, InputPermissionError
from cyclecast.video.convert.batch import Outcome, convert_batch
from cyclecast.video.convert.batch_log import BatchLog
from cyclecast.video.convert.job import LIST_NAME, folder_of
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.convert.plan import plan_conversions
from cyclecast.video.files.images import write_image
from cyclecast.video.frame import FrameFunction, Image
from tests.conftest import Negative, moving_frames

QUICK = ConvertOptions(preset="ultrafast")
OVERWRITE = ConvertOptions(preset="ultrafast", overwrite=True)


@pytest.fixture
def sources(clip: Path, tmp_path: Path) -> Path:
    """A folder with two videos and an image."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.mp4", "c.mp4"):
        (folder / name).write_bytes(clip.read_bytes())
    write_image(folder / "b.png", moving_frames(1)[0])
    return folder


def convert(
    sources: Path,
    out: Path,
    messages: list[str] | None = None,
    options: ConvertOptions = QUICK,
    function: FrameFunction | None = None,
) -> list[Outcome]:
    """One run of the batch."""
    report = messages.append if messages is not None else None
    batch_log = BatchLog(out, options.resume, report)
    outcomes = list(convert_batch(plan_conversions([sources], out), function or Negative(), options, batch_log))
    batch_log.close(all_done=not any(outcome.error for outcome in outcomes))
    return outcomes


def fail_nth(original: Callable[..., Any], nth: int, calls: list[int], applies: Callable[..., bool]) -> Callable[..., Any]:
    """The same function, whose n-th call fails because the disk is full."""

    def failing(*args: Any, **options: Any) -> Any:
        if applies(*args, **options):
            calls[0] += 1
            if calls[0] == nth:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args, **options)

    return failing


def always(*_: Any, **__: Any) -> bool:
    return True


def writes(_: Any, mode: str = "r", *__: Any, **___: Any) -> bool:
    return any(letter in mode for letter in "awx+")


CALLS: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    "fsync": (os, "fsync", always),
    "replace": (os, "replace", always),
    "mkdir": (Path, "mkdir", always),
    "unlink": (Path, "unlink", always),
    "open": (builtins, "open", writes),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_full_disk_costs_at_most_one_file(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    owner, name, applies = CALLS[call]
    original = getattr(owner, name)
    nth, failures = 0, 0
    while True:
        nth += 1
        out, calls = tmp_path / f"out{nth}", [0]
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail_nth(original, nth, calls, applies))
            outcomes = convert(sources, out)
        if calls[0] < nth:
            break
        failed = [outcome for outcome in outcomes if outcome.error]
        assert len(outcomes) == 3 and len(failed) <= 1, (nth, failed)
        for outcome in failed:
            assert outcome.error and str(outcome.output) in outcome.error and "\n" not in outcome.error
        for outcome in outcomes:
            assert outcome.error or outcome.output.exists()
        failures += len(failed)
        if failed:  # the next run finishes the batch
            assert not any(outcome.error for outcome in convert(sources, out, options=OVERWRITE))
    assert nth > 1 and (failures or call == "unlink")


class NoCache(Negative):
    """A model whose engine finds the disk full: while it compiles for the first size, or on the first frame."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where: str | None = where

    def _fail(self, where: str) -> None:
        if where == self._where:
            self._where = None
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def prepare(self, width: int, height: int) -> None:
        self._fail("prepare")

    def __call__(self, frame: Image) -> Image:
        self._fail("call")
        return super().__call__(frame)


@pytest.mark.parametrize("where", ["prepare", "call"])
def test_an_engine_that_finds_the_disk_full_costs_one_file(sources: Path, tmp_path: Path, where: str) -> None:
    a, b, c = convert(sources, tmp_path / "out", function=NoCache(where))
    assert a.error == f"{tmp_path / 'out' / 'a.mp4'}: cannot be written (No space left on device)"
    assert b.report and c.report


class Failing(Negative):
    """A model that cannot run small frames."""

    def __call__(self, frame: Image) -> Image:
        raise EngineError("no memory for a frame of this size")


def test_an_error_of_the_model_names_the_file(sources: Path, tmp_path: Path) -> None:
    outcomes = convert(sources, tmp_path / "out", function=Failing())
    assert [outcome.error for outcome in outcomes] == [
        f"{sources / name}: no memory for a frame of this size" for name in ("a.mp4", "b.png", "c.mp4")
    ]


def forbid(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Denies this process what is in these folders and files, as the rights of another user would."""

    def patch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(path: Any, *args: Any, **options: Any) -> Any:
            if isinstance(path, str | Path):
                at = Path(path)
                if any(one in at.parents or (one == at and name != "stat") for one in paths):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return original(path, *args, **options)

        monkeypatch.setattr(owner, name, call)

    for owner, name in ((os, "scandir"), (os, "stat"), (os, "lstat"), (builtins, "open")):
        patch(owner, name)


def test_what_may_not_be_read_is_one_line_each(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("closed", "open"):
        (sources / name).mkdir()
        shutil.copy(sources / "b.png", sources / name / "d.png")
    forbid(monkeypatch, sources / "closed", sources / "b.png")
    results = {str(outcome.source.relative_to(sources)): outcome.error for outcome in convert(sources, tmp_path / "out")}
    assert results == {
        "a.mp4": None,
        "b.png": f"{sources / 'b.png'}: cannot be read (Permission denied)",
        "c.mp4": None,
        "closed": f"{sources / 'closed'}: cannot be read (Permission denied)",
        "open/d.png": None,
    }
    with pytest.raises(InputPermissionError, match="closed: cannot be read"):
        plan_conversions([sources / "closed"], tmp_path / "out")


def test_outputs_that_cannot_be_created_are_one_line_each(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    for folder in ("sub", "file"):
        (sources / folder).mkdir()
        shutil.copy(sources / "b.png", sources / folder / "d.png")
    (out / "sub").mkdir(parents=True)
    (out / "file").touch()
    longest = "\N{SNOWMAN}" * 84 + ".ts"  # 255 bytes, and one more as .mp4
    shutil.copy(sources / "a.mp4", sources / longest)
    forbid(monkeypatch, out / "sub")
    results = {str(outcome.source.relative_to(sources)): outcome.error for outcome in convert(sources, out)}
    assert results == {
        "a.mp4": None,
        "b.png": None,
        "c.mp4": None,
        "file/d.png": f"{out / 'file' / 'd.png'}: cannot be written (Not a directory)",
        "sub/d.png": f"{out / 'sub' / 'd.png'}: cannot be written (Permission denied)",
        longest: f"{(out / longest).with_suffix('.mp4')}: cannot be written (File name too long)",
    }


def test_a_job_folder_that_cannot_be_emptied_costs_only_its_own_file(sources: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    thesis = folder_of(out / "a.mp4") / LIST_NAME / "thesis.txt"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    a, b, c = convert(sources, out)
    assert a.error and a.error.startswith(f"{out / 'a.mp4'}: cannot be written (")
    assert b.report and c.report and thesis.read_text() == "years of work"


LOGS: dict[str, bytes | None] = {
    "folder": None,
    "garbage": bytes(range(256)),
    "garbage lines": b"\xff\xfe\n\0\n",
    "other types": b'[1]\n7\nnull\n{"output": 3, "signature": {}}\n{"output": "a.mp4"}\n',
    "nested": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("how", LOGS)
def test_an_unreadable_batch_log_does_not_stop_the_batch(sources: Path, tmp_path: Path, how: str) -> None:
    path, data = tmp_path / "out" / BatchLog.NAME, LOGS[how]
    path.parent.mkdir()
    path.mkdir() if data is None else path.write_bytes(data)
    messages: list[str] = []
    outcomes = convert(sources, path.parent, messages)
    assert [outcome.error for outcome in outcomes] == [None] * 3
    about_log = [line for line in messages if line.startswith(f"{path}: ")]
    assert len(about_log) == 1


def test_garbage_in_a_batch_log_costs_only_its_own_lines(sources: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (sources / "d.mp4").write_text("no video")
    assert [bool(outcome.error) for outcome in convert(sources, out)] == [False, False, False, True]
    path = out / BatchLog.NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\xff garbage\n" + lines[2] + b'{"cut')
    messages: list[str] = []
    a, b, c, _ = convert(sources, out, messages)
    assert [outcome.report for outcome in (a, b, c)] == [None] * 3
    assert a.error is None and c.error is None and b.error is not None and "exists already" in b.error
    assert messages[0] == f"{path}: lines that cannot be read: 1; files named there count as not converted"


def test_a_finished_file_that_cannot_be_logged_gives_a_notice(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cyclecast.video.convert.batch_log.JsonLines.append", full)
    (sources / "a.mp4").unlink()
    (sources / "c.mp4").unlink()
    (outcome,) = convert(sources, tmp_path / "out")
    assert outcome.error is None and outcome.report is not None and outcome.output.exists()
    assert outcome.report.notices == [
        "not noted in .cyclecast-batch.jsonl (No space left on device); a later run of the batch will report that it exists"
    ]
