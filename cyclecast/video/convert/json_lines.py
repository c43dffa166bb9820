"""An append-only file of JSON objects, one in each line: what a job or a batch has finished."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from cyclecast.own_files import own_opener


class JsonLines:
    """A file that gains one JSON object at a time and survives a crash or a full disk between two of them.

    sync: wait with each object until it is on the disk. The file is opened as `own_opener` does, without following a link.
    """

    def __init__(self, path: Path, sync: bool = False) -> None:
        self.path, self._sync = path, sync

    def read(self) -> tuple[list[dict[str, Any]], int]:
        """Returns all objects, and the number of complete lines that are not objects. A missing file has no objects.

        A last line without its end, which a crash leaves behind, is removed if an object precedes it. Raises OSError if the file
        cannot be read.
        """
        objects: list[dict[str, Any]] = []
        unreadable = end = 0
        with suppress(FileNotFoundError), open(self.path, "rb+", opener=own_opener) as file:
            for line in file:
                if not line.endswith(b"\n"):
                    if objects:
                        file.truncate(end)
                    break
                end += len(line)
                value = _parse(line)
                if value is None:
                    unreadable += 1
                else:
                    objects.append(value)
        return objects, unreadable

    def append(self, value: dict[str, Any]) -> None:
        """Adds one object. Raises OSError, and leaves the file unchanged, if it cannot be written."""
        line = json.dumps(value).encode() + b"\n"
        with open(self.path, "ab", buffering=0, opener=own_opener) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                while line:
                    line = line[file.write(line) :]
                if self._sync:
                    os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    file.truncate(size)
                raise


def _parse(line: bytes) -> dict[str, Any] | None:
    """Returns the object in this line; None if it holds something else."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None
    return value if isinstance(value, dict) else None
