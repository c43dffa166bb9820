"""Fuzzes `cyclecast convert`: damages good files at random and converts each.

The mutations flip bits, zero, remove or repeat a run of bytes, truncate the file, overwrite its header, replace its suffix with
that of another type, or append another file. `convert` must then convert the file, convert it and report the damage, or refuse
it in one line that names the file. Anything else is a BUG: another exception, a hang, a dead process, a file left in the output's
folder, or an output that cannot be read back or has another number of frames than reported.

    python -m benchmarks.mutated shared/media/clips shared/media/images --count 200 --seed 0
    python -m benchmarks.mutated shared/media/broken --as-they-are
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from cyclecast.errors import CyclecastError
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.job import folder_of
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files import images
from cyclecast.video.frame import Image

CONVERTED, DAMAGED, REFUSED, BUG = "converted", "converted, damage named", "refused in one line", "BUG"
VIDEO_OUTPUTS = (".mp4", ".mp4", ".mp4", ".mkv", ".mov")
SMALL = 50_000  # bytes; converting a larger video to GIF takes minutes
HEADER = 512  # bytes
SECONDS = 300.0  # time limit per file


@dataclass(frozen=True)
class Case:
    """One file to convert."""

    name: str
    data: bytes
    how: str
    """The mutation, in one word."""
    output: str
    """The suffix of the output."""
    seed: str
    """The options that reproduce this case."""


def case(goods: Sequence[Path], seed: int, number: int) -> Case:
    """Creates the `number`-th case of this seed from one of `goods`."""
    rng = random.Random(f"{seed} {number}")
    good = rng.choice(goods)
    how = rng.choice(["bits", "zeros", "cut", "repeat", "remove", "header", "suffix", "joined"])
    data, suffix = bytearray(good.read_bytes()), good.suffix
    size = len(data)
    at, length = (
        rng.randrange(size),
        rng.randint(1, max(1, min(size // 4, 1 << rng.randint(3, 17)))),
    )
    if how == "bits":
        for _ in range(1 << rng.randint(0, 9)):
            data[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif how == "zeros":
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif how == "cut":
        del data[at:]
    elif how == "repeat":
        data[at:at] = data[at : at + length]
    elif how == "remove":
        del data[at : at + length]
    elif how == "header":
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(min(HEADER, size))] = rng.randrange(256)
    elif how == "suffix":
        kind = rng.choice(["other", "other", "text", "noise"])
        if kind == "text":
            data = bytearray(b"I am no picture.\n" * rng.randint(0, 500))
        elif kind == "noise":
            data = bytearray(rng.randbytes(rng.randint(1, 20_000)))
        suffix = rng.choice([".mp4", ".mkv", ".avi", ".gif"] if is_image(good) else [".png", ".jpg", ".webp", ".tif"])
    else:
        data += rng.choice(goods).read_bytes()
    outputs = sorted(images.SUFFIXES) if suffix in images.SUFFIXES else [*VIDEO_OUTPUTS, *([".gif"] * (len(data) < SMALL))]
    output = rng.choice(outputs)
    return Case(f"{good.stem}-{number}{suffix}", bytes(data), how, output, f"--seed {seed} --only {number}")


def is_image(path: Path) -> bool:
    """By its suffix, as `convert_file` decides it."""
    return path.suffix.lower() in images.SUFFIXES


class Darker:
    """A frame function that takes almost no time."""

    identity: str | None = "darker"

    def prepare(self, width: int, height: int) -> None:
        """Does nothing: there is nothing to compile."""

    def __call__(self, frame: Image) -> Image:
        """Halves the brightness."""
        return np.asarray(frame // 2, np.uint8)


def check_conversion(source: Path, output: Path) -> tuple[str, str]:
    """Converts a file; returns the verdict (`CONVERTED` ... `BUG`) and its details. `output` needs an empty folder of its own."""
    allowed = set()
    try:
        report = convert_file(source, output, Darker(), ConvertOptions(preset=None if output.suffix == ".gif" else "ultrafast"))
    except CyclecastError as error:
        verdict, words = REFUSED, str(error)
        if "\n" in words or not (source.name in words or output.name in words):
            verdict, words = BUG, f"not one line that names the file: {words!r}"
        if "frames are kept" in words:
            allowed = {folder_of(output).name}
    except BaseException:
        verdict, words = BUG, traceback.format_exc()
    else:
        allowed = {output.name}
        verdict, words = (DAMAGED, report.damage) if report.damage else (CONVERTED, "")
        readable = frames_of(output)
        if readable != report.frames and not (output.suffix == ".gif" and report.dropped):
            verdict, words = BUG, f"{report.frames} frames reported, {readable} in the output"
    left = {path.name for path in output.parent.iterdir()} - allowed
    return (BUG, f"left behind: {', '.join(sorted(left))}; {words}") if left else (verdict, words)


def frames_of(output: Path) -> int:
    """Counts the frames that can be read back."""
    if is_image(output):
        return int(cv2.imread(str(output), cv2.IMREAD_UNCHANGED) is not None)
    with av.open(str(output)) as container:
        return sum(1 for _ in container.decode(video=0))


def work(connection: Connection) -> None:
    """Checks the files that the other end sends, in a separate process, until that end closes."""
    while True:
        try:
            source, output = connection.recv()
        except EOFError:
            return
        try:
            connection.send(check_conversion(source, output))
        except Exception:
            connection.send((BUG, traceback.format_exc()))


class Worker:
    """A worker process that converts files; it is replaced when it hangs or dies. A context manager."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=work, args=(there,), daemon=True)
        self._process.start()
        there.close()

    def check_conversion(self, source: Path, output: Path) -> tuple[str, str]:
        """Runs `check_conversion` in the worker; a hang or a dead worker is a bug."""
        self._here.send((source, output))
        try:
            if self._here.poll(self._seconds):
                answer: tuple[str, str] = self._here.recv()
                return answer
            words = f"hangs: nothing after {self._seconds:g} s"
        except EOFError:
            self._process.join()
            words = f"the process died: exit code {self._process.exitcode}"
        self._end()
        self._start()
        return BUG, words

    def _end(self) -> None:
        self._here.close()
        self._process.kill()
        self._process.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()


def cases(goods: Sequence[Path], args: argparse.Namespace) -> Iterator[Case]:
    """Yields the cases that the arguments select."""
    if args.as_they_are:
        for path in goods:
            yield Case(path.name, path.read_bytes(), "as it is", path.suffix if is_image(path) else ".mp4", str(path))
    else:
        for number in range(args.count) if args.only is None else [args.only]:
            yield case(goods, args.seed, number)


def main() -> None:
    """Prints each bug as it is found, a table and one JSON object; exit code 1 if there is a bug."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of good files to damage; subfolders are skipped")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run only this case of the seed")
    parser.add_argument("--as-they-are", action="store_true", help="convert the files unchanged")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time limit per file (default 300)")
    parser.add_argument("--keep", type=Path, help="save the files that reveal a bug in this folder")
    parser.add_argument("--verbose", action="store_true", help="print a line for every file")
    args = parser.parse_args()
    goods = sorted(path for folder in args.folders for path in folder.iterdir() if path.is_file())
    table: Counter[tuple[str, str]] = Counter()
    bugs: list[dict[str, Any]] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, Worker(args.seconds) as worker:
        for one in cases(goods, args):
            source, folder = Path(name) / one.name, Path(name) / "out"
            folder.mkdir()
            source.write_bytes(one.data)
            verdict, words = worker.check_conversion(source, folder / f"made{one.output}")
            table[one.how, verdict] += 1
            if verdict == BUG:
                bugs.append({"file": one.name, "how": one.how, "seed": one.seed, "words": words})
                if args.keep:
                    args.keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(source, args.keep / f"{args.seed}-{one.name}")
            if verdict == BUG or args.verbose:
                print(f"{one.seed} ({one.how}, {one.name} to {one.output}): {verdict}: {words}", file=sys.stderr)
            source.unlink()
            shutil.rmtree(folder)
    verdicts = [CONVERTED, DAMAGED, REFUSED, BUG]
    print(" | ".join(["change".ljust(9), *verdicts]))
    for how in sorted({how for how, _ in table}):
        print(" | ".join([how.ljust(9), *(str(table[how, verdict]).rjust(len(verdict)) for verdict in verdicts)]))
    sums = {verdict: sum(count for (_, found), count in table.items() if found == verdict) for verdict in verdicts}
    print(json.dumps({"seed": args.seed, "seconds": round(time.monotonic() - started), **sums, "bugs": bugs}))
    sys.exit(bool(bugs))


if __name__ == "__main__":
    main()
