"""Turns the decoded frames of a video into upright images of one size, with their transparency or composed on black."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from cyclecast.video.alpha import compose, fill_hidden, may_be_transparent, read_alpha
from cyclecast.video.color import BgrConverter, orientation, turn_upright
from cyclecast.video.frame import Alpha, Color, Image


def is_transparent(container: InputContainer, stream: av.VideoStream, first: av.VideoFrame) -> bool:
    """Returns whether frames of this stream may have transparent pixels, by the pixel format of the first one.

    The fourth byte of a pixel in an uncompressed AVI file is alpha or unused. If it is 0 everywhere, it is unused.
    """
    if not may_be_transparent(first):
        return False
    is_uncompressed_avi = container.format.name == "avi" and stream.codec_context.name == "rawvideo"
    alpha = read_alpha(first) if is_uncompressed_avi else None
    return alpha is None or bool(alpha.any())


class UprightFrames:
    """Converts the frames of one stream to images of its size.

    color: the stream's. size: (width, height) on display. report: called with a phrase for what was changed, once for each
    change.
    """

    def __init__(self, color: Color, size: tuple[int, int], has_alpha: bool, report: Callable[[str], None]) -> None:
        self._to_bgr, self._size, self._has_alpha, self._report = BgrConverter(color), size, has_alpha, report
        self._has_composed = False
        self._has_resized = False

    def __call__(self, frame: av.VideoFrame, alpha_notice: str | None) -> tuple[Image, Alpha | None]:
        """Returns the image and its alpha. Colors of fully transparent pixels are replaced, see `alpha.fill_hidden`.

        alpha_notice: reported with the first transparent pixel, as the image is composed on black; None: it keeps its alpha.
        Raises InputError for a color matrix that is not supported.
        """
        image = self._resize(self._to_bgr(frame))
        alpha = read_alpha(frame) if self._has_alpha else None
        if alpha is None:
            return image, None
        alpha = self._resize(turn_upright(alpha, orientation(frame)))
        if alpha_notice is None:
            return fill_hidden(image, alpha), alpha
        if bool((alpha == 255).all()):
            return image, None
        if not self._has_composed:
            self._has_composed = True
            self._report(alpha_notice)
        return compose(image, alpha), None

    def _resize(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """Resizes an image or its alpha if the frame has another size than the first."""
        size = (image.shape[1], image.shape[0])
        if size == self._size:
            return image
        if not self._has_resized:
            self._has_resized = True
            self._report(f"frames that are not of the first one's size, such as {size[0]}x{size[1]}, were resized")
        return np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), np.uint8)
