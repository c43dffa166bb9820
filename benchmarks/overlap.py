"""Divides the wall and CPU time of `convert` by those of decoding, the model and encoding, each run alone with all cores.

A ratio of 1.0 means that running the three stages concurrently costs nothing. A wall ratio below 1.0 means that the stages
use cores which a single stage leaves idle.

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
    """Duration of one call."""

    wall: float
    cpu: float
    """Of all threads."""


def time_call(work: Callable[[], object]) -> Seconds:
    """Calls `work` and returns its wall and CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def time_stages(clip: Path, folder: Path, model: Model) -> dict[str, Seconds]:
    """Runs the stages one after the other on the whole clip and returns the time of each."""
    frames: list[Frame] = []
    styled: list[Frame] = []

    def decode() -> None:
        with VideoFile(clip) as video:
            frames.extend(video)

    def encode() -> None:
        with VideoFile(clip) as video:
            info = video.info
        with VideoWriter(folder / "encoded.mp4", info) as writer:
            for frame in styled:
                writer.write(frame)

    return {
        "decode": time_call(decode),
        "model": time_call(lambda: styled.extend(Frame(model(f.image), f.pts, f.duration) for f in frames)),
        "encode": time_call(encode),
    }


def ratio(wholes: list[Seconds], separate: list[dict[str, Seconds]], clock: str) -> float:
    """Returns the median over the rounds of the time of `convert` divided by the sum of the stages' times. clock: wall or cpu."""
    sums = [sum(getattr(stage, clock) for stage in stages.values()) for stages in separate]
    ratios: list[float] = [getattr(whole, clock) / of for whole, of in zip(wholes, sums, strict=True)]
    return round(statistics.median(ratios), 3)


def main() -> None:
    """Alternates the single stages and `convert` for several rounds, and prints one JSON object with the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="monet")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    wholes: list[Seconds] = []
    separate: list[dict[str, Seconds]] = []
    with tempfile.TemporaryDirectory() as name, cyclecast.load(args.model) as model:
        folder = Path(name)
        for run in range(args.runs + 1):
            stages = time_stages(args.clip, folder, model)
            whole = time_call(lambda: cyclecast.convert(args.clip, folder / "whole.mp4", model, ConvertOptions(overwrite=True)))
            if run:  # the first warms up
                wholes.append(whole)
                separate.append(stages)
        device = f"{model.engine.name} {model.engine.precision}, {model.engine.device}"
    print(
        json.dumps(
            {
                "device": device,
                "clip": args.clip.name,
                "model": model.name,
                "runs": args.runs,
                "apart_s": {k: round(statistics.median(p[k].wall for p in separate), 3) for k in separate[0]},
                "convert_s": round(statistics.median(whole.wall for whole in wholes), 3),
                **{f"{clock}_ratio": ratio(wholes, separate, clock) for clock in Seconds._fields},
            }
        )
    )


if __name__ == "__main__":
    main()
