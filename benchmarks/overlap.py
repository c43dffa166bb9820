"""What `convert` costs over its parts: its wall and CPU time over decode + model + encode, each measured apart with all cores.

1.0 means that running the three side by side costs nothing; less wall time, that it fills gaps which each leaves alone.

    python -m benchmarks.overlap CLIP --model monet
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cyclecast
from cyclecast.runtime.model import Model
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.files.writer import VideoWriter
from cyclecast.video.frame import Frame


class Seconds(NamedTuple):
    """Of one call."""

    wall: float
    cpu: float
    """Of all threads."""


def seconds(work: Callable[[], object]) -> Seconds:
    """Wall and CPU time of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def parts(clip: Path, folder: Path, model: Model) -> dict[str, Seconds]:
    """Seconds of each stage over the whole clip, one after the other."""
    frames: list[Frame] = []
    styled: list[Frame] = []

    def decode() -> None:
        with VideoFile(clip) as video:
            frames.extend(video)

    def encode() -> None:
        with VideoFile(clip) as video:
            info = video.info
        with VideoWriter(folder / "apart.mp4", info) as writer:
            for frame in styled:
                writer.write(frame)

    return {
        "decode": seconds(decode),
        "model": seconds(lambda: styled.extend(Frame(model(f.image), f.pts, f.duration) for f in frames)),
        "encode": seconds(encode),
    }


def ratio(wholes: list[Seconds], apart: list[dict[str, Seconds]], kind: str) -> float:
    """Median over the rounds of the whole's time over the sum of its parts'."""
    sums = [sum(getattr(piece, kind) for piece in pieces.values()) for pieces in apart]
    ratios: list[float] = [getattr(whole, kind) / of for whole, of in zip(wholes, sums, strict=True)]
    return round(statistics.median(ratios), 3)


def main() -> None:
    """Several rounds of parts and whole in turn; prints one JSON object with the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="monet")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    wholes: list[Seconds] = []
    apart: list[dict[str, Seconds]] = []
    with tempfile.TemporaryDirectory() as name, cyclecast.load(args.model) as model:
        folder = Path(name)
        for run in range(args.runs + 1):
            pieces = parts(args.clip, folder, model)
            whole = seconds(lambda: cyclecast.convert(args.clip, folder / "whole.mp4", model, ConvertOptions(overwrite=True)))
            if run:  # the first warms up
                wholes.append(whole)
                apart.append(pieces)
        device = f"{model.engine.name} {model.engine.precision}, {model.engine.device}"
    print(
        json.dumps(
            {
                "device": device,
                "clip": args.clip.name,
                "model": model.name,
                "runs": args.runs,
                "apart_s": {k: round(statistics.median(p[k].wall for p in apart), 3) for k in apart[0]},
                "convert_s": round(statistics.median(whole.wall for whole in wholes), 3),
                **{f"{kind}_ratio": ratio(wholes, apart, kind) for kind in Seconds._fields},
            }
        )
    )


if __name__ == "__main__":
    main()
