"""A styled frame on its way to the sinks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from cyclecast.video.frame import Image

MAX_NOTICE_SHARE = 0.94  # of the width that the text of a notice may use


@dataclass(frozen=True)
class StyledFrame:
    """A captured frame, its styled version, and how to show them."""

    number: int
    """Counts captured frames from 1; a frame that is shown again keeps its number."""
    at: float
    """`time.perf_counter()` when it was captured."""
    source: Image
    """(H, W, 3) uint8 BGR as captured; mirrored if the run mirrors. Read only."""
    styled: Image
    """The output of the model, same shape; below strength 1 it is blended with the source. Read only."""
    model: str
    split: float | None = None
    """Where the source at the left ends and the styled frame begins, as a share of the width; None: no split view."""
    notice: str | None = None
    """A line to write into the frame: it is shown again because the source is gone."""

    @cached_property
    def image(self) -> Image:
        """What to show, with split view and notice, (H, W, 3) uint8 BGR. Read only."""
        image = self.styled if self.split is None else split_view(self.source, self.styled, self.split)
        return image if self.notice is None else with_notice(image, self.notice)


def split_view(source: Image, styled: Image, split: float) -> Image:
    """Draws the source left of `split`, a share of the width, the styled frame right of it, and a white line between them."""
    image: Image = styled.copy()
    height, width = image.shape[:2]
    edge = min(max(round(split * width), 0), width)
    image[:, :edge] = source[:, :edge]
    line = max(1, height // 360)
    image[:, max(0, edge - line) : edge + line] = 255
    return image


def with_notice(image: Image, notice: str) -> Image:
    """Darkens the image and writes a line of text in its center."""
    dark: Image = np.asarray(image >> 1, np.uint8)
    height, width = dark.shape[:2]
    font, scale, thickness = cv2.FONT_HERSHEY_SIMPLEX, height / 720, max(1, round(1.5 * height / 720))
    (text_width, text_height), _ = cv2.getTextSize(notice, font, scale, thickness)
    if text_width > MAX_NOTICE_SHARE * width:
        scale *= MAX_NOTICE_SHARE * width / text_width
        (text_width, text_height), _ = cv2.getTextSize(notice, font, scale, thickness)
    left, bottom, pad = (width - text_width) // 2, (height + text_height) // 2, min(text_height, width // 100)
    area = dark[max(0, bottom - text_height - pad) : bottom + pad, left - pad : left + text_width + pad]
    area[:] = area // 3  # no outline: in OpenCV 5, thick letters are wider than thin ones
    cv2.putText(dark, notice, (left, bottom), font, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    return dark
