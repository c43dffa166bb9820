"""Compares widths and depths of the frame generator: each shape imitates one teacher for the same number of steps.

Milliseconds: one 1280x720 frame on our default engine, from uint8 to uint8. PSNR: against the teacher's outputs for photos that
neither has seen. These outputs are means of 16 shifted calls, which cancel the teacher's grid, as in distillation. KID: against
the training images of the target domain; the teacher's KID is that of its means. The final page plots quality against time.

    python -m benchmarks.frame_shapes --teacher runs/monet-teacher --data DATA/monet2photo --direction b2a --out runs/shapes
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from cyclecast.export.checkpoints import read_generator
from cyclecast.export.onnx import export_onnx
from cyclecast.runtime.bench import decibels, percentiles, times_ms
from cyclecast.runtime.engines import open_engine
from cyclecast.runtime.machine import machine_name
from cyclecast.training.checkpoint import generator_from_checkpoint, translators_from_checkpoint
from cyclecast.training.config import data_settings
from cyclecast.training.data import open_domain, to_bytes
from cyclecast.training.evaluate.distribution import ImageNetFeatures, extract_features, fid_kid_of_features
from cyclecast.training.recipes.distill import DistillConfig
from cyclecast.training.report import Page
from cyclecast.training.reproduce.experiment import Experiment, load_state
from cyclecast.training.shift_average import shift_averaged

SHAPES = ("16x6x4", "24x6x4", "32x6x4", "32x10x4", "32x14x4", "48x6x4", "48x10x4", "64x6x4", "64x8x8", "96x8x8")
SIDE = 256  # pixels of the evaluated images


def time_model(run: Path, size: tuple[int, int], turns: int) -> tuple[float, int, str]:
    """Returns the median milliseconds of one frame of (width, height) after a warm-up, the model's bytes, and the engine."""
    frame = np.random.default_rng(0).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    frame = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        export_onnx(read_generator(run), path, check=False)
        with closing(open_engine(path)) as engine:
            times_ms(engine.run, [frame], 5)
            model_ms = percentiles(times_ms(engine.run, [frame], turns)).p50
            return model_ms, path.stat().st_size, f"{engine.name} {engine.precision}"


def main() -> None:
    """Trains the missing shapes, measures all of them, writes OUT/index.html and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="a run of cyclegan")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--direction", default="a2b", choices=["a2b", "b2a"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="WIDTHxBLOCKSxFACTOR")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--turns", type=int, default=30)
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    data_paths = data_settings(DistillConfig, args.data)
    source, target = (data_paths[f"domain_{domain}"] for domain in (args.direction[0], args.direction[2]))
    photos = open_domain(data_paths[f"samples_{args.direction[0]}"] or source, (SIDE, SIDE), SIDE).first(100, SIDE)
    real = to_bytes(open_domain(target, (SIDE, SIDE), SIDE).first(500, SIDE))
    teacher = generator_from_checkpoint(load_state(args.teacher), args.direction)[1]
    torch.manual_seed(0)  # for the random shifts of the teacher's grid
    targets = to_bytes(torch.cat([shift_averaged(teacher, photo, shifts=4) for photo in photos.split(1)])).float()
    experiment, extractor, rows = Experiment(args.out), ImageNetFeatures(), list[dict[str, Any]]()
    of_real = extract_features(real, extractor)

    def kid(images: Tensor) -> float:
        return round(fid_kid_of_features(of_real, extract_features(images, extractor), extractor.space).kid_mean, 4)

    settings = data_paths | {"teacher": args.teacher, "direction": args.direction, "steps": args.steps}
    teacher_settings = load_state(args.teacher)["config"]
    settings |= {key: teacher_settings[key] for key in ("load_size", "load_size_max", "crop_size", "batch_size")}
    engine = ""
    for shape in args.shapes:
        channels, blocks, factor = map(int, shape.split("x"))
        run = experiment.train_run(shape, "distill", settings | {"width": channels, "blocks": blocks, "factor": factor})
        model_ms, size, engine = time_model(run, (width, height), args.turns)
        outputs = to_bytes(translators_from_checkpoint(load_state(run))[args.direction](photos))
        rows.append(
            {
                "shape": shape,
                "ms": round(model_ms, 2),
                "bytes": size,
                "psnr_db": round(decibels(float((outputs.float() - targets).square().mean())), 2),
                "kid": kid(outputs),
            }
        )
    results = {
        "machine": machine_name(),
        "engine": engine,
        "size": args.size,
        "steps": args.steps,
        "teacher_kid": kid(targets.byte()),
        "rows": rows,
    }
    page = Page("Shapes of the frame generator", f"{args.steps} steps of imitation each; {engine}, {args.size}")
    for name, unit in (("psnr_db", "PSNR to the teacher, dB"), ("kid", "KID, EfficientNet-Lite2")):
        groups: dict[str, tuple[list[float], list[float]]] = {}
        for row in sorted(rows, key=lambda row: float(row["ms"])):
            across, up = groups.setdefault(f"factor {row['shape'].split('x')[2]}", ([], []))
            across.append(row["ms"])
            up.append(row[name])
        page.curves(groups, caption=unit, x="milliseconds", smooth=False)
    page.table(["width x blocks x factor", "ms", "bytes", "PSNR dB", "KID"], [list(row.values()) for row in rows])
    experiment.finish(page, results)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
