"""Times HD frames: the bundled `monet` on our default engine and the paper's generator in a plain PyTorch loop.

The networks differ on purpose: ours is the bundled one, the reference is the usual one (ResNet-9, ngf 64, eager fp32, numpy in
and out, seeded random weights, because speed does not depend on them). Both are timed from frame to frame, without decoding
and encoding, and alternate within one run on frames of the demo's scene. Each side warms up before it is timed.

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
from cyclecast.torch_threads import torch_threads
from cyclecast.training.networks.resnet import ResnetGenerator
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene

SIZES = ("1280x720", "640x360")
WARM_UP = 3  # frames of ours before each turn, because the reference has just used the cores and their caches


def time_in_turns(
    ours: Callable[[Image], Image],
    reference: Callable[[Image], Image],
    frames: Sequence[Image],
    turns: int,
    counts: tuple[int, int],
) -> tuple[list[float], list[float]]:
    """Measures the median milliseconds of each turn, for ours and for the reference. counts: frames per turn of each."""
    ours_ms, reference_ms = [], []
    times_ms(reference, frames, 1)  # a frame takes seconds, so one warm-up is enough
    for _ in range(turns):
        times_ms(ours, frames, WARM_UP)
        ours_ms.append(statistics.median(times_ms(ours, frames, counts[0])))
        reference_ms.append(statistics.median(times_ms(reference, frames, counts[1])))
    return ours_ms, reference_ms


def main() -> None:
    """Alternates both for several turns at each size, and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="monet")
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="WIDTHxHEIGHT, multiples of 4")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--frames", type=int, default=30, help="timed frames of ours per turn (default 30)")
    parser.add_argument("--reference-frames", type=int, default=1, help="timed frames of the reference per turn (default 1)")
    parser.add_argument("--threads", type=int, help="CPU threads of both (default: their own choice)")
    args = parser.parse_args()
    torch.manual_seed(0)
    reference = partial(plain_frame, ResnetGenerator(blocks=9, ngf=64).eval())
    sizes = []
    with torch_threads(args.threads), cyclecast.load(args.model, threads=args.threads) as model:
        for size in args.sizes:
            scene = Scene(*map(int, size.split("x")))
            frames = [scene.draw(index / 2) for index in range(8)]  # four seconds of it
            turns = time_in_turns(model, reference, frames, args.turns, (args.frames, args.reference_frames))
            ours, theirs = map(statistics.median, turns)
            sizes.append(
                {
                    "size": size,
                    "ours_ms": [round(ms, 2) for ms in turns[0]],
                    "reference_ms": [round(ms, 2) for ms in turns[1]],
                    "median_ms": {"ours": round(ours, 2), "reference": round(theirs, 2)},
                    "ratio_of_medians": round(theirs / ours, 2),
                }
            )
        device = f"{model.engine.name} {model.engine.precision}, {model.engine.device}, {torch.get_num_threads()} threads"
    counts = {"turns": args.turns, "frames": {"ours": args.frames, "reference": args.reference_frames}}
    print(json.dumps({"device": device, "model": model.name, **counts, "sizes": sizes}))


if __name__ == "__main__":
    main()
