"""A job's folder is locked until it is removed; a run whose list of parts cannot be read starts over."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from cyclecast.errors import Interrupted, OutputError
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.job import LIST_NAME, Job, folder_of
from cyclecast.video.convert.json_lines import JsonLines
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.convert.parts import PART_FRAMES
from cyclecast.video.frame import Image
from tests.conftest import LONG_FRAMES, Negative

QUICK = ConvertOptions(preset="ultrafast")


def test_the_lock_is_held_until_the_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path / "out.mp4")
    at_release: list[bool] = []
    release = FileLock.release

    def record_and_release(lock: FileLock, force: bool = False) -> None:
        if lock.is_locked:
            at_release.append(folder.exists())
        release(lock, force)

    with Job(tmp_path / "out.mp4", {}) as job:
        (folder / "000000.mp4").touch()
        monkeypatch.setattr(FileLock, "release", record_and_release)
        job.remove()
    assert at_release == [False]


OPEN_JOB = "import sys; from pathlib import Path; from cyclecast.video.convert.job import Job; Job(Path(sys.argv[1]), {})"


def test_another_process_cannot_use_the_folder_while_it_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each deleted file of the folder, a second process tries to open the job."""
    out, messages = tmp_path / "out.mp4", []
    unlink = Path.unlink

    def unlink_then_try(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        if path.name != "lock":
            attempt = subprocess.run([sys.executable, "-c", OPEN_JOB, str(out)], capture_output=True, text=True)
            messages.append(attempt.stderr.strip().splitlines()[-1:])

    with Job(out, {}) as job:
        (job.folder / "000000.mp4").touch()
        monkeypatch.setattr(Path, "unlink", unlink_then_try)
        job.remove()
    assert len(messages) == 2 and all("another conversion is writing it" in line for (line,) in messages), messages
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_that_was_deleted_before_it_was_locked_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run removes its folder after the second has opened the lock file and before the second locks it."""
    first = Job(tmp_path / "out.mp4", {})
    acquire = FileLock.acquire

    def remove_then_acquire(lock: FileLock, *args: object, **options: object) -> object:
        monkeypatch.setattr(FileLock, "acquire", acquire)
        first.remove()
        return acquire(lock, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(FileLock, "acquire", remove_then_acquire)
    with Job(tmp_path / "out.mp4", {}), pytest.raises(OutputError, match="another conversion is writing it"):
        Job(tmp_path / "out.mp4", {})


@pytest.fixture(scope="module")
def interrupted_job(long_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a job that ends after its first part."""
    out = tmp_path_factory.mktemp("job") / "out.mp4"

    class Stopping(Negative):
        frames = 0

        def __call__(self, frame: Image) -> Image:
            self.frames += 1
            if self.frames == PART_FRAMES + 40:
                raise KeyboardInterrupt
            return super().__call__(frame)

    with pytest.raises(Interrupted):
        convert_file(long_clip, out, Stopping(), QUICK)
    return {path.name: path.read_bytes() for path in folder_of(out).iterdir()}


def break_list(path: Path, damage: str) -> None:
    """Makes the list of the parts unreadable."""
    lines = path.read_bytes().splitlines(keepends=True)
    part = json.loads(lines[1])
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(
            {
                "garbage": bytes(range(256)) * 4,
                "garbage line": lines[0] + b"\xff\xfe\x00garbage\n" + lines[1],
                "zeros": b"\0" * 4096,
                "empty": b"",
                "a list": b"[1, 2]\n" + lines[1],
                "a number": lines[0] + b"7\n" + lines[1],
                "no signature": lines[1],
                "signature of another type": b'{"job": 3}\n' + lines[1],
                "fields of another type": lines[0] + json.dumps(part | {"frames": "many"}).encode() + b"\n",
                "a field is missing": lines[0] + b'{"part": 0}\n',
                "end of another type": lines[0] + lines[1] + b'{"end": {"notices": 3, "damage": null}}\n',
                "path of another type": lines[0] + json.dumps(part | {"path": 3}).encode() + b"\n",
            }[damage]
        )


LIST_DAMAGE = (
    "folder",
    "garbage",
    "garbage line",
    "zeros",
    "empty",
    "a list",
    "a number",
    "no signature",
    "signature of another type",
    "fields of another type",
    "a field is missing",
    "end of another type",
    "path of another type",
)


@pytest.mark.parametrize("damage", LIST_DAMAGE)
def test_an_unreadable_list_starts_over(long_clip: Path, interrupted_job: dict[str, bytes], tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out.mp4"
    folder = folder_of(out)
    folder.mkdir()
    for name, data in interrupted_job.items():
        (folder / name).write_bytes(data)
    break_list(folder / LIST_NAME, damage)
    messages: list[str] = []
    report = convert_file(long_clip, out, Negative(), QUICK, on_message=messages.append)
    assert (report.frames, report.resumed_frames) == (LONG_FRAMES, 0)
    assert messages[0] == f"out.mp4: starting over: the list of finished parts {folder / LIST_NAME} cannot be read"
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_a_disk_that_fails_while_the_list_is_read_costs_no_part(
    long_clip: Path, interrupted_job: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.mp4"
    folder_of(out).mkdir()
    for name, data in interrupted_job.items():
        (folder_of(out) / name).write_bytes(data)

    def fail(lines: JsonLines) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "read", fail)
        with pytest.raises(OutputError, match=r"cannot be read \(Input/output error\); --no-resume starts over"):
            convert_file(long_clip, out, Negative(), QUICK)
    assert {path.name: path.read_bytes() for path in folder_of(out).iterdir()} == interrupted_job
    assert convert_file(long_clip, out, Negative(), QUICK).resumed_frames == PART_FRAMES


def test_an_unreadable_list_without_parts_starts_over(clip: Path, tmp_path: Path) -> None:
    for name, prepare in {
        "folder": lambda path: path.mkdir(),
        "garbage": lambda path: path.write_bytes(b"\xff\0\n\xfe"),
    }.items():
        out = tmp_path / f"{name}.mp4"
        folder_of(out).mkdir()
        make: Callable[[Path], object] = prepare
        make(folder_of(out) / LIST_NAME)
        assert convert_file(clip, out, Negative()).frames == 12
        assert not folder_of(out).exists()


def test_a_file_in_place_of_the_folder_is_an_error(clip: Path, tmp_path: Path) -> None:
    folder_of(tmp_path / "out.mp4").touch()
    with pytest.raises(OutputError, match=r"out\.mp4: cannot be written"):
        convert_file(clip, tmp_path / "out.mp4", Negative())
