"""A picture on its way to the sinks, with all that they may want to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from cyclecast.video.frame import Image


@dataclass(frozen=True)
class StyledFrame:
    """A captured picture and what became of it."""

    number: int
    """Of its capture, from 1; one that is held keeps its number."""
    at: float
    """`time.perf_counter()` when it was captured."""
    source: Image
    """(H, W, 3) uint8 BGR as captured, mirrored if that is wanted. Not to be changed."""
    styled: Image
    """The same through the model. Not to be changed."""
    model: str
    split: float | None = None
    """Where, of the width, the source ends and the styled picture begins; None: styled all over."""
    notice: str | None = None
    """A line to be read in the picture: it is held because the source is gone."""

    @cached_property
    def image(self) -> Image:
        """What to show: split and with its notice. Not to be changed."""
        image = self.styled if self.split is None else beside(self.source, self.styled, self.split)
        return image if self.notice is None else noted(image, self.notice)


def beside(source: Image, styled: Image, split: float) -> Image:
    """The source at the left of `split`, a share of the width, the styled picture at its right, a line between them."""
    image: Image = styled.copy()
    height, width = image.shape[:2]
    edge = min(max(round(split * width), 0), width)
    image[:, :edge] = source[:, :edge]
    line = max(1, height // 360)
    image[:, max(0, edge - line) : edge + line] = 255
    return image


def noted(image: Image, notice: str) -> Image:
    """The picture, darker, with a line of words in its middle."""
    dark: Image = np.asarray(image >> 1, np.uint8)
    height, width = dark.shape[:2]
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, height / 720
    (wide, high), _ = cv2.getTextSize(notice, font, scale, 2)
    if wide > 0.94 * width:
        scale *= 0.94 * width / wide
        (wide, high), _ = cv2.getTextSize(notice, font, scale, 2)
    where = ((width - wide) // 2, (height + high) // 2)
    for color, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(dark, notice, where, font, scale, color, max(1, round(thickness * height / 720)), cv2.LINE_AA)
    return dark
