"""A picture through a frame function, at its own height or at another."""

from __future__ import annotations

import cv2
import numpy as np

from cyclecast.future import Completed, Deferred, Future
from cyclecast.video.frame import FrameFunction, Image, SubmittingFunction

SMALLEST = 16  # pixels, the shortest side that a frame model takes


def work_size(width: int, height: int, work_height: int | None) -> tuple[int, int]:
    """(width, height) that the function runs at: the picture's shape, of `work_height` lines if that is given."""
    return (width, height) if work_height is None else (max(SMALLEST, round(width * work_height / height)), work_height)


def style_frame(image: Image, function: FrameFunction, work_height: int | None = None) -> Image:
    """(H, W, 3) uint8 BGR through `function`, run at `work_height` lines if that is given -> a new one of the same size."""
    return submit_frame(image, function, work_height).result()


def submit_frame(image: Image, function: FrameFunction, work_height: int | None = None) -> Future[Image]:
    """As `style_frame`, without waiting for the result if the function works ahead."""
    height, width = image.shape[:2]
    small = resized(image, work_size(width, height, work_height))
    if isinstance(function, SubmittingFunction):
        future = function.submit(small)
        return Deferred(lambda: resized(future.result(), (width, height)))
    return Completed(resized(function(small), (width, height)))


def resized(image: Image, size: tuple[int, int]) -> Image:
    """The image at (width, height): averaged where it shrinks, cubic where it grows; itself if it is of that size."""
    height, width = image.shape[:2]
    if size == (width, height):
        return image
    how = cv2.INTER_AREA if size[1] < height else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
