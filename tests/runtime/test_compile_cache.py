"""Compiled models have a limit on the disk: a source that changes its size for ever does not fill it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import cyclecast
from cyclecast.runtime import machine
from cyclecast.runtime.machine import cache_folder, shrink_cache


def put(folder: Path, name: str, size: int, used: float) -> Path:
    path = folder / name
    path.write_bytes(b"x" * size)
    os.utime(path, (used, used))
    return path


def test_the_longest_unused_go_first_and_other_files_stay(tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path, f"{number}.blob", 100, used=1000 + number)
    foreign = put(tmp_path, "thesis.txt", 5000, used=1)
    kernels = put(tmp_path, "10.3-sm89.kernels", 5000, used=1)
    os.utime(tmp_path / "0.blob", (9999, 1000))  # read last
    shrink_cache(tmp_path, limit=250)
    assert sorted(path.name for path in tmp_path.glob("*.blob")) == ["0.blob", "4.blob"]
    assert foreign.exists() and kernels.exists()
    shrink_cache(tmp_path, limit=0)
    assert [path.name for path in tmp_path.glob("*.blob")] == ["0.blob"]


def test_a_link_in_the_cache_is_left_alone(tmp_path: Path) -> None:
    target = put(tmp_path, "thesis.txt", 5000, used=1)
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "a.blob").symlink_to(target)
    put(folder, "b.blob", 10, used=2)
    put(folder, "c.blob", 10, used=3)
    shrink_cache(folder, limit=0)
    assert target.exists() and sorted(os.listdir(folder)) == ["a.blob", "c.blob"]
    shrink_cache(tmp_path / "missing")


def test_a_source_that_changes_its_size_does_not_fill_the_disk(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sizes = [(64 + 16 * number, 64) for number in range(8)]
    with cyclecast.load(tiny_model, engine="openvino") as model:
        model.prepare(*sizes[0])
        folder = cache_folder("openvino")
        assert folder is not None
        one = sum(path.stat().st_size for path in folder.iterdir())
        monkeypatch.setattr(machine, "CACHE_BYTES", 3 * one)
        for size in sizes[1:]:
            model.prepare(*size)
    assert 0 < sum(path.stat().st_size for path in folder.iterdir()) <= 4 * one
