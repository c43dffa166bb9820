"""What is done of a conversion, whatever ends the program: closed parts and a list of them, in a folder beside the output.

The list, `parts.jsonl`, grows by a line as each part is whole and on the disk: first what the job is, then its parts, then
what was found at the source's end. A run that finds it goes on behind the last part; one of another source, model or option
starts anew. Parts are of the same pictures in every run, so an interrupted run gives the file that an uninterrupted one gives.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cyclecast.errors import OutputError, OutputExistsError
from cyclecast.files import read_lines, write_error
from cyclecast.video.files.reader import ResumePoint
from cyclecast.video.files.writer import Part

LIST = "parts.jsonl"
LONGEST_NAME = 200  # bytes, of the 255 that file systems allow


@dataclass(frozen=True)
class End:
    """The source is through: what was found on the way."""

    notices: list[str]
    damage: str | None


class Job:
    """The folder of one output's parts, locked against other runs. A context manager.

    signature: what makes the output what it is; resume: go on with what an earlier run of the same signature left. `news`
    says what was done about it, in words. OutputError if the folder cannot be written or another run is at it.
    """

    def __init__(self, output: Path, signature: dict[str, Any], resume: bool = True) -> None:
        self.folder = folder_of(output)
        self.news: str | None = None
        self._parts: dict[int, tuple[Part, bool]] = {}  # index -> itself, whether all was steady up to its end
        self.end: End | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / "lock", timeout=0)
            self._lock.acquire()
        except Timeout as error:
            raise OutputError("another conversion is writing it") from error
        except OSError as error:
            raise write_error(error) from error
        self._signature = json.loads(json.dumps(signature))
        if not (resume and self._read()):
            self._begin()

    @property
    def parts(self) -> list[Part]:
        """All that are closed, in the order of the film."""
        return [self._parts[index][0] for index in sorted(self._parts)]

    @property
    def frames(self) -> int:
        """How many pictures are in them."""
        return sum(part.frames for part in self.parts)

    def has(self, index: int) -> bool:
        """This part is closed."""
        return index in self._parts

    def place(self) -> ResumePoint | None:
        """Where the film goes on behind the parts that have no gap before them; None at its start. The others are given up."""
        count = self.next_index()
        self._parts = {index: self._parts[index] for index in range(count)}
        if not count:
            return None
        done = [self._parts[index] for index in range(count)]
        return ResumePoint(sum(part.frames for part, _ in done), done[-1][0].last, done[-1][1])

    def next_index(self) -> int:
        """Of the first part that is missing."""
        return next(index for index in range(len(self._parts) + 1) if index not in self._parts)

    def open_path(self, index: int) -> Path:
        """Where to write a part before it is closed."""
        return self.folder / f"open-{index:06d}.mp4"

    def close_part(self, index: int, part: Part, steady: bool) -> None:
        """Takes a finished part over; from now on no end of the program can lose it."""
        path = self.folder / f"{index:06d}.mp4"
        try:
            _to_disk(part.path)
            os.replace(part.path, path)
            part = Part(path, part.frames, part.first, part.last, part.end, part.reordered)
            self._append({"part": index, "steady": steady, **asdict(part), "path": path.name})
        except OSError as error:
            raise write_error(error) from error
        self._parts[index] = (part, steady)

    def close_source(self, end: End) -> None:
        """There is nothing more to come."""
        self._append({"end": asdict(end)})
        self.end = end

    def publish(self, film: Path, output: Path, overwrite: bool) -> None:
        """Gives the finished file its name, all at once, and removes the folder."""
        if os.path.lexists(output) and not overwrite:
            raise OutputExistsError("exists already; --overwrite replaces it")
        try:
            _to_disk(film)
            os.replace(film, output)
        except OSError as error:
            raise write_error(error) from error
        self.remove()

    def remove(self) -> None:
        """Deletes the folder and all in it."""
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> bool:
        """Takes over what an earlier run left; False if there is nothing or it is of another signature."""
        lines = read_lines(self.folder / LIST)
        if not lines:
            return False
        others = [key for key in self._signature if lines[0].get("job", {}).get(key) != self._signature[key]]
        if others:
            self.news = f"starting anew: not the same {', '.join(others)} as in the run that was interrupted"
            return False
        lost = False
        for line in lines[1:]:
            if "part" in line:
                path = self.folder / line["path"]
                lost = lost or not path.is_file()
                if path.is_file():
                    part = Part(path, *(line[name] for name in ("frames", "first", "last", "end", "reordered")))
                    self._parts[line["part"]] = (part, line["steady"])
            elif "end" in line and not lost:
                self.end = End(**line["end"])
        if self._parts:
            self.news = f"going on after {self.frames} frames of a run that was interrupted"
        return True

    def _begin(self) -> None:
        for path in self.folder.iterdir():
            if path.name != "lock":
                path.unlink()
        self._append({"job": self._signature})

    def _append(self, line: dict[str, Any]) -> None:
        with open(self.folder / LIST, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the folder if there is something in it to go on with."""
        if self._parts:
            for path in (*self.folder.glob("open-*"), *self.folder.glob("film*")):  # of no use, and the disk may be full
                path.unlink(missing_ok=True)
            self._lock.release()
        else:
            self.remove()


def folder_of(output: Path) -> Path:
    """Hidden, beside the output."""
    name = output.name
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return output.with_name(f".{name}.cyclecast")


def _to_disk(path: Path) -> None:
    """Waits until the file is where a power cut cannot take it."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
