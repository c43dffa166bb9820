"""Names that cyclecast uses may be taken by links: they are not followed, and only what cyclecast writes is deleted."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cyclecast.errors import OutputError
from cyclecast.own_files import (
    NotOwnError,
    create_own_folder,
    is_own_file,
    is_own_folder,
    leads_outside,
    own_opener,
    refuse_links_in,
    remove_own_files,
)
from cyclecast.runtime.machine import cache_folder
from cyclecast.training.config import TrainConfig
from cyclecast.training.loop import train

needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "thesis.txt"
    path.parent.mkdir()
    path.write_text("precious")
    return path


@pytest.mark.parametrize("mode", ["rb", "rb+", "ab", "wb"])
def test_a_file_is_opened_under_its_only_name(tmp_path: Path, victim: Path, mode: str) -> None:
    (tmp_path / "link").symlink_to(victim)
    (tmp_path / "dangling").symlink_to(victim.with_name("new"))
    os.link(victim, tmp_path / "hard")
    os.mkfifo(tmp_path / "pipe")
    for name, problem in {
        "link": "symbolic link",
        "dangling": "symbolic link",
        "hard": "hard link",
        "pipe": "regular file|No such device",
    }.items():
        with pytest.raises(OSError, match=problem):
            open(tmp_path / name, mode, opener=own_opener).close()
    assert victim.read_text() == "precious" and os.listdir(victim.parent) == ["thesis.txt"]
    (tmp_path / "own").write_text("before")
    with open(tmp_path / "own", mode, opener=own_opener):
        pass
    assert (tmp_path / "own").read_text() == ("" if mode == "wb" else "before")


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with open(tmp_path / "own", "ab", opener=own_opener):
        pass
    assert (tmp_path / "own").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_folder_is_created_or_used_but_no_link(tmp_path: Path, victim: Path) -> None:
    create_own_folder(tmp_path / "a" / "b")
    create_own_folder(tmp_path / "a" / "b")
    (tmp_path / "link").symlink_to(victim.parent)
    with pytest.raises(NotOwnError, match="link is a symbolic link; remove it"):
        create_own_folder(tmp_path / "link")
    refuse_links_in(tmp_path / "a")
    (tmp_path / "a" / "b" / "c").symlink_to(victim)
    with pytest.raises(NotOwnError, match="c is a symbolic link; remove it"):
        refuse_links_in(tmp_path / "a")
    assert is_own_folder(tmp_path / "a") and not is_own_folder(tmp_path / "link") and not is_own_file(tmp_path / "a" / "b" / "c")


@needs_root
def test_files_and_folders_of_other_users_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name in ("folder", "file"):
        os.chown(tmp_path / name, 54321, 54321)
    with pytest.raises(NotOwnError, match="belongs to another user"):
        create_own_folder(tmp_path / "folder")
    with pytest.raises(NotOwnError, match="belongs to another user"):
        open(tmp_path / "file", "ab", opener=own_opener).close()
    assert not is_own_folder(tmp_path / "folder")


def test_only_files_of_these_names_are_deleted(tmp_path: Path, victim: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "1.txt").mkdir(parents=True)
    (folder / "2.txt").symlink_to(victim)
    (folder / "3.txt").symlink_to(victim.parent)
    (folder / "4.txt").touch()
    (folder / "14.txt").touch()
    remove_own_files(folder, re.compile(r"\d\.txt"))
    assert os.listdir(folder) == ["14.txt"] and victim.read_text() == "precious"


def test_which_paths_lead_outside() -> None:
    assert not any(map(leads_outside, ("a.mp4", "a/b.mp4", "..a.mp4", "a..", "S:01.mp4" if os.name != "nt" else "")))
    assert all(map(leads_outside, ("/a.mp4", "..", "../a.mp4", "a/../../b.mp4", "a/..")))


@pytest.mark.parametrize("name", ["losses.jsonl", "samples", "tensorboard"])
def test_a_run_follows_no_link(small_config: Callable[..., TrainConfig], tmp_path: Path, victim: Path, name: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / name).symlink_to(victim if name == "losses.jsonl" else victim.parent)
    with pytest.raises(OutputError, match=f"{name} is a symbolic link; remove it"):
        train("dcgan", small_config("dcgan", run, steps=2, log_every=1, sample_every=1, tensorboard=True))
    assert victim.read_text() == "precious" and os.listdir(victim.parent) == ["thesis.txt"]


def test_the_sheets_of_a_run_follow_no_link(small_config: Callable[..., TrainConfig], tmp_path: Path, victim: Path) -> None:
    run = tmp_path / "run"
    config = small_config("dcgan", run, steps=2, sample_every=1)
    train("dcgan", config, until=1)
    (sheet,) = run.glob("*.jpg")
    sheet.unlink()
    sheet.symlink_to(victim)
    with pytest.raises(OutputError, match=f"{sheet.name} is a symbolic link; remove it"):
        train("dcgan", config, resume=True)
    assert victim.read_text() == "precious"


@needs_root
def test_scratch_folders_of_other_users_are_left_alone(tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from cyclecast.cluster.scratch import SCRATCH_PREFIX, scratch_folder

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    link, foreign = tmp_path / f"{SCRATCH_PREFIX}link", tmp_path / f"{SCRATCH_PREFIX}foreign"
    link.symlink_to(victim.parent)
    foreign.mkdir()
    (foreign / "file").touch()
    os.chown(foreign, 54321, 54321)
    for path in (foreign, victim.parent):
        os.utime(path, (time.time() - 3600,) * 2)
    scratch_folder.cache_clear()
    try:
        with pytest.raises(NotOwnError):
            scratch_folder(link.name)
        assert scratch_folder(f"{SCRATCH_PREFIX}new").stat().st_mode & 0o777 == 0o700
    finally:
        scratch_folder.cache_clear()
    assert (foreign / "file").exists() and victim.read_text() == "precious"


@needs_root
def test_compiled_models_of_another_user_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache_folder("openvino")
    assert folder is not None and folder.is_dir()
    os.chown(folder, 54321, 54321)
    for user, is_used in ((54321, True), (54322, False)):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        assert (cache_folder("openvino") == folder) is is_used
