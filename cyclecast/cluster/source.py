"""The file that is converted: known again on every machine, and sent to those that have not got it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ray

from cyclecast.errors import EngineError, InputError
from cyclecast.files import digest_of_ends, read_error

BLOCK = 32 << 20  # bytes of a source that is sent to machines which do not have it


class Source:
    """The file that is converted, as it was at first. InputError if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.mark = digest_of_ends(path)
            self._was = self._state()
        except OSError as error:
            raise self._unreadable(error) from error

    def check(self) -> None:
        """InputError if it is not what it was."""
        try:
            same = self._state() == self._was
        except OSError as error:
            raise self._unreadable(error) from error
        if not same:
            raise InputError(f"{self.path}: was changed while it was converted")

    def blocks(self) -> list[Any]:
        """All of it, as references. InputError if it is not what it was; EngineError if Ray cannot take it."""
        self.check()
        blocks = []
        try:
            with open(self.path, "rb") as file:
                while block := file.read(BLOCK):
                    blocks.append(ray.put(block))
        except OSError as error:
            raise self._unreadable(error) from error
        except ray.exceptions.RayError as error:
            raise EngineError(f"Ray cannot send {self.path}: {str(error).splitlines()[0]}") from error
        self.check()
        return blocks

    def _state(self) -> tuple[int, ...]:
        stat = os.stat(self.path)
        return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns

    def _unreadable(self, error: OSError) -> InputError:
        return read_error(error, self.path)
