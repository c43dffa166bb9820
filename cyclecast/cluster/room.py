"""Of each run, one folder on every machine for what it is sent; whatever ends a run, nothing stays for good."""

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

ROOM = "cyclecast-cluster-"
YOUNG_SECONDS = 60.0  # a room of that age may not be held yet


@lru_cache(maxsize=1)
def room_of(name: str) -> Path:
    """This machine's folder for what it is sent, held as long as this process lives; rooms that nobody holds are removed."""
    above = Path(tempfile.gettempdir())
    for old in above.glob(f"{ROOM}*"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > YOUNG_SECONDS and not any(map(_is_held, old.glob("held-*"))):
                shutil.rmtree(old, ignore_errors=True)
    room = above / name
    room.mkdir(mode=0o700, exist_ok=True)
    _held.append(FileLock(room / f"held-{secrets.token_hex(8)}"))
    _held[-1].acquire()
    return room


_held: list[FileLock] = []  # by this process, until it ends


def _is_held(lock: Path) -> bool:
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def remove(folder: str) -> None:
    """On a worker: removes a folder of what was sent."""
    shutil.rmtree(Path(tempfile.gettempdir()) / folder, ignore_errors=True)


def written_once(path: Path, pieces: Iterable[bytes]) -> Path:
    """The path, with all pieces in it, whichever process of this machine comes first. OSError if it cannot be written."""
    partial = path.with_suffix(".partial")
    with FileLock(f"{partial}.lock"):
        if not path.exists():
            with open(partial, "wb") as file:
                file.writelines(pieces)
            os.replace(partial, path)
    return path
