"""The exported file against PyTorch, on real frames: numbers, a tolerance, a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from cyclecast.export.frame_graph import LatentGraph, reference
from cyclecast.runtime.bench import decibels
from cyclecast.runtime.engine import Engine
from cyclecast.training.networks import ImageGenerator, LatentGenerator

Image = NDArray[np.uint8]
SIZES = ((131, 97), (256, 256), (640, 360))  # (width, height): odd, square, wide
TOLERANCE = {"fp32": (1, 0.0), "bf16": (255, 40.0), "fp16": (255, 40.0)}  # most grey levels off, least PSNR in dB


@dataclass(frozen=True)
class Agreement:
    """How far two ways to compute the same frames are apart, in grey levels."""

    size: tuple[int, int]
    frames: int
    max_abs: int
    mean_abs: float
    psnr_db: float
    """Over all frames; infinite where they are equal."""
    passed: bool


def compare(size: tuple[int, int], pairs: Iterable[tuple[Image, Image]], precision: str) -> Agreement:
    """Measures pairs of equal-sized frames against the tolerance of `precision`."""
    most, total, square, values, frames = 0, 0.0, 0.0, 0, 0
    for one, other in pairs:
        difference = np.abs(one.astype(np.int32) - other)
        most = max(most, int(difference.max()))
        total += float(difference.sum())
        square += float((difference.astype(np.float64) ** 2).sum())
        values += difference.size
        frames += 1
    psnr_db = decibels(square / values)
    levels, least = TOLERANCE[precision]
    return Agreement(size, frames, most, total / values, psnr_db, most <= levels and psnr_db >= least)


def verify(
    engine: Engine,
    network: ImageGenerator,
    frames: Sequence[Image],
    sizes: Sequence[tuple[int, int]] = SIZES,
    keep_colours: float = 0.0,
) -> list[Agreement]:
    """`engine`'s frames against `network`'s in PyTorch fp32, at each size (width, height) that the model takes.

    frames: real images, (H, W, 3) uint8 BGR, any size: cropped to the size's shape and resized to it.
    """
    report = []
    for width, height in [engine.size] if engine.size else sizes:
        fitted = [fit(frame, width, height) for frame in frames]
        pairs = ((engine.run(frame), reference(network, torch.from_numpy(frame), keep_colours).numpy()) for frame in fitted)
        report.append(compare((width, height), pairs, engine.precision))
    return report


@torch.no_grad()
def verify_latent(path: Path, network: LatentGenerator, count: int = 16) -> Agreement:
    """A latent model's file in ONNX Runtime against PyTorch fp32, on `count` latents from N(0, 1), one seed."""
    latents = torch.randn(count, network.latent, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    made = np.asarray(session.run(None, {"latent": latents.numpy()})[0], np.uint8)  # (N, H, W, 3)
    expected = LatentGraph(network)(latents).numpy()
    return compare((made.shape[2], made.shape[1]), zip(made, expected, strict=True), "fp32")


def fit(frame: Image, width: int, height: int) -> Image:
    """The largest middle part of the frame with this shape, resized to width x height."""
    scale = max(width / frame.shape[1], height / frame.shape[0])
    crop_width, crop_height = min(frame.shape[1], round(width / scale)), min(frame.shape[0], round(height / scale))
    left, top = (frame.shape[1] - crop_width) // 2, (frame.shape[0] - crop_height) // 2
    part = frame[top : top + crop_height, left : left + crop_width]
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
