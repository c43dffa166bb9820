"""Runs a frame function on an image at the image's own resolution or at another height, and blends the output with it."""

from __future__ import annotations

import cv2
import numpy as np

from cyclecast.future import Completed, Deferred, Future
from cyclecast.video.frame import FrameFunction, Image, SubmittingFunction
from cyclecast.video.strength import blend_with_source

MIN_SIDE_PX = 16  # the shortest side that a frame model accepts


def work_size(width: int, height: int, work_height: int | None) -> tuple[int, int]:
    """Returns the (width, height) at which the function runs: the image's own, or scaled to a height of `work_height`."""
    return (width, height) if work_height is None else (max(MIN_SIDE_PX, round(width * work_height / height)), work_height)


def style_frame(image: Image, function: FrameFunction, work_height: int | None = None, strength: float = 1.0) -> Image:
    """Runs `function` on an (H, W, 3) uint8 BGR image and returns a new image of the same size.

    work_height: scales the image to this height, in pixels, for the function, and the output back. strength: share of the
    output in the result, from 0 to 1; the rest is the image itself, at its own size.
    """
    return submit_frame(image, function, work_height, strength).result()


def submit_frame(image: Image, function: FrameFunction, work_height: int | None = None, strength: float = 1.0) -> Future[Image]:
    """Does what `style_frame` does, but does not wait for the output if the function is a `SubmittingFunction`."""
    height, width = image.shape[:2]
    small = resize_image(image, work_size(width, height, work_height))

    def finish(output: Image) -> Image:
        return blend_with_source(image, resize_image(output, (width, height)), strength)

    if isinstance(function, SubmittingFunction):
        future = function.submit(small)
        return Deferred(lambda: finish(future.result()))
    return Completed(finish(function(small)))


def resize_image(image: Image, size: tuple[int, int]) -> Image:
    """Resizes an image to (width, height), by area averaging if it shrinks and by cubic interpolation if it grows.

    Returns the image itself if it has that size.
    """
    height, width = image.shape[:2]
    if size == (width, height):
        return image
    interpolation = cv2.INTER_AREA if size[1] < height else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)
