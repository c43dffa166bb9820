"""Measures the latency of `cyclecast live` on the test pattern, with the bundled `monet` and with a model ten times too slow.

Each row compares p99 of the latency with the limit, which is p99 of the model's own time plus two frame intervals, and the mean
latency of the last quarter of the run with that of the first. The slow model is the paper's ResNet-9, narrower, with random,
seeded weights. Then a program that embeds `cyclecast.stream` reads the clock that the pattern draws into each frame: the reported
latency must agree with it.

    python -m benchmarks.latency
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import cyclecast
from cyclecast.export.checkpoints import TrainedGenerator
from cyclecast.export.onnx import export_onnx
from cyclecast.training.networks.resnet import ResnetGenerator
from cyclecast.video.clock import WRAP_MS, read_clock, seconds_since
from cyclecast.video.live.meter import Histogram


def live(pattern: str, model: str, seconds: float) -> dict[str, Any]:
    """Runs `cyclecast live` into the sink null; returns its JSON."""
    command = [sys.executable, "-m", "cyclecast", "live", pattern, "--model", model, "--sink", "null"]
    done = subprocess.run([*command, "--seconds", str(seconds), "--json"], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert isinstance(report, dict)
    return report


def compare_with_limit(report: dict[str, Any], fps: float) -> dict[str, Any]:
    """Returns the figures and their limits."""
    latency, model, quarters = report["latency_ms"], report["model_ms"]["p99"], report["quarters_ms"]
    allowed = model + 2 * 1000 / fps
    return {
        "model": report["model"],
        "model_ms": report["model_ms"],
        "latency_ms": latency,
        "allowed_p99_ms": round(allowed, 1),
        "p99_over_allowed": round(latency["p99"] / allowed, 3),
        "quarters_ms": quarters,
        "last_quarter_over_first": round(quarters[3] / quarters[0], 3),
        "captured": report["captured"],
        "shown": report["shown"],
        "skipped": report["skipped"],
        "fps": report["fps"],
    }


def compare_with_clock(pattern: str, model: str, seconds: float) -> dict[str, Any]:
    """Compares the latency by the clock in the frame with that by the reported time of capture, in milliseconds."""
    reported, by_clock, worst, unread = Histogram(), Histogram(), 0.0, 0
    begin = time.perf_counter()
    for frame in cyclecast.stream(pattern, model):
        handed = time.perf_counter()
        in_picture = read_clock(frame.image)
        if in_picture is None:  # the style made it unreadable
            unread += 1
            in_picture = read_clock(frame.source)
        assert in_picture is not None
        late = seconds_since(in_picture, handed % (WRAP_MS / 1000))
        reported.add(handed - frame.at)
        by_clock.add(late)
        worst = max(worst, abs(late - (handed - frame.at)))
        if handed - begin > seconds:
            break
    p50 = {"told_ms": reported.percentiles().p50, "in_picture_ms": by_clock.percentiles().p50}
    return {"model": model, **p50, "largest_difference_ms": round(1000 * worst, 2), "unread_when_styled": unread}


def slow_model(folder: Path, ngf: int) -> Path:
    """Exports a ResNet-9 of this width with random weights."""
    torch.manual_seed(0)
    network = ResnetGenerator(blocks=9, ngf=ngf).eval()
    path = folder / f"resnet9-{ngf}.onnx"
    export_onnx(TrainedGenerator(network, "cyclegan", "a2b", {}, 0, []), path, check=False)
    return path


def main() -> None:
    """Runs everything and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--slow-ngf", type=int, default=24, help="width of the slow ResNet-9")
    args = parser.parse_args()
    pattern = f"pattern://{args.size}@{args.fps:g}"
    with tempfile.TemporaryDirectory() as folder:
        slow = slow_model(Path(folder), args.slow_ngf)
        rows = [compare_with_limit(live(pattern, model, args.seconds), args.fps) for model in ("monet", str(slow))]
    print(
        json.dumps(
            {
                "pattern": pattern,
                "seconds": args.seconds,
                "rows": rows,
                "clock": compare_with_clock(pattern, "monet", args.seconds / 4),
            }
        )
    )


if __name__ == "__main__":
    main()
