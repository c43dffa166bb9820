"""The scratch folder of a run on each machine. Whatever ends a run, its folders are removed in the end."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from filelock import FileLock, Timeout

from cyclecast.own_files import create_own_folder, is_own_folder

SCRATCH_PREFIX = "cyclecast-cluster-"
MIN_AGE_S = 60.0  # a younger folder may not be locked yet


@lru_cache(maxsize=1)
def scratch_folder(name: str) -> Path:
    """Creates this machine's folder of the run, locked until this process ends. Removes old folders that nobody has locked."""
    parent = Path(tempfile.gettempdir())
    for old in parent.glob(f"{SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError):
            is_old = is_own_folder(old) and time.time() - old.stat().st_mtime > MIN_AGE_S
            if is_old and not any(map(_is_locked, old.glob("held-*"))):
                shutil.rmtree(old, ignore_errors=True)
    folder = parent / name
    create_own_folder(folder, 0o700)
    lock = FileLock(folder / f"held-{secrets.token_hex(8)}")
    lock.acquire()
    _locks.append(lock)
    return folder


_locks: list[FileLock] = []  # of this process, until it ends


def _is_locked(path: Path) -> bool:
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def remove_folder(name: str) -> None:
    """Runs on a worker: removes a scratch folder, or a folder in one."""
    shutil.rmtree(Path(tempfile.gettempdir()) / name, ignore_errors=True)


def write_once(path: Path, chunks: Iterable[bytes]) -> Path:
    """Writes the chunks to `path` if no process of this machine has done so. Raises OSError if it cannot be written."""
    partial = path.with_suffix(".partial")
    with FileLock(f"{partial}.lock"):
        if not path.exists():
            with open(partial, "wb") as file:
                file.writelines(chunks)
            os.replace(partial, path)
    return path
