"""What a styled clip does over time, and what it keeps of its source."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from cyclecast.errors import InputError

Image: TypeAlias = npt.NDArray[np.uint8]  # (H, W, 3) BGR
Field: TypeAlias = npt.NDArray[np.float32]  # (H, W, 2): x + field[y, x] is where the pixel is in the other frame

SMALLEST_SHARE = 0.1
"""A pair of frames of which less than this can be followed is a cut, and not judged."""

WINDOW = 11
"""Pixels across SSIM's window."""


@dataclass(frozen=True, kw_only=True)
class Flicker:
    """The warping error of a clip."""

    mean: float
    """Mean square difference of values in [0, 1], over followed pixels and channels, then over pairs of frames."""

    frames: int
    """Frames judged: each against the one before it."""

    occluded: float
    """The share of pixels, of all pairs, that could not be followed and do not count."""


def warping_error(source_frames: Iterable[Image], styled_frames: Iterable[Image]) -> Flicker:
    """How much a styled clip changes where its source only moves (Lai et al. 2018, flow warping error).

    Both: frames (H, W, 3) uint8 BGR, equally many and of one size; two of each are in memory at a time. Optical flow (DIS,
    Kroeger et al. 2016, in place of FlowNet 2) is that of the source; along it each styled frame is compared to the one
    before. Flow is never exact: the source against itself gives the floor to read a figure from. InputError for fewer than
    two frames, frames that do not match, or a clip without two frames alike.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    errors: list[float] = []
    pairs, occluded = 0, 0.0
    before: tuple[Image, Image] | None = None  # gray source, styled
    for index, (source, styled) in enumerate(zip_longest(source_frames, styled_frames)):
        if source is None or styled is None:
            raise InputError(f"both clips need as many frames; the {'source' if source is None else 'styled'} ends at {index}")
        _check(source, styled)
        gray: Image = np.asarray(cv2.cvtColor(source, cv2.COLOR_BGR2GRAY), np.uint8)
        if before is not None:
            if before[0].shape != gray.shape:
                raise InputError(f"frame {index} is of another size than the one before: {gray.shape}, {before[0].shape}")
            back = flow.calc(gray, before[0], None)  # type: ignore[call-overload]
            forth = flow.calc(before[0], gray, None)  # type: ignore[call-overload]
            followed = ~_occluded(back, forth)
            pairs, occluded = pairs + 1, occluded + 1 - float(followed.mean())
            if followed.mean() >= SMALLEST_SHARE:
                moved = _warp(before[1].astype(np.float32), back)
                errors.append(float((((styled - moved) / 255.0) ** 2)[followed].mean()))
        before = gray, styled
    if not errors:
        raise InputError(f"flicker needs two frames or more of one scene, got {pairs} pairs and none that can be followed")
    return Flicker(mean=float(np.mean(errors)), frames=len(errors), occluded=occluded / pairs)


def structure_kept(source: Image, styled: Image) -> float:
    """SSIM of the luminance of two frames (H, W, 3) uint8 BGR, at most 1 (Wang et al. 2004; Gaussian window, sigma 1.5).

    It says how much of the picture's local structure came through the styling, whatever became of its colors: 1 is the
    input itself, and a good painter keeps less than a filter does. Pixels whose window leaves the frame do not count.
    InputError if the frames do not match or have no others.
    """
    _check(source, styled)
    if min(source.shape[:2]) < WINDOW:
        raise InputError(f"SSIM needs frames of {WINDOW}x{WINDOW} or more, got {source.shape}")
    x, y = (cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float64) for image in (source, styled))
    mean_x, mean_y = _blur(x), _blur(y)
    variances = _blur(x * x) - mean_x**2 + _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ssim = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    edge = WINDOW // 2
    return float(ssim[edge:-edge, edge:-edge].mean())


def _occluded(back: Field, forth: Field) -> npt.NDArray[np.bool_]:
    """(H, W): where the flow back cannot be trusted (Sundaram et al. 2010; Ruder et al. 2016).

    Out of the picture; where forth does not undo back; and at the edges of what moves.
    """
    height, width = back.shape[:2]
    x, y = back[..., 0] + np.arange(width), back[..., 1] + np.arange(height)[:, None]
    outside = (x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)
    there = _warp(forth, back)
    length = (back**2).sum(2)
    undone = ((back + there) ** 2).sum(2) <= 0.01 * (length + (there**2).sum(2)) + 0.5
    slope = (np.diff(back, axis=0, append=back[-1:]) ** 2 + np.diff(back, axis=1, append=back[:, -1:]) ** 2).sum(2)
    return np.asarray(outside | ~undone | (slope > 0.01 * length + 0.002))


def _warp(image: npt.NDArray[np.float32], field: Field) -> npt.NDArray[np.float32]:
    """`image` as seen from where `field` starts, bilinear."""
    height, width = field.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(image, x + field[..., 0], y + field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def _blur(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(cv2.GaussianBlur(image, (WINDOW, WINDOW), 1.5))


def _check(source: Image, styled: Image) -> None:
    for image in (source, styled):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(f"frames are (H, W, 3) uint8 BGR, got {image.shape} {image.dtype}")
    if source.shape != styled.shape:
        raise InputError(f"source and styled frames must be of one size, got {source.shape} and {styled.shape}")
