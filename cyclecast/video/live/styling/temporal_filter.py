"""Temporal smoothing: reduces the flicker of a styled stream by blending each frame with the previous output.

It follows blind video temporal consistency (Bonneel et al. 2015, Lai et al. 2018), without a trained network. The optical flow of
the source (DIS, Kroeger et al. 2016) warps the previous output to the current frame. Two tests limit the blending: the weight
falls where the warped source differs from the current one, and the warped output is clamped to the colors around each pixel
(temporal anti-aliasing, Karis 2014). Without flow, smoothing has almost no effect while the camera moves.

The filter works at half resolution. Most flicker is visible there, it costs a quarter, and the finest strokes, which repeated
warping would blur, always come from the current frame.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cyclecast.video.frame import Image

FloatImage = npt.NDArray[np.float32]  # (H, W, 3) BGR, 0 to 255; rounding to whole levels would stop it short of its target
Flow = npt.NDArray[np.float32]  # (H, W, 2): the pixel at x was at x + flow[y, x] in the previous frame

MAX_WEIGHT = 0.8  # of the previous output, at strength 1; with more, strokes become soft
MAX_FLOW_SIDE_PX = 180  # the shorter side of the image for optical flow is at most this
MIN_FLOW_SIDE_PX = 32  # the shortest side for which DIS can compute flow
NOISE_LEVELS = 1  # the source differs by at most this many gray levels from camera noise alone: full weight
CHANGE_LEVELS = 7  # from this difference on, the content has changed: no weight
CUT_FRACTION = 0.06  # a mean weight below this fraction of the largest is a scene cut; real cuts reach 0.01, wild motion 0.15
NEIGHBORHOOD = np.ones((3, 3), np.uint8)


class TemporalFilter:
    """Reduces flicker in the output of one model. Call it with each frame in order. strength: above 0 (weak) to 1 (strong)."""

    def __init__(self, strength: float) -> None:
        similarity = np.clip((CHANGE_LEVELS - np.arange(256)) / (CHANGE_LEVELS - NOISE_LEVELS), 0, 1)
        self._weights = (MAX_WEIGHT * strength * similarity).astype(np.float32)  # by the source's difference in gray levels
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._previous: tuple[Image, FloatImage] | None = None  # the source at flow size, the output at half size

    def reset(self) -> None:
        """Forgets the previous frame, for example after a switch to another model."""
        self._previous = None

    def __call__(self, source: Image, styled: Image) -> Image:
        """Smooths a styled frame; both are (H, W, 3) uint8 BGR. Returns `styled` itself for the first of a scene or size."""
        height, width = styled.shape[:2]
        half = max(1, width // 2), max(1, height // 2)
        half_image = cv2.resize(styled, half, interpolation=cv2.INTER_AREA)
        current: FloatImage = half_image.astype(np.float32)
        scale = max(1.0, min(half) / MAX_FLOW_SIDE_PX)  # from flow size to half size
        small_source = _shrink_and_blur(source, half, scale)
        previous, self._previous = self._previous, (small_source, current)
        if previous is None or previous[1].shape != current.shape:
            return styled
        flow = self._compute_flow(small_source, previous[0])
        difference = cv2.blur(cv2.absdiff(small_source, _warp(previous[0], flow, 1)), (5, 5))
        largest = cv2.reduce(difference.reshape(-1, 3), 1, cv2.REDUCE_MAX).reshape(difference.shape[:2])
        weight = cv2.LUT(largest, self._weights)
        if weight.mean() < CUT_FRACTION * self._weights[0]:
            return styled
        warped = _warp(previous[1], np.asarray(cv2.resize(flow, half), np.float32), scale)
        cv2.max(warped, cv2.erode(half_image, NEIGHBORHOOD).astype(np.float32), warped)
        cv2.min(warped, cv2.dilate(half_image, NEIGHBORHOOD).astype(np.float32), warped)
        weight = cv2.resize(weight, half)
        result: FloatImage = np.asarray(cv2.blendLinear(warped, current, weight, 1 - weight, warped), np.float32)
        self._previous = small_source, result
        change = cv2.resize(cv2.subtract(result, current, dtype=cv2.CV_16S), (width, height))
        return np.asarray(cv2.add(styled, change, dtype=cv2.CV_8U), np.uint8)

    def _compute_flow(self, current: Image, previous: Image) -> Flow:
        """Computes where each pixel of the current frame was in the previous one; returns zeros for images that are too small."""
        if min(current.shape[:2]) < MIN_FLOW_SIDE_PX:
            return np.zeros((*current.shape[:2], 2), np.float32)
        grays = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (current, previous)]
        return np.asarray(self._flow.calc(grays[0], grays[1], None), np.float32)  # type: ignore[call-overload]


def _shrink_and_blur(source: Image, half: tuple[int, int], scale: float) -> Image:
    """Shrinks the source to `half` / scale, and blurs it so that camera noise does not look like motion."""
    size = max(1, round(half[0] / scale)), max(1, round(half[1] / scale))
    image = cv2.resize(cv2.resize(source, half, interpolation=cv2.INTER_AREA), size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.blur(image, (3, 3)), np.uint8)


def _warp(previous: npt.NDArray[Any], flow: Flow, scale: float) -> npt.NDArray[Any]:
    """Warps the previous image to the current frame by the flow times `scale`."""
    height, width = flow.shape[:2]
    sample_at = cv2.scaleAdd(flow, scale, _grid(width, height))
    return cv2.remap(previous, sample_at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload,no-any-return]


@lru_cache(maxsize=4)
def _grid(width: int, height: int) -> Flow:
    """Returns the coordinates of each pixel: (H, W, 2), x and y."""
    return np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
