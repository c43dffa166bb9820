"""Files appear complete or not at all, and errors name the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cyclecast.errors import OutputError
from cyclecast.files import atomic_write, check_output, write_error


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_at_the_end_and_its_folders_are_created(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a" / "b" / "out.txt") as partial:
        partial.write_text("whole")
        assert not (tmp_path / "a" / "b" / "out.txt").exists() and partial.suffix == ".txt"
    assert names(tmp_path / "a" / "b") == ["out.txt"]
    assert (tmp_path / "a" / "b" / "out.txt").read_text() == "whole"
    assert (tmp_path / "a" / "b" / "out.txt").stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_keeps_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "out.txt").write_text("before")
    with pytest.raises(error), atomic_write(tmp_path / "out.txt", overwrite=True) as partial:
        partial.write_text("half")
        raise error
    assert names(tmp_path) == ["out.txt"] and (tmp_path / "out.txt").read_text() == "before"


def test_two_writers_at_a_time_each_write_a_whole_file(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "out.txt", overwrite=True) as late, atomic_write(tmp_path / "out.txt", overwrite=True) as early:
        late.write_text("second")
        early.write_text("first")
    # the inner block ends first; what it wrote is replaced by the outer one
    assert names(tmp_path) == ["out.txt"] and (tmp_path / "out.txt").read_text() == "second"


def test_errors_name_the_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"out\.txt: too large$"), atomic_write(tmp_path / "out.txt"):
        raise OutputError("too large")


def test_an_output_that_is_blocked(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "nowhere")
    for path, message in (("folder", "is a folder"), ("link.txt", "exists already"), ("n" * 300, "cannot be written")):
        with pytest.raises(OutputError, match=message), atomic_write(tmp_path / path):
            pass
    assert names(tmp_path) == ["folder", "link.txt"] and (tmp_path / "link.txt").is_symlink()


def test_an_output_is_checked_before_the_work_begins(tmp_path: Path) -> None:
    check_output(tmp_path / "new.txt")
    (tmp_path / "old.txt").touch()
    check_output(tmp_path / "old.txt", overwrite=True)
    with pytest.raises(OutputError, match=r"old\.txt: exists already; --overwrite replaces it$"):
        check_output(tmp_path / "old.txt")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is a folder$"):
            check_output(tmp_path, overwrite)


def test_a_write_error_is_one_line_with_the_systems_reason(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(write_error(full, tmp_path / "a.png")) == f"{tmp_path / 'a.png'}: cannot be written (No space left on device)"
    assert str(write_error(full)) == "cannot be written (No space left on device)"
    assert str(write_error(OSError())) == "cannot be written (OSError)"
