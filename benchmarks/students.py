"""Compares students with their teachers and with the same network trained without one: KID, structure, warping error, a sheet.

Each model runs at the scale of its training. For a student, photos of 256 pixels are enlarged by the scale of its strokes, and
its outputs are shrunk back. For a teacher, the frames of a clip are shrunk, and its outputs are enlarged back. KID is measured
against at most 500 training images of the target domain or, with --real, against the images of that folder, which should be
held out. Writes one sheet per student to --out: photos unseen in training, teacher, student, and strips of the clips.

    python -m benchmarks.students runs/monet-student --others runs/monet-plain --clips CLIP CLIP --out runs/sheets
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import cyclecast
from cyclecast.export.checkpoints import read_generator
from cyclecast.export.onnx import export_onnx
from cyclecast.measure import first_frames
from cyclecast.training.data import open_domain, to_bytes
from cyclecast.training.evaluate.distribution import ImageNetFeatures, extract_features, fid_kid_of_features
from cyclecast.training.evaluate.domains import DomainPaths
from cyclecast.training.evaluate.flicker import structure_kept, warping_error
from cyclecast.training.report import add_caption
from cyclecast.training.reproduce.experiment import load_state
from cyclecast.video.frame import Image

Paint = Callable[[Image], Image]
SIDE = 256  # pixels of the photos
ROWS = ("teacher", "student", "photo itself")  # the other rows are named after the folders of their runs


def at_scale(paint: Paint, scale: float) -> Paint:
    """Runs `paint` on frames resized by `scale`, and resizes its outputs back."""

    def scaled(frame: Image) -> Image:
        if scale == 1:
            return paint(frame)
        height, width = frame.shape[:2]
        size = round(width * scale), round(height * scale)
        resized = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        back = cv2.INTER_CUBIC if scale < 1 else cv2.INTER_AREA
        return np.asarray(cv2.resize(paint(np.asarray(resized, np.uint8)), (width, height), interpolation=back), np.uint8)

    return scaled


def figures(
    paint: Paint,
    on_frames: Paint,
    photos: list[Image],
    real: torch.Tensor,
    features: ImageNetFeatures,
    clips: list[Path],
    seconds: float,
) -> dict[str, Any]:
    """Computes KID (mean and deviation over its subsets), SSIM to the photo, warping error of each clip and their mean.

    real: the features of real images.
    """
    outputs = [paint(photo) for photo in photos]
    images = torch.from_numpy(np.stack(outputs)[..., ::-1].copy()).permute(0, 3, 1, 2)
    distance = fid_kid_of_features(real, extract_features(images, features), features.space)
    errors = {}
    for clip in clips:
        errors[clip.stem] = warping_error(first_frames(clip, seconds), map(on_frames, first_frames(clip, seconds))).mean
    errors["mean"] = statistics.mean(errors.values()) if errors else math.nan
    return {
        "kid": round(distance.kid_mean, 4),
        "kid_deviation": round(distance.kid_std, 4),
        "structure_kept": round(statistics.mean(map(structure_kept, photos, outputs)), 3),
        "warping_error": {name: round(1e4 * error, 2) for name, error in errors.items()},  # in 1e-4
    }


def sheet(photos: list[Image], painters: dict[str, Paint], clips: list[Path], on_frames: dict[str, Paint]) -> Image:
    """Shows eight photos with the outputs of each model, then four frames of each clip."""
    rows = [add_caption(np.concatenate(photos[:8], 1), "photo")]
    rows += [add_caption(np.concatenate([paint(photo) for photo in photos[:8]], 1), name) for name, paint in painters.items()]
    width = rows[0].shape[1]
    for clip in clips:
        frames = list(first_frames(clip, 2.0))
        chosen = frames[:: max(1, len(frames) // 4)][:4]
        for name, paint in {"clip": at_scale(lambda frame: frame, 1), **on_frames}.items():
            strip = add_caption(np.concatenate([paint(frame) for frame in chosen], 1), name)
            rows.append(np.asarray(cv2.resize(strip, (width, round(strip.shape[0] * width / strip.shape[1]))), np.uint8))
    return np.concatenate(rows)


def main() -> None:
    """Prints one JSON object and writes the sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("students", nargs="+", type=Path, help="runs of distill")
    parser.add_argument("--others", nargs="*", type=Path, default=[], help="runs to compare with, at the scale of the teacher")
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="held-out images of the target domain")
    parser.add_argument("--clips", nargs="*", type=Path, default=[])
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    names = [run.name for run in (*args.students, *args.others)]
    if len(set(names)) < len(names):
        parser.error(f"the folders of the runs need different names, got {', '.join(names)}")
    if taken := set(ROWS) & {run.name for run in args.others}:
        parser.error(f"the table already has a row of this name, so rename the folder: {', '.join(sorted(taken))}")
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    features = ImageNetFeatures()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:

        @functools.cache  # several students may have one teacher
        def load_model(run: Path, direction: str) -> Paint:
            path = Path(folder) / f"{run.name}.onnx"
            export_onnx(read_generator(run, direction), path, check=False, overwrite=True)
            return opened.enter_context(cyclecast.load(path))

        for run in args.students:
            settings = load_state(run)["config"]
            direction, scale, paths = settings["direction"], settings["teacher_scale"], DomainPaths.from_settings(settings)
            train, test, _ = paths.splits(direction[0])
            photos = to_bytes(open_domain(test or train, (SIDE, SIDE), SIDE).first(args.photos, SIDE))
            frames = list(photos.permute(0, 2, 3, 1).flip(3).contiguous().numpy())
            target = to_bytes(open_domain(args.real or paths.splits(direction[2])[0], (SIDE, SIDE), SIDE).first(500, SIDE))
            real = extract_features(target, features)
            subjects = {"teacher": (Path(settings["teacher"]), 1.0), "student": (run, 1 / scale)}
            subjects |= {other.name: (other, 1.0) for other in args.others}
            painters, on_frames = {}, {}
            for name, (subject, own) in subjects.items():
                paint = load_model(subject, direction)
                painters[name], on_frames[name] = at_scale(paint, own), at_scale(paint, own * scale)
            results[run.name] = {
                name: figures(paint, on_frames[name], frames, real, features, args.clips, args.seconds)
                for name, paint in painters.items()
            }
            identity = at_scale(lambda frame: frame, 1)
            results[run.name]["photo itself"] = figures(identity, identity, frames, real, features, args.clips, args.seconds)
            cv2.imwrite(str(args.out / f"{run.name}.jpg"), sheet(frames, painters, args.clips, on_frames))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
