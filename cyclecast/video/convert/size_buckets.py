"""Pads images of many sizes to a few, so that an engine compiles a model for few input shapes."""

from __future__ import annotations

import cv2
import numpy as np

from cyclecast.video.frame import FrameFunction, Image

GRID_PX = 128  # padded widths and heights are multiples of this


class SizeBuckets:
    """A frame function that rounds image sizes up, so that the inner function, which may compile for each size, sees only a few.

    It pads an image at the right and the bottom, up to a multiple of `grid` pixels, by repeating the last column and row, and
    crops the output to the image's size. Padding changes the output near those two edges, within the model's receptive field,
    and everywhere if the model normalizes over the whole image. Do not use it for a model of a fixed size.
    """

    def __init__(self, function: FrameFunction, grid: int = GRID_PX) -> None:
        self._function, self._grid = function, grid

    @property
    def identity(self) -> str | None:
        """The identity of the inner function with the grid, because the grid changes the output near the edges."""
        inner = self._function.identity
        return inner and f"{inner} grid {self._grid}"

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Returns the padded (width, height) of an image of this size."""
        return -(-width // self._grid) * self._grid, -(-height // self._grid) * self._grid

    def prepare(self, width: int, height: int) -> None:
        """Compiles for all images that are padded to the same size as one of this size."""
        self._function.prepare(*self.size(width, height))

    def __call__(self, frame: Image) -> Image:
        height, width = frame.shape[:2]
        pad_right, pad_bottom = (large - small for large, small in zip(self.size(width, height), (width, height), strict=True))
        if pad_right == pad_bottom == 0:
            return self._function(frame)
        padded = cv2.copyMakeBorder(frame, 0, pad_bottom, 0, pad_right, cv2.BORDER_REPLICATE)
        return np.ascontiguousarray(self._function(np.asarray(padded, np.uint8))[:height, :width])
