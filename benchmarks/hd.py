"""HD frames: the bundled `monet` on our default engine against the paper's generator in its plain PyTorch loop.

Two networks on purpose: what one gets here, and what one has today (ResNet-9, ngf 64, eager fp32, numpy in, numpy out; its
weights random and seeded, for speed does not depend on them). Frame in to frame out on both sides, without decoding and
encoding; the two in turn in one run, on frames of the demo's scene. Each side warms up before it is timed.

    python -m benchmarks.hd
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial

import torch

import cyclecast
from benchmarks.plain_loop import plain_frame
from cyclecast.runtime.bench import times_ms
from cyclecast.training.networks.resnet import ResnetGenerator
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene

SIZES = ("1280x720", "640x360")
WARM_UP = 3  # of our frames, before each turn: the reference has just had the cores and their caches


def in_turn(
    ours: Callable[[Image], Image],
    reference: Callable[[Image], Image],
    frames: Sequence[Image],
    turns: int,
    counts: tuple[int, int],
) -> tuple[list[float], list[float]]:
    """Median milliseconds of each turn, of ours and of the reference. counts: frames that each of the two runs in a turn."""
    ours_ms, reference_ms = [], []
    times_ms(reference, frames, 1)  # its warm-up; it takes seconds, so that later ones would change nothing
    for _ in range(turns):
        times_ms(ours, frames, WARM_UP)
        ours_ms.append(statistics.median(times_ms(ours, frames, counts[0])))
        reference_ms.append(statistics.median(times_ms(reference, frames, counts[1])))
    return ours_ms, reference_ms


def main() -> None:
    """Runs both, several times at each size, and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="monet")
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="WIDTHxHEIGHT, multiples of 4")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--frames", type=int, default=30, help="ours, timed in each turn")
    parser.add_argument("--reference-frames", type=int, default=1, help="timed in each turn")
    args = parser.parse_args()
    torch.manual_seed(0)
    reference = partial(plain_frame, ResnetGenerator(blocks=9, ngf=64).eval())
    sizes = []
    with cyclecast.load(args.model) as model:
        for size in args.sizes:
            scene = Scene(*map(int, size.split("x")))
            frames = [scene.draw(index / 2) for index in range(8)]  # four seconds of it
            turns = in_turn(model, reference, frames, args.turns, (args.frames, args.reference_frames))
            ours, theirs = map(statistics.median, turns)
            sizes.append(
                {
                    "size": size,
                    "ours_ms": [round(took, 2) for took in turns[0]],
                    "reference_ms": [round(took, 2) for took in turns[1]],
                    "median_ms": {"ours": round(ours, 2), "reference": round(theirs, 2)},
                    "ratio_of_medians": round(theirs / ours, 2),
                }
            )
        device = f"{model.engine.name} {model.engine.precision}, {model.engine.device}, {torch.get_num_threads()} threads"
    counts = {"turns": args.turns, "frames": {"ours": args.frames, "reference": args.reference_frames}}
    print(json.dumps({"device": device, "model": model.name, **counts, "sizes": sizes}))


if __name__ == "__main__":
    main()
