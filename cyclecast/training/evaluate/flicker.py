"""Flicker of a styled clip (warping error), and how much of its source's structure it keeps (SSIM)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch

from cyclecast.errors import InputError
from cyclecast.training.ssim import WINDOW, gaussian_window, ssim

Image: TypeAlias = npt.NDArray[np.uint8]  # (H, W, 3) BGR
FlowField: TypeAlias = npt.NDArray[np.float32]  # (H, W, 2): pixel (x, y) is at (x, y) + flow[y, x] in the other frame

MIN_TRACKED_SHARE = 0.1
"""A pair of frames with a smaller share of tracked pixels is a cut and does not count."""


@dataclass(frozen=True, kw_only=True)
class Flicker:
    """The warping error of a clip."""

    mean: float
    """Mean square difference of values in [0, 1]: over tracked pixels and channels, then over pairs of frames."""

    frames: int
    """Pairs of neighboring frames that count."""

    occluded: float
    """Share of pixels, over all pairs, that could not be tracked and do not count."""


def warping_error(source_frames: Iterable[Image], styled_frames: Iterable[Image]) -> Flicker:
    """Measures how much a styled clip changes where its source only moves (Lai et al. 2018, flow warping error).

    Both: equally many frames (H, W, 3) uint8 BGR of one size; two of each are in memory at a time. The optical flow (DIS,
    Kroeger et al. 2016, in place of FlowNet 2) is that of the source; each styled frame is compared with the one before,
    warped along it. Flow is never exact: the figure of the source against itself is the floor. Raises InputError for fewer than
    two frames, frames that do not match, or a clip in which no pair of frames can be tracked.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    errors: list[float] = []
    pairs, occluded = 0, 0.0
    previous: tuple[Image, Image] | None = None  # gray source, styled
    for index, (source, styled) in enumerate(zip_longest(source_frames, styled_frames)):
        if source is None or styled is None:
            shorter = "source" if source is None else "styled"
            raise InputError(f"the source and the styled clip need equally many frames; the {shorter} clip ends at frame {index}")
        _check(source, styled)
        gray: Image = np.asarray(cv2.cvtColor(source, cv2.COLOR_BGR2GRAY), np.uint8)
        if previous is not None:
            if previous[0].shape != gray.shape:
                raise InputError(f"frame {index} has another size than the one before: {gray.shape}, not {previous[0].shape}")
            backward = flow.calc(gray, previous[0], None)  # type: ignore[call-overload]
            forward = flow.calc(previous[0], gray, None)  # type: ignore[call-overload]
            tracked = ~_occluded(backward, forward)
            pairs, occluded = pairs + 1, occluded + 1 - float(tracked.mean())
            if tracked.mean() >= MIN_TRACKED_SHARE:
                warped = _warp(previous[1].astype(np.float32), backward)
                errors.append(float((((styled - warped) / 255.0) ** 2)[tracked].mean()))
        previous = gray, styled
    if not pairs:
        raise InputError("flicker needs two or more frames, got fewer; name a longer clip")
    if not errors:
        raise InputError(
            f"flicker needs two frames of one scene: none of {pairs} pairs of frames can be tracked; name another clip"
        )
    return Flicker(mean=float(np.mean(errors)), frames=len(errors), occluded=occluded / pairs)


def structure_kept(source: Image, styled: Image) -> float:
    """Returns the SSIM of the luma of two frames (H, W, 3) uint8 BGR, at most 1 (Wang et al. 2004; Gaussian, sigma 1.5).

    It measures how much local structure survives the styling, whatever happens to the colors: 1 is the input itself, and a
    painting keeps less than a color filter. Windows that leave the frame do not count. Raises InputError if the frames do not
    match or are smaller than a window.
    """
    _check(source, styled)
    if min(source.shape[:2]) < WINDOW:
        raise InputError(f"SSIM needs frames of {WINDOW}x{WINDOW} pixels or more, got {source.shape[1]}x{source.shape[0]}")
    x, y = (
        torch.from_numpy(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.float64))[None, None]
        for image in (source, styled)
    )
    return ssim(x, y, 255.0, gaussian_window).item()


def _occluded(backward: FlowField, forward: FlowField) -> npt.NDArray[np.bool_]:
    """Returns where the backward flow is not reliable, (H, W) (Sundaram et al. 2010; Ruder et al. 2016).

    That is where it leaves the frame, where the forward flow does not undo it, and at motion boundaries.
    """
    height, width = backward.shape[:2]
    x, y = backward[..., 0] + np.arange(width), backward[..., 1] + np.arange(height)[:, None]
    outside = (x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)
    returned = _warp(forward, backward)
    length = (backward**2).sum(2)
    consistent = ((backward + returned) ** 2).sum(2) <= 0.01 * (length + (returned**2).sum(2)) + 0.5
    slope = (np.diff(backward, axis=0, append=backward[-1:]) ** 2 + np.diff(backward, axis=1, append=backward[:, -1:]) ** 2).sum(
        2
    )
    return np.asarray(outside | ~consistent | (slope > 0.01 * length + 0.002))


def _warp(image: npt.NDArray[np.float32], flow: FlowField) -> npt.NDArray[np.float32]:
    """Samples `image` at every pixel's position plus its flow, bilinear."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    warped = cv2.remap(image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.float32)


def _check(source: Image, styled: Image) -> None:
    for image in (source, styled):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(f"frames must be (H, W, 3) uint8 BGR, got {image.shape} {image.dtype}")
    if source.shape != styled.shape:
        raise InputError(f"source and styled frames must have one size, got {source.shape} and {styled.shape}")
