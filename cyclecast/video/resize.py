"""Runs a frame function on an image at the image's own resolution or at another height, and blends the output with it."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Fit:
    """Where an image lies in a frame of another size: scaled with its aspect ratio kept, and centered."""

    frame: tuple[int, int]
    """(width, height) of the frame."""
    scaled: tuple[int, int]
    """(width, height) of the scaled image in it."""

    @property
    def margins(self) -> tuple[int, int]:
        """Columns at the left and rows at the top that are not the image's."""
        return (self.frame[0] - self.scaled[0]) // 2, (self.frame[1] - self.scaled[1]) // 2

    def place(self, image: Image) -> Image:
        """Places the scaled image in a frame and repeats its edges up to the frame's: black bars change the colors."""
        left, top = self.margins
        right, bottom = (whole - part - margin for whole, part, margin in zip(self.frame, self.scaled, (left, top), strict=True))
        scaled = resize_image(image, self.scaled)
        return np.asarray(cv2.copyMakeBorder(scaled, top, bottom, left, right, cv2.BORDER_REPLICATE), np.uint8)

    def cut_out(self, frame: Image, size: tuple[int, int]) -> Image:
        """Cuts the image out of a frame and scales it back to its own (width, height)."""
        left, top = self.margins
        return resize_image(frame[top : top + self.scaled[1], left : left + self.scaled[0]], size)


def fit_size(size: tuple[int, int], smallest: tuple[int, int], largest: tuple[int, int]) -> Fit:
    """Computes how an image of `size` fits into a frame with sides from `smallest` to `largest`; all are (width, height)."""
    width, height = size
    box = tuple(min(max(side, low), high) for side, low, high in zip(size, smallest, largest, strict=True))
    scale = min(box[0] / width, box[1] / height)
    scaled = max(1, round(width * scale)), max(1, round(height * scale))
    return Fit((max(scaled[0], smallest[0]), max(scaled[1], smallest[1])), scaled)


def letterbox(image: Image, size: tuple[int, int]) -> Image:
    """Centers the image in (width, height), as large as it fits, with black around it. Keeps an image of that size."""
    height, width = image.shape[:2]
    if size == (width, height) or not all(size):
        return image
    scale = min(size[0] / width, size[1] / height)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    out = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - new_width) // 2, (size[1] - new_height) // 2
    interpolation = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    area = out[top : top + new_height, left : left + new_width]
    cv2.resize(image, (new_width, new_height), area, interpolation=interpolation)
    return out


def resize_image(image: Image, size: tuple[int, int]) -> Image:
    """Resizes an image to (width, height), by area averaging if it shrinks and by cubic interpolation if it grows.

    Returns the image itself if it has that size.
    """
    height, width = image.shape[:2]
    if size == (width, height):
        return image
    interpolation = cv2.INTER_AREA if size[1] < height else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)
