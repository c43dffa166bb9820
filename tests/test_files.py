"""Whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cyclecast.errors import OutputError
from cyclecast.files import atomic_write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_appears_at_the_end_under_folders_made_for_it(tmp_path: Path) -> None:
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
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "out.txt").write_text("before")
    with pytest.raises(error), atomic_write(tmp_path / "out.txt", overwrite=True) as partial:
        partial.write_text("half")
        raise error
    assert names(tmp_path) == ["out.txt"] and (tmp_path / "out.txt").read_text() == "before"


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "out.txt") as one, atomic_write(tmp_path / "out.txt", overwrite=True) as other:
        assert one != other


def test_errors_bear_the_name_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"out\.txt: too large$"), atomic_write(tmp_path / "out.txt"):
        raise OutputError("too large")


def test_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "nowhere")
    for path, message in (("folder", "is a folder"), ("link.txt", "exists already"), ("n" * 300, "cannot be written")):
        with pytest.raises(OutputError, match=message), atomic_write(tmp_path / path):
            pass
    assert names(tmp_path) == ["folder", "link.txt"] and (tmp_path / "link.txt").is_symlink()
