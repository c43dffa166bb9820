"""Which file goes where, when there are many; and which of them an earlier run has done."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclecast.errors import ConfigError, InputError, OutputError
from cyclecast.files import read_lines
from cyclecast.video import images
from cyclecast.video.convert import GIF
from cyclecast.video.sinks.file import CONTAINERS

WRITABLE = images.SUFFIXES | frozenset(CONTAINERS) | {GIF}
READABLE = WRITABLE | {".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp", ".mxf", ".vob"}


def plan(sources: Sequence[str | Path], output: str | Path) -> list[tuple[Path, Path]]:
    """(source, output) of each file. Globs and folders are unrolled, a folder's tree is mirrored under `output`.

    One file goes to `output` itself, unless that is a folder (or ends in a separator); several need a folder. What lies
    under `output` is no source. InputError for a source that matches nothing, ConfigError for several sources and an
    output that names a file.
    """
    found: list[tuple[Path, Path]] = []  # file, its place under an output folder
    unrolled, target = False, Path(output)
    for source in map(str, sources):
        path = Path(source)
        if os.path.isdir(path):
            unrolled = True
            inside = [p for p in sorted(path.rglob("*")) if _is_convertible(p) and not _is_under(p, target)]
            if not inside:
                raise InputError(f"{source}: no images or videos in this folder")
            found += [(p, p.relative_to(path)) for p in inside]
        elif glob.has_magic(source) and not os.path.exists(path):
            unrolled = True
            matches = [Path(match) for match in sorted(glob.glob(source, recursive=True)) if os.path.isfile(match)]
            if not matches:
                raise InputError(f"{source}: matches no file")
            found += [(p, Path(p.name)) for p in matches]
        else:
            found.append((path, Path(path.name)))
    is_folder = os.path.isdir(target) or str(output).endswith(("/", os.sep))
    if not is_folder and len(found) == 1 and not unrolled:
        return [(found[0][0], target)]
    if not is_folder and target.suffix.lower() in WRITABLE:
        raise ConfigError(f"several files cannot go into the one file {output}; name a folder")
    planned = [(source, target / _output_name(place)) for source, place in found]
    _refuse_collisions(planned)
    return planned


def _is_convertible(path: Path) -> bool:
    return path.suffix.lower() in READABLE and path.is_file()


def _is_under(path: Path, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def _output_name(place: Path) -> Path:
    return place if place.suffix.lower() in WRITABLE else place.with_suffix(".mp4")


def _refuse_collisions(planned: list[tuple[Path, Path]]) -> None:
    taken: dict[Path, Path] = {}
    for source, output in planned:
        if output in taken:
            raise ConfigError(f"{taken[output]} and {source} would both become {output}")
        taken[output] = source


class Ledger:
    """Which files of a batch are done, in a hidden file of the output folder, so that a batch that was cut short can go on.

    It is there while the batch is not through: `close` removes it once nothing failed.
    """

    NAME = ".cyclecast-batch.jsonl"

    def __init__(self, folder: Path, resume: bool = True) -> None:
        self._path = folder / self.NAME
        try:
            lines = read_lines(self._path) if resume else []
            if not lines:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be read ({error.strerror})") from error
        self._done = {line["output"]: line["signature"] for line in lines}

    def has(self, output: Path, signature: dict[str, Any]) -> bool:
        """An earlier run made this output, which is still there, from the same source with the same model and options."""
        return output.exists() and self._done.get(self._name(output)) == signature

    def add(self, output: Path, signature: dict[str, Any]) -> None:
        """It is whole and has its name. OutputError if that cannot be noted."""
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"output": self._name(output), "signature": signature}) + "\n")
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written ({error.strerror})") from error

    def close(self, all_done: bool) -> None:
        """The batch is through."""
        if all_done:
            self._path.unlink(missing_ok=True)

    def _name(self, output: Path) -> str:
        return os.path.relpath(output, self._path.parent)
