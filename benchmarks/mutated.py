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
    mutation: str
    """Its name."""
    output: str
    """The suffix of the output."""
    options: str
    """The options that reproduce this case."""


def draw_case(files: Sequence[Path], seed: int, number: int) -> Case:
    """Creates the `number`-th case of this seed from one of the files."""
    rng = random.Random(f"{seed} {number}")
    file = rng.choice(files)
    mutation = rng.choice(["bits", "zeros", "cut", "repeat", "remove", "header", "suffix", "joined"])
    data, suffix = bytearray(file.read_bytes()), file.suffix
    size = len(data)
    start, length = rng.randrange(size), rng.randint(1, max(1, min(size // 4, 1 << rng.randint(3, 17))))
    if mutation == "bits":
        for _ in range(1 << rng.randint(0, 9)):
            data[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif mutation == "zeros":
        data[start : start + length] = bytes(len(data[start : start + length]))
    elif mutation == "cut":
        del data[start:]
    elif mutation == "repeat":
        data[start:start] = data[start : start + length]
    elif mutation == "remove":
        del data[start : start + length]
    elif mutation == "header":
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(min(HEADER, size))] = rng.randrange(256)
    elif mutation == "suffix":
        content = rng.choice(["other", "other", "text", "noise"])
        if content == "text":
            data = bytearray(b"This is not an image.\n" * rng.randint(0, 500))
        elif content == "noise":
            data = bytearray(rng.randbytes(rng.randint(1, 20_000)))
        suffix = rng.choice([".mp4", ".mkv", ".avi", ".gif"] if is_image(file) else [".png", ".jpg", ".webp", ".tif"])
    else:
        data += rng.choice(files).read_bytes()
    outputs = sorted(images.SUFFIXES) if suffix in images.SUFFIXES else [*VIDEO_OUTPUTS, *([".gif"] * (len(data) < SMALL))]
    output = rng.choice(outputs)
    return Case(f"{file.stem}-{number}{suffix}", bytes(data), mutation, output, f"--seed {seed} --only {number}")


def is_image(path: Path) -> bool:
    """Returns whether it is an image by its suffix, as `convert_file` decides it."""
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
        verdict, details = REFUSED, str(error)
        if "\n" in details or not (source.name in details or output.name in details):
            verdict, details = BUG, f"not one line that names the file: {details!r}"
        if "frames are kept" in details:
            allowed = {folder_of(output).name}
    except BaseException:
        verdict, details = BUG, traceback.format_exc()
    else:
        allowed = {output.name}
        verdict, details = (DAMAGED, report.damage) if report.damage else (CONVERTED, "")
        readable = count_frames(output)
        if readable != report.frames and not (output.suffix == ".gif" and report.dropped):
            verdict, details = BUG, f"{report.frames} frames reported, {readable} in the output"
    left = {path.name for path in output.parent.iterdir()} - allowed
    return (BUG, f"left behind: {', '.join(sorted(left))}; {details}") if left else (verdict, details)


def count_frames(output: Path) -> int:
    """Counts the frames that can be read back."""
    if is_image(output):
        return int(cv2.imread(str(output), cv2.IMREAD_UNCHANGED) is not None)
    with av.open(str(output)) as container:
        return sum(1 for _ in container.decode(video=0))


def serve_conversions(connection: Connection) -> None:
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
        self._process = context.Process(target=serve_conversions, args=(there,), daemon=True)
        self._process.start()
        there.close()

    def check_conversion(self, source: Path, output: Path) -> tuple[str, str]:
        """Runs `check_conversion` in the worker; a hang or a dead worker is a bug."""
        self._here.send((source, output))
        try:
            if self._here.poll(self._seconds):
                answer: tuple[str, str] = self._here.recv()
                return answer
            details = f"hangs: nothing after {self._seconds:g} s"
        except EOFError:
            self._process.join()
            details = f"the process died: exit code {self._process.exitcode}"
        self._end()
        self._start()
        return BUG, details

    def _end(self) -> None:
        self._here.close()
        self._process.kill()
        self._process.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()


def select_cases(files: Sequence[Path], args: argparse.Namespace) -> Iterator[Case]:
    """Yields the cases that the arguments select."""
    if args.as_they_are:
        for path in files:
            yield Case(path.name, path.read_bytes(), "as it is", path.suffix if is_image(path) else ".mp4", str(path))
    else:
        for number in range(args.count) if args.only is None else [args.only]:
            yield draw_case(files, args.seed, number)


def main() -> None:
    """Prints each bug as it is found, a table and one JSON object; exit code 1 if there is a bug."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of good files to damage; subfolders are skipped")
    parser.add_argument("--count", type=int, default=200, help="number of files to damage (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations (default 0)")
    parser.add_argument("--only", type=int, help="run only this case of the seed")
    parser.add_argument("--as-they-are", action="store_true", help="convert the files unchanged")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time limit per file in seconds (default 300)")
    parser.add_argument("--keep", type=Path, help="save the files that reveal a bug in this folder")
    parser.add_argument("--verbose", action="store_true", help="print a line for every file")
    args = parser.parse_args()
    files = sorted(path for folder in args.folders for path in folder.iterdir() if path.is_file())
    table: Counter[tuple[str, str]] = Counter()
    bugs: list[dict[str, Any]] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, Worker(args.seconds) as worker:
        for case in select_cases(files, args):
            source, folder = Path(name) / case.name, Path(name) / "out"
            folder.mkdir()
            source.write_bytes(case.data)
            verdict, details = worker.check_conversion(source, folder / f"converted{case.output}")
            table[case.mutation, verdict] += 1
            if verdict == BUG:
                bugs.append({"file": case.name, "how": case.mutation, "seed": case.options, "words": details})
                if args.keep:
                    args.keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(source, args.keep / f"{args.seed}-{case.name}")
            if verdict == BUG or args.verbose:
                print(f"{case.options} ({case.mutation}, {case.name} to {case.output}): {verdict}: {details}", file=sys.stderr)
            source.unlink()
            shutil.rmtree(folder)
    verdicts = [CONVERTED, DAMAGED, REFUSED, BUG]
    print(" | ".join(["mutation".ljust(9), *verdicts]))
    for mutation in sorted({mutation for mutation, _ in table}):
        print(" | ".join([mutation.ljust(9), *(str(table[mutation, verdict]).rjust(len(verdict)) for verdict in verdicts)]))
    sums = {verdict: sum(count for (_, found), count in table.items() if found == verdict) for verdict in verdicts}
    print(json.dumps({"seed": args.seed, "seconds": round(time.monotonic() - started), **sums, "bugs": bugs}))
    sys.exit(bool(bugs))


if __name__ == "__main__":
    main()
