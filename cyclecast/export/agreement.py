"""Two ways to compute the same frames: numbers, a tolerance, a verdict. Without torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cyclecast.runtime.bench import decibels

Image = NDArray[np.uint8]
SIZES = ((131, 97), (256, 256), (640, 360))  # (width, height): odd, square, wide
TOLERANCE = {"fp32": (1, 0.0), "bf16": (255, 45.0), "fp16": (255, 45.0)}  # most grey levels off, least PSNR in dB


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


def fit(frame: Image, width: int, height: int) -> Image:
    """The largest middle part of the frame with this shape, resized to width x height."""
    scale = max(width / frame.shape[1], height / frame.shape[0])
    crop_width, crop_height = min(frame.shape[1], round(width / scale)), min(frame.shape[0], round(height / scale))
    left, top = (frame.shape[1] - crop_width) // 2, (frame.shape[0] - crop_height) // 2
    part = frame[top : top + crop_height, left : left + crop_width]
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
