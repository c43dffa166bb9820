"""Milliseconds of one frame through a model, by engine, precision and size: the median of several, the first left out.

python -m benchmarks.latency monet
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import cyclecast
from cyclecast.errors import EngineUnavailable
from cyclecast.runtime.engines import ENGINES
from cyclecast.runtime.model import Model
from cyclecast.video.frame import Image
from cyclecast.video.sources.scene import Scene

SIZES = ((640, 360), (960, 540), (1280, 720))
PRECISIONS = ("bf16", "fp32")


def median_ms(model: Model, frame: Image, runs: int) -> float:
    """Of `runs` frames after one that warms up."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        model(frame)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[1:])


def main() -> None:
    """Prints one JSON object, a row for each engine, precision and size that this machine can do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--runs", type=int, default=15)
    args = parser.parse_args()
    rows, device = [], ""
    for engine in ENGINES:
        for precision in PRECISIONS:
            try:
                model = cyclecast.load(args.model, engine, "cpu", precision)
            except EngineUnavailable:
                continue
            with model:
                device = model.engine.device
                for width, height in SIZES:
                    took = median_ms(model, Scene(width, height).draw(1.0), args.runs)
                    rows.append({"engine": engine, "precision": precision, "size": f"{width}x{height}", "ms": round(took, 1)})
    print(json.dumps({"model": Path(args.model).stem, "device": device, "runs": args.runs, "rows": rows}))


if __name__ == "__main__":
    main()
