"""The finished parts of a conversion, in a hidden folder beside the output. They survive whatever ends the program.

The list `parts.jsonl` in the folder gains a line as each part is complete and on the disk: first the signature of the job, then
its parts, then what was found at the end of the source. A later run with the same signature resumes after the last part; a run
with another source, model or option starts over. Parts hold the same frames in every run, so the file of an interrupted run
equals that of an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cyclecast.errors import OutputError, OutputExistsError
from cyclecast.files import write_error
from cyclecast.own_files import (
    NotOwnError,
    create_own_file,
    create_own_folder,
    is_own_file,
    leads_outside,
    own_opener,
    remove_own_files,
)
from cyclecast.phrases import count_noun
from cyclecast.video.convert.json_lines import JsonLines
from cyclecast.video.files.time_range import ResumePoint
from cyclecast.video.files.writer import Part

LIST_NAME = "parts.jsonl"
LOCK_NAME = "lock"
PART_NAME = re.compile(r"\d{6,}\.(mp4|mkv)")
UNFINISHED_NAME = re.compile(r"open-\d{6,}\.(mp4|mkv)|assembled\.\w+")
# What jobs write, but the lock. The list comes last in alphabetical order: parts without it would look damaged.
OWN_NAMES = re.compile(f"{PART_NAME.pattern}|{UNFINISHED_NAME.pattern}|{re.escape(LIST_NAME)}")
MAX_NAME_BYTES = 200  # of the 255 that file systems allow
LOCK_ATTEMPTS = 100  # each fails only if another run removes the folder in the same moment

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceEnd:
    """What was found by the end of the source."""

    notices: list[str]
    damage: str | None


class Job:
    """The folder with the parts of one output, locked against other runs. A context manager.

    signature: JSON values that determine the output. resume: reuse the parts of an interrupted run with the same signature.
    Raises OutputError if the folder is a link or cannot be written, or if another run has locked it.
    """

    def __init__(self, output: Path, signature: dict[str, Any], resume: bool = True) -> None:
        self.output = output
        self.folder = folder_of(output)
        self.message: str | None = None
        """What happened to an earlier run, for the user."""
        self.source_end: SourceEnd | None = None
        """Set once all frames are in the parts."""
        self._parts: dict[int, tuple[Part, bool]] = {}  # index -> part, whether decoding was sequential up to its end
        self._signature = json.loads(json.dumps(signature))
        self._list = JsonLines(self.folder / LIST_NAME, sync=True)
        try:
            self._lock = _lock_folder(self.folder)
        except OSError as error:  # Timeout is one
            raise _write_error(error) from error
        try:
            if not (resume and self._read_list()):
                self._start_over()
        except BaseException as error:
            self._close()
            if isinstance(error, OSError) and not isinstance(error, OutputError):
                raise _write_error(error) from error
            raise

    @property
    def parts(self) -> list[Part]:
        """The finished parts, in the order of the video."""
        return [self._parts[index][0] for index in sorted(self._parts)]

    @property
    def frames(self) -> int:
        """The number of frames in the finished parts."""
        return sum(part.frames for part in self.parts)

    def has_part(self, index: int) -> bool:
        """Returns whether this part is finished."""
        return index in self._parts

    def next_index(self) -> int:
        """Returns the index of the first part that is missing."""
        return next(index for index in range(len(self._parts) + 1) if index not in self._parts)

    def resume_point(self) -> ResumePoint | None:
        """Returns where to resume: after the last part with all parts before it; None: at the start. Forgets later parts."""
        count = self.next_index()
        self._parts = {index: self._parts[index] for index in range(count)}
        if not count:
            return None
        last, sequential = self._parts[count - 1]
        return ResumePoint(self.frames, last.last, sequential)

    def open_path(self, index: int, suffix: str = ".mp4") -> Path:
        """Creates the file of a part that is not finished. Raises OutputError if that fails."""
        return self.new_file(f"open-{index:06d}{suffix}")

    def new_file(self, name: str) -> Path:
        """Creates an empty file in the folder, in place of any older one. Raises OutputError if that fails."""
        try:
            create_own_file(self.folder / name)
        except OSError as error:
            raise _write_error(error) from error
        return self.folder / name

    def add_part(self, index: int, part: Part, sequential: bool) -> None:
        """Keeps a finished part, written at `open_path`; from here on no crash loses it. Raises OutputError if that fails.

        sequential: as `ResumePoint` has it, up to the end of this part.
        """
        path = self.folder / f"{index:06d}{part.path.suffix}"
        try:
            _sync(part.path)
            os.replace(part.path, path)
            part = replace(part, path=path)
            self._list.append({"part": index, "steady": sequential, **asdict(part), "path": path.name})
        except OSError as error:
            raise _write_error(error) from error
        self._parts[index] = (part, sequential)

    def add_part_from_bytes(self, index: int, data: bytes, part: Part) -> None:
        """Keeps a part that was encoded on another machine. Raises OutputError if that fails."""
        path = self.open_path(index, part.path.suffix)
        try:
            path.write_bytes(data)
        except OSError as error:
            raise _write_error(error) from error
        self.add_part(index, replace(part, path=path), sequential=False)

    def finish_source(self, end: SourceEnd) -> None:
        """Records that all frames are in the parts. Raises OutputError if that fails."""
        try:
            self._list.append({"end": asdict(end)})
        except OSError as error:
            raise _write_error(error) from error
        self.source_end = end

    def publish(self, video: Path, overwrite: bool) -> None:
        """Renames the finished file to the output and removes the folder. Raises OutputError if that fails."""
        if os.path.lexists(self.output) and not overwrite:
            raise OutputExistsError("exists already; --overwrite replaces it")
        try:
            _sync(video)
            os.replace(video, self.output)
        except OSError as error:
            raise _write_error(error) from error
        self.remove()

    def remove(self) -> None:
        """Deletes the folder. The lock is held until the folder is gone, so that no other run can use it in between."""
        try:
            remove_own_files(self.folder, OWN_NAMES)
            if os.name == "nt":  # Windows deletes no file that is open
                self._lock.release()
            (self.folder / LOCK_NAME).unlink()
            self.folder.rmdir()
        except OSError:  # such as a file that another program has put there
            log.debug("%s cannot be removed", self.folder, exc_info=True)
        self._lock.release()

    def _read_list(self) -> bool:
        """Reuses the parts of an earlier run. Returns False without any, or if their list is unreadable or has another signature.

        Raises OutputError if the disk fails, or for a list that names a file outside of the folder.
        """
        if not self._has_files():
            return False
        try:
            lines, unreadable = self._list.read()
            signature = dict(lines[0]["job"])
            restored = [_part_from_json(line, self.folder) for line in lines[1:] if "part" in line]
            ends = [_end_from_json(line["end"]) for line in lines[1:] if "end" in line and "part" not in line]
            if unreadable:
                raise ValueError(f"{unreadable} lines are no JSON objects")
        except (NotOwnError, IsADirectoryError, LookupError, TypeError, ValueError):
            log.debug("%s is not used", self._list.path, exc_info=True)
            self.message = f"starting over: the list of finished parts {self._list.path} cannot be read"
            return False
        except OSError as error:
            reason = f"the list of finished parts {self._list.path} cannot be read ({error.strerror or error})"
            raise OutputError(f"{reason}; --no-resume starts over, without these parts") from error
        different = [key for key in self._signature if signature.get(key) != self._signature[key]]
        if different:
            self.message = f"starting over: changed since the interrupted run: {', '.join(different)}"
            return False
        self._parts = {index: (part, sequential) for index, part, sequential in restored if is_own_file(part.path)}
        if ends and len(self._parts) == len({index for index, _, _ in restored}):
            self.source_end = ends[-1]
        if self._parts:
            self.message = f"resumed after {count_noun(self.frames, 'frame')} of an interrupted run"
        return True

    def _start_over(self) -> None:
        remove_own_files(self.folder, OWN_NAMES)
        self._list.append({"job": self._signature})

    def _close(self) -> None:
        """Releases the lock. Removes the folder if it has nothing to resume."""
        if not self._has_files():
            return self.remove()
        with contextlib.suppress(OSError):  # useless, and the disk may be full
            remove_own_files(self.folder, UNFINISHED_NAME)
        self._lock.release()

    def _has_files(self) -> bool:
        """Returns whether the folder holds parts of this or an earlier run."""
        return any(PART_NAME.fullmatch(name) for name in os.listdir(self.folder))

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock.is_locked:
            self._close()


def folder_of(output: Path) -> Path:
    """Returns the folder of this output's job: hidden, beside the output."""
    name = output.name
    if len(os.fsencode(name)) > MAX_NAME_BYTES:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return output.with_name(f".{name}.cyclecast")


def _lock_folder(folder: Path) -> FileLock:
    """Creates the folder and locks it. Raises OSError if it cannot be written, and Timeout if another run has locked it.

    Another run may remove the folder after this one has opened the lock file. It would then hold the lock of a file that is
    gone, beside a third run with a new one, so the lock file is compared before and after.
    """
    path = folder / LOCK_NAME
    for _ in range(LOCK_ATTEMPTS):
        create_own_folder(folder)
        lock = FileLock(path, timeout=0)
        with contextlib.suppress(FileNotFoundError), open(path, "ab", opener=own_opener) as before:
            lock.acquire()
            if os.path.samestat(os.fstat(before.fileno()), os.stat(path)):
                return lock
        lock.release()
    raise Timeout(str(path))


def _part_from_json(line: dict[str, Any], folder: Path) -> tuple[int, Part, bool]:
    """Returns (index, part, sequential) of a line.

    Raises KeyError or TypeError if it is damaged, and OutputError if it names a file outside of the folder.
    """
    numbers = [line[name] for name in ("part", "frames", "first", "last", "end", "reordered")]
    if any(type(number) is not int for number in numbers) or not isinstance(line["steady"], bool):
        raise TypeError(line)
    index, frames, first, last, end, reordered = numbers
    if leads_outside(line["path"]):
        raise OutputError(f"{folder / LIST_NAME} names a file outside of its folder ({line['path']}); --no-resume starts over")
    if line["path"] not in (f"{index:06d}.mp4", f"{index:06d}.mkv"):
        raise TypeError(line)
    return index, Part(folder / line["path"], frames, first, last, end, reordered), line["steady"]


def _end_from_json(end: dict[str, Any]) -> SourceEnd:
    """Returns the end of the source. Raises KeyError or TypeError if a field is missing or has another type."""
    notices, damage = end["notices"], end["damage"]
    if not isinstance(notices, list) or not all(isinstance(text, str) for text in [*notices, damage or ""]):
        raise TypeError(end)
    return SourceEnd(notices, damage)


def _write_error(error: OSError) -> OutputError:
    """Returns the error for the user: another run, or why the folder cannot be written."""
    log.debug("the job's folder cannot be used", exc_info=error)
    if isinstance(error, Timeout):
        return OutputError("another conversion is writing it")
    return write_error(error)


def _sync(path: Path) -> None:
    """Waits until the file is on the disk, where a power cut cannot take it."""
    with open(path, "rb+", opener=own_opener) as file:
        os.fsync(file.fileno())
