"""The source file: recognized on every machine, and sent to those that lack it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ray

from cyclecast.errors import EngineError, InputError
from cyclecast.files import digest_of_ends, read_error

BLOCK_BYTES = 32 << 20  # of a source that is sent


class SourceFile:
    """The file to convert, with its state when the conversion began. Raises InputError if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.digest = digest_of_ends(path)
            self._state_at_start = self._state()
        except OSError as error:
            raise read_error(error, self.path) from error

    def check_unchanged(self) -> None:
        """Raises InputError if the file has changed since the beginning or cannot be read."""
        try:
            state = self._state()
        except OSError as error:
            raise read_error(error, self.path) from error
        if state != self._state_at_start:
            raise InputError(f"{self.path}: was changed while it was converted; run the command again")

    def send(self) -> list[Any]:
        """Returns the file's blocks in Ray's store. Raises InputError if it has changed, EngineError if Ray cannot store it."""
        self.check_unchanged()
        blocks = []
        try:
            with open(self.path, "rb") as file:
                while block := file.read(BLOCK_BYTES):
                    blocks.append(ray.put(block))
        except OSError as error:
            raise read_error(error, self.path) from error
        except ray.exceptions.RayError as error:
            raise EngineError(f"Ray cannot send {self.path}: {str(error).splitlines()[0]}") from error
        self.check_unchanged()
        return blocks

    def _state(self) -> tuple[int, ...]:
        stat = os.stat(self.path)
        return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
