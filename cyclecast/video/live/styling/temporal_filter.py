"""Takes flicker out of a styled stream: each picture is pulled towards the one before, carried along with the source's motion.

After blind video temporal consistency (Bonneel et al. 2015, Lai et al. 2018), with nothing to learn: optical flow of the source
(DIS, Kroeger et al. 2016) moves the last picture to where things are now. What does not fit there any more is let go: wherever
the source itself differs, and whatever lies outside the colors around a pixel (Karis 2014, temporal anti-aliasing). Blending
without flow does next to nothing where the camera moves. Only what half the size can show is pulled: most of the flicker is
there, it costs a quarter, and the finest strokes, which warping again and again would blur, are always those of this picture.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cyclecast.video.frame import Image

Picture = npt.NDArray[np.float32]  # (H, W, 3) BGR, 0 to 255: in whole levels a still picture would stop short of where it goes
Flow = npt.NDArray[np.float32]  # (H, W, 2): x + flow[y, x] is where the pixel was

FIRMEST = 0.8  # the share of the last picture, at strength 1; with more, strokes grow soft
LINES = 180  # at which motion is sought, at most
SHORTEST = 32  # pixels, the shortest side in which DIS can seek motion
SAME = 1  # gray levels by which a place that was followed differs, at most: a camera's noise
OTHER = 7  # gray levels from which on it shows something else
CUT = 0.06  # of the picture followed: less is another scene; cuts in real films leave up to 0.01, wild motion 0.15
AROUND = np.ones((3, 3), np.uint8)


class TemporalFilter:
    """Takes flicker out of the pictures of one model, given one by one. strength: above 0 (hardly) to 1 (firmly)."""

    def __init__(self, strength: float) -> None:
        followed = np.clip((OTHER - np.arange(256)) / (OTHER - SAME), 0, 1)
        self._shares = (FIRMEST * strength * followed).astype(np.float32)  # of the last picture, by difference of the source
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._before: tuple[Image, Picture] | None = None  # the source and the result, both shrunk

    def reset(self) -> None:
        """The next picture is taken as it is: another model made it."""
        self._before = None

    def __call__(self, source: Image, styled: Image) -> Image:
        """Both (H, W, 3) uint8 BGR -> a picture of the same size; `styled` itself if it is the first of its scene or size."""
        height, width = styled.shape[:2]
        half = max(1, width // 2), max(1, height // 2)
        coarse = cv2.resize(styled, half, interpolation=cv2.INTER_AREA)
        now: Picture = coarse.astype(np.float32)
        scale = max(1.0, min(half) / LINES)  # from the size in which motion is sought to half the picture's
        seen = _shrunk(source, half, scale)
        before, self._before = self._before, (seen, now)
        if before is None or before[1].shape != now.shape:
            return styled
        flow = self._motion(seen, before[0])
        differs = cv2.blur(cv2.absdiff(seen, _carried(before[0], flow, 1)), (5, 5))
        most = cv2.reduce(differs.reshape(-1, 3), 1, cv2.REDUCE_MAX).reshape(differs.shape[:2])
        kept = cv2.LUT(most, self._shares)
        if kept.mean() < CUT * self._shares[0]:
            return styled
        last = _carried(before[1], np.asarray(cv2.resize(flow, half), np.float32), scale)
        cv2.max(last, cv2.erode(coarse, AROUND).astype(np.float32), last)
        cv2.min(last, cv2.dilate(coarse, AROUND).astype(np.float32), last)
        kept = cv2.resize(kept, half)
        result: Picture = np.asarray(cv2.blendLinear(last, now, kept, 1 - kept, last), np.float32)
        self._before = seen, result
        change = cv2.resize(cv2.subtract(result, now, dtype=cv2.CV_16S), (width, height))
        return np.asarray(cv2.add(styled, change, dtype=cv2.CV_8U), np.uint8)

    def _motion(self, seen: Image, before: Image) -> Flow:
        """From each place to where it was."""
        if min(seen.shape[:2]) < SHORTEST:
            return np.zeros((*seen.shape[:2], 2), np.float32)
        now, then = (cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (seen, before))
        return np.asarray(self._flow.calc(now, then, None), np.float32)  # type: ignore[call-overload]


def _shrunk(source: Image, half: tuple[int, int], scale: float) -> Image:
    """`scale` times smaller than half its size, and smoothed: a camera's noise is no motion."""
    size = max(1, round(half[0] / scale)), max(1, round(half[1] / scale))
    image = cv2.resize(cv2.resize(source, half, interpolation=cv2.INTER_AREA), size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.blur(image, (3, 3)), np.uint8)


def _carried(picture: npt.NDArray[Any], flow: Flow, scale: float) -> npt.NDArray[Any]:
    """The picture as seen from where the flow, times `scale`, starts."""
    height, width = flow.shape[:2]
    there = cv2.scaleAdd(flow, scale, _grid(width, height))
    return cv2.remap(picture, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload,no-any-return]


@lru_cache(maxsize=4)
def _grid(width: int, height: int) -> Flow:
    """Where each pixel is."""
    return np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
