"""What `cyclecast convert` makes of files that are damaged: good ones, changed at random, each converted for real.

A file is changed by flipping bits, zeroing, removing or repeating a run of bytes, cutting its end off, writing over its header,
giving it another kind's suffix or joining it with another. It must then be converted, converted with its damage named, or be
refused in one line that names it. Anything else is a BUG: another exception, a hang, a dead process, something left in the
output's folder, an output whose frames are not as many as reported or that cannot be read back.

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
SMALL = 50_000  # bytes; of a longer video, a GIF takes minutes
HEADER = 512  # bytes
SECONDS = 300.0  # that one file may take


@dataclass(frozen=True)
class Case:
    """One file to convert."""

    name: str
    data: bytes
    how: str
    """What was done to it, in a word."""
    output: str
    """The suffix that it is converted to."""
    seed: str
    """What to type for the same again."""


def case(goods: Sequence[Path], seed: int, number: int) -> Case:
    """The `number`-th file of this seed, made from `goods`."""
    dice = random.Random(f"{seed} {number}")
    good = dice.choice(goods)
    how = dice.choice(["bits", "zeros", "cut", "repeat", "remove", "header", "suffix", "joined"])
    data, suffix = bytearray(good.read_bytes()), good.suffix
    size = len(data)
    at, length = dice.randrange(size), dice.randint(1, max(1, min(size // 4, 1 << dice.randint(3, 17))))
    if how == "bits":
        for _ in range(1 << dice.randint(0, 9)):
            data[dice.randrange(size)] ^= 1 << dice.randrange(8)
    elif how == "zeros":
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif how == "cut":
        del data[at:]
    elif how == "repeat":
        data[at:at] = data[at : at + length]
    elif how == "remove":
        del data[at : at + length]
    elif how == "header":
        for _ in range(dice.randint(1, 8)):
            data[dice.randrange(min(HEADER, size))] = dice.randrange(256)
    elif how == "suffix":
        kind = dice.choice(["other", "other", "text", "noise"])
        if kind == "text":
            data = bytearray(b"I am no picture.\n" * dice.randint(0, 500))
        elif kind == "noise":
            data = bytearray(dice.randbytes(dice.randint(1, 20_000)))
        suffix = dice.choice([".mp4", ".mkv", ".avi", ".gif"] if is_image(good) else [".png", ".jpg", ".webp", ".tif"])
    else:
        data += dice.choice(goods).read_bytes()
    outputs = sorted(images.SUFFIXES) if suffix in images.SUFFIXES else [*VIDEO_OUTPUTS, *([".gif"] * (len(data) < SMALL))]
    output = dice.choice(outputs)
    return Case(f"{good.stem}-{number}{suffix}", bytes(data), how, output, f"--seed {seed} --only {number}")


def is_image(path: Path) -> bool:
    """By its suffix, as `convert_file` decides it."""
    return path.suffix.lower() in images.SUFFIXES


class Darker:
    """A frame function that costs next to nothing."""

    identity: str | None = "darker"

    def prepare(self, width: int, height: int) -> None:
        """There is nothing to compile."""

    def __call__(self, frame: Image) -> Image:
        """Half as bright."""
        return np.asarray(frame // 2, np.uint8)


def judged(source: Path, output: Path) -> tuple[str, str]:
    """Converts it: what became of it (`CONVERTED` ... `BUG`), and in words. `output` lies in an empty folder of its own."""
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
    """How many a reader finds in it."""
    if is_image(output):
        return int(cv2.imread(str(output), cv2.IMREAD_UNCHANGED) is not None)
    with av.open(str(output)) as container:
        return sum(1 for _ in container.decode(video=0))


def work(connection: Connection) -> None:
    """Judges what the other end names, in a process of its own, until that end is closed."""
    while True:
        try:
            source, output = connection.recv()
        except EOFError:
            return
        try:
            connection.send(judged(source, output))
        except Exception:
            connection.send((BUG, traceback.format_exc()))


class Workshop:
    """A process that converts, replaced when it hangs or dies. A context manager."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=work, args=(there,), daemon=True)
        self._process.start()
        there.close()

    def judged(self, source: Path, output: Path) -> tuple[str, str]:
        """As `judged`; a hang and a death are bugs."""
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

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()


def cases(goods: Sequence[Path], args: argparse.Namespace) -> Iterator[Case]:
    """All that was asked for."""
    if args.as_they_are:
        for path in goods:
            yield Case(path.name, path.read_bytes(), "as it is", path.suffix if is_image(path) else ".mp4", str(path))
    else:
        for number in range(args.count) if args.only is None else [args.only]:
            yield case(goods, args.seed, number)


def main() -> None:
    """Prints each bug as it is found, a table and one JSON object; exit code 1 if there is a bug."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="good files to change, not those of their folders")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this one file of the seed")
    parser.add_argument("--as-they-are", action="store_true", help="convert the files unchanged")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that one file may take")
    parser.add_argument("--keep", type=Path, help="a folder for the files with which a bug was found")
    parser.add_argument("--verbose", action="store_true", help="a line for every file")
    args = parser.parse_args()
    goods = sorted(path for folder in args.folders for path in folder.iterdir() if path.is_file())
    table: Counter[tuple[str, str]] = Counter()
    bugs: list[dict[str, Any]] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, Workshop(args.seconds) as workshop:
        for one in cases(goods, args):
            source, folder = Path(name) / one.name, Path(name) / "out"
            folder.mkdir()
            source.write_bytes(one.data)
            verdict, words = workshop.judged(source, folder / f"made{one.output}")
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
