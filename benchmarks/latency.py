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


def live(pattern: str, model: str, seconds: float, threads: int | None) -> dict[str, Any]:
    """Runs `cyclecast live` into the sink null; returns its JSON."""
    command = [sys.executable, "-m", "cyclecast", "live", pattern, "--model", model, "--sink", "null"]
    command += [] if threads is None else ["--threads", str(threads)]
    finished = subprocess.run([*command, "--seconds", str(seconds), "--json"], capture_output=True, text=True, check=True)
    report = json.loads(finished.stdout)
    assert isinstance(report, dict)
    return report


def compare_with_limit(report: dict[str, Any], fps: float) -> dict[str, Any]:
    """Returns the figures of a run and the limit of its p99 latency."""
    latency, model, quarters = report["latency_ms"], report["model_ms"]["p99"], report["quarters_ms"]
    limit = model + 2 * 1000 / fps
    return {
        "model": report["model"],
        "model_ms": report["model_ms"],
        "latency_ms": latency,
        "allowed_p99_ms": round(limit, 1),
        "p99_over_allowed": round(latency["p99"] / limit, 3),
        "quarters_ms": quarters,
        "last_quarter_over_first": round(quarters[3] / quarters[0], 3),
        "captured": report["captured"],
        "shown": report["shown"],
        "skipped": report["skipped"],
        "fps": report["fps"],
    }


def compare_with_clock(pattern: str, model: str, seconds: float, threads: int | None) -> dict[str, Any]:
    """Compares the latency by the clock in the frame with that by the reported time of capture, in milliseconds."""
    by_report, by_clock, largest_difference, unread = Histogram(), Histogram(), 0.0, 0
    begin = time.perf_counter()
    for frame in cyclecast.stream(pattern, model, threads=threads):
        now = time.perf_counter()
        drawn_time = read_clock(frame.image)
        if drawn_time is None:  # the style made the clock unreadable
            unread += 1
            drawn_time = read_clock(frame.source)
        assert drawn_time is not None
        latency, clock_latency = now - frame.at, seconds_since(drawn_time, now % (WRAP_MS / 1000))
        by_report.add(latency)
        by_clock.add(clock_latency)
        largest_difference = max(largest_difference, abs(clock_latency - latency))
        if now - begin > seconds:
            break
    p50 = {"by_report_ms": by_report.percentiles().p50, "by_clock_ms": by_clock.percentiles().p50}
    difference = {"largest_difference_ms": round(1000 * largest_difference, 2), "unread_when_styled": unread}
    return {"model": model, **p50, **difference}


def export_slow_model(folder: Path, ngf: int) -> Path:
    """Exports a ResNet-9 of this width with random weights."""
    torch.manual_seed(0)
    network = ResnetGenerator(blocks=9, ngf=ngf).eval()
    path = folder / f"resnet9-{ngf}.onnx"
    export_onnx(TrainedGenerator(network, "cyclegan", "a2b", {}, 0, []), path, check=False)
    return path


def main() -> None:
    """Runs everything and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1280x720", help="frame size in pixels (default 1280x720)")
    parser.add_argument("--fps", type=float, default=30, help="frames per second of the pattern (default 30)")
    parser.add_argument("--seconds", type=float, default=20, help="length of each run (default 20)")
    parser.add_argument("--slow-ngf", type=int, default=24, help="channels of the slow ResNet-9 at full resolution (default 24)")
    parser.add_argument("--threads", type=int, help="CPU threads of the engine (default: the engine's choice)")
    args = parser.parse_args()
    pattern = f"pattern://{args.size}@{args.fps:g}"
    with tempfile.TemporaryDirectory() as folder:
        slow = export_slow_model(Path(folder), args.slow_ngf)
        reports = [live(pattern, model, args.seconds, args.threads) for model in ("monet", str(slow))]
    print(
        json.dumps(
            {
                "pattern": pattern,
                "seconds": args.seconds,
                "threads": args.threads,
                "rows": [compare_with_limit(report, args.fps) for report in reports],
                "clock": compare_with_clock(pattern, "monet", args.seconds / 4, args.threads),
            }
        )
    )


if __name__ == "__main__":
    main()
