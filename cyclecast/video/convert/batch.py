"""Many files: which goes where, each through the function, and which of them an earlier run has done."""

from __future__ import annotations

import glob
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclecast.errors import ConfigError, CyclecastError, InputError, Interrupted, OutputError
from cyclecast.files import read_lines, write_error
from cyclecast.future import Deferred
from cyclecast.video.convert.convert import (
    GIF,
    ConversionReport,
    ConvertOptions,
    OnFrame,
    OnMessage,
    PartsMaker,
    convert_file,
    signature,
)
from cyclecast.video.files import images
from cyclecast.video.files.writer import CONTAINERS
from cyclecast.video.frame import FrameFunction, Image
from cyclecast.video.resize import submit_frame

WRITABLE = images.SUFFIXES | frozenset(CONTAINERS) | {GIF}
MANY = 5  # stills of as many sizes, each compiled for, would outweigh what padding costs
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


@dataclass(frozen=True)
class Outcome:
    """What became of one file of a batch."""

    source: Path
    output: Path
    report: ConversionReport | None = None
    """None: it failed, or an earlier run had done it."""
    error: str | None = None


def convert_all(
    planned: Sequence[tuple[Path, Path]],
    function: FrameFunction,
    options: ConvertOptions,
    ledger: Ledger,
    *,
    jobs: int = 1,
    bucketed: bool = True,
    bar: Callable[[str], OnFrame] | None = None,
    on_message: OnMessage | None = None,
    maker: PartsMaker | None = None,
) -> Iterator[Outcome]:
    """Every file in turn; one that fails does not hold up the others.

    jobs: stills that are read and written at a time, next to the function, which takes one picture at a time; videos do all
    at once by themselves. bucketed: the function takes any size, see `images.Bucketed`; it is used from `MANY` stills on. bar:
    makes a progress bar for a video. Raises Interrupted after Ctrl-C or SIGTERM.
    """
    one_by_one = OneByOne(function)
    stills = [source for source, _ in planned if _is_still(source)]
    for_stills = images.Bucketed(one_by_one) if bucketed and len(stills) >= MANY else one_by_one
    waiting: deque[Future[Outcome]] = deque()
    done = 0

    def convert(source: Path, output: Path, function: FrameFunction, on_frame: OnFrame | None) -> Outcome:
        try:
            made_of = signature(source, function, options) if source.is_file() else {}
            if ledger.has(output, made_of):
                return Outcome(source, output)
            report = convert_file(source, output, function, options, on_frame, on_message, maker)
            ledger.add(output, made_of)
        except Interrupted:
            raise
        except CyclecastError as error:
            return Outcome(source, output, error=str(error))
        return Outcome(source, output, report)

    pool = ThreadPoolExecutor(jobs)
    try:
        for source, output in planned:
            if _is_still(source):
                waiting.append(pool.submit(convert, source, output, for_stills, None))
            while waiting and (len(waiting) > jobs or not _is_still(source)):
                yield waiting.popleft().result()
                done += 1
            if not _is_still(source):
                yield convert(source, output, one_by_one, bar(source.name) if bar else None)
                done += 1
        while waiting:
            yield waiting.popleft().result()
            done += 1
    except KeyboardInterrupt as interrupt:
        raise Interrupted(f"interrupted; {done} of {len(planned)} files are done, the same command does the rest") from interrupt
    finally:
        pool.shutdown(cancel_futures=True)


def _is_still(path: Path) -> bool:
    return path.suffix.lower() in images.SUFFIXES


class OneByOne:
    """A frame function for several threads: one picture at a time."""

    def __init__(self, function: FrameFunction) -> None:
        self._function, self._lock = function, threading.Lock()

    @property
    def identity(self) -> str | None:
        """That of the function."""
        return self._function.identity

    def prepare(self, width: int, height: int) -> None:
        """As the function."""
        with self._lock:
            self._function.prepare(width, height)

    def __call__(self, frame: Image) -> Image:
        with self._lock:
            return self._function(frame)

    def submit(self, frame: Image) -> Deferred[Image]:
        """As the function, where it works ahead."""
        with self._lock:
            future = submit_frame(frame, self._function)

        def locked() -> Image:
            with self._lock:
                return future.result()

        return Deferred(locked)


class Ledger:
    """Which files of a batch are done, in a hidden file of the output folder, so that a batch that was cut short can go on.

    It is there while the batch is not through: `close` removes it once nothing failed.
    """

    NAME = ".cyclecast-batch.jsonl"

    def __init__(self, folder: Path, resume: bool = True) -> None:
        self._path, self._lock = folder / self.NAME, threading.Lock()
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
        line = json.dumps({"output": self._name(output), "signature": signature}) + "\n"
        try:
            with self._lock, open(self._path, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise write_error(error, self._path) from error

    def close(self, all_done: bool) -> None:
        """The batch is through."""
        if all_done:
            self._path.unlink(missing_ok=True)

    def _name(self, output: Path) -> str:
        return os.path.relpath(output, self._path.parent)
