"""Times HD frames: `monet` in each precision of our default engine, and the paper's generator in a plain PyTorch loop.

The networks differ on purpose: ours is the bundled one, the reference is the usual one (ResNet-9, ngf 64, eager fp32, numpy in
and out, seeded random weights, because speed does not depend on them). Both are timed from frame to frame, without decoding
and encoding, and alternate within one run on frames of the demo's scene. Each side warms up before it is timed.

    python -m benchmarks.hd
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import torch

import cyclecast
from benchmarks.engines import DTYPES, int8_matrix_rate, matrix_rate, operations
from benchmarks.plain_loop import plain_frame
from cyclecast.errors import EngineUnavailable
from cyclecast.export.torch_engine import torch_threads
from cyclecast.runtime.bench import psnr_db, times_ms
from cyclecast.training.networks import build_generator
from cyclecast.training.networks.resnet import ResnetGenerator
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene

SIZES = ("1280x720", "640x360")
WARM_UP = 3  # frames of ours before each turn, because the reference has just used the cores and their caches


def time_in_turns(
    ours: Mapping[str, Callable[[Image], Image]],
    reference: Callable[[Image], Image],
    frames: Sequence[Image],
    turns: int,
    counts: tuple[int, int],
) -> tuple[dict[str, list[float]], list[float]]:
    """Measures the median milliseconds of each turn, for each of ours and for the reference. counts: frames per turn of each."""
    ours_ms: dict[str, list[float]] = {name: [] for name in ours}
    reference_ms = []
    times_ms(reference, frames, 1)  # a frame takes seconds, so one warm-up is enough
    for _ in range(turns):
        for name, one in ours.items():
            times_ms(one, frames, WARM_UP)
            ours_ms[name].append(statistics.median(times_ms(one, frames, counts[0])))
        reference_ms.append(statistics.median(times_ms(reference, frames, counts[1])))
    return ours_ms, reference_ms


def main() -> None:
    """Alternates both for several turns at each size, and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="monet")
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="WIDTHxHEIGHT, multiples of 4")
    parser.add_argument("--precisions", nargs="+", default=("int8", "bf16", "fp32"))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--frames", type=int, default=30, help="timed frames of ours per turn (default 30)")
    parser.add_argument("--reference-frames", type=int, default=1, help="timed frames of the reference per turn (default 1)")
    parser.add_argument("--threads", type=int, help="CPU threads of both (default: their own choice)")
    args = parser.parse_args()
    torch.manual_seed(0)
    reference = partial(plain_frame, ResnetGenerator(blocks=9, ngf=64).eval())
    sizes = []
    with torch_threads(args.threads), ExitStack() as stack:
        models = {}
        for precision in args.precisions:
            try:
                models[precision] = stack.enter_context(
                    cyclecast.load(args.model, "openvino", "cpu", precision, threads=args.threads)
                )
            except EngineUnavailable as error:  # a CPU without bf16, a model without an int8 file
                print(error, file=sys.stderr)
        rates = matrix_rates(list(models), args.threads)
        exact = stack.enter_context(cyclecast.load(args.model, "onnxruntime", "cpu", "fp32"))
        for size in args.sizes:
            width, height = map(int, size.split("x"))
            scene = Scene(width, height)
            frames = [scene.draw(index / 2) for index in range(8)]  # four seconds of it
            turns, theirs = time_in_turns(models, reference, frames, args.turns, (args.frames, args.reference_frames))
            expected = [exact(frame) for frame in frames]
            tera = operations(build_generator(**exact.spec.architecture), width, height) / 1e12
            rows = []
            for precision, model in models.items():
                ms = statistics.median(turns[precision])
                rows.append(
                    {
                        "precision": precision,
                        "ms": [round(each, 2) for each in turns[precision]],
                        "median_ms": round(ms, 2),
                        "ratio_of_medians": round(statistics.median(theirs) / ms, 1),
                        "psnr_db": round(min(psnr_db(expected, [model(frame) for frame in frames]), 999.0), 1),
                        "share_of_matrix_rate": round(tera / (ms / 1000) / rates[precision], 2),
                    }
                )
            sizes.append({"size": size, "reference_ms": [round(ms, 1) for ms in theirs], "rows": rows})
        device = f"{exact.engine.device}, {torch.get_num_threads()} threads"
    counts = {"turns": args.turns, "frames": {"ours": args.frames, "reference": args.reference_frames}}
    found = {precision: round(rate, 2) for precision, rate in rates.items()}
    print(json.dumps({"device": device, "model": exact.name, "matrix_rate_tera": found, **counts, "sizes": sizes}))


def matrix_rates(precisions: Sequence[str], threads: int | None) -> dict[str, float]:
    """Measures 10^12 operations per second of a large matrix product on the CPU in each precision."""
    cpu = torch.device("cpu")
    return {one: int8_matrix_rate(threads) if one == "int8" else matrix_rate(cpu, DTYPES[one]) for one in precisions}


if __name__ == "__main__":
    main()
