"""Draws the thumbnail of a style: a frame before and after, side by side, as a small JPEG."""

from __future__ import annotations

import cv2
import numpy as np

from cyclecast.errors import OutputError
from cyclecast.video.frame import Image
from cyclecast.video.resize import resize_image

HEIGHT = 270  # pixels
MOST_WIDTH = 960  # pixels, of one of the two
QUALITIES = (88, 75, 60, 45, 30, 15)  # of JPEG, the first that is small enough


def encode_thumbnail(before: Image, after: Image, most_bytes: int) -> bytes:
    """Returns a JPEG of two images of equal size, (H, W, 3) uint8 BGR each, side by side.

    Raises OutputError if it does not fit into so many bytes.
    """
    return encode_jpeg(np.concatenate([_shrink(before), _shrink(after)], axis=1), most_bytes)


def encode_jpeg(image: Image, most_bytes: int) -> bytes:
    """Returns an image (H, W, 3) uint8 BGR as JPEG of at most so many bytes. Raises OutputError if it does not fit."""
    for quality in QUALITIES:
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if len(encoded) <= most_bytes:
            return encoded.tobytes()
    raise OutputError(f"the thumbnail of {image.shape[1]}x{image.shape[0]} pixels is larger than {most_bytes:,} bytes as a JPEG")


def _shrink(image: Image) -> Image:
    height, width = image.shape[:2]
    scale = min(1, HEIGHT / height, MOST_WIDTH / width)
    return resize_image(image, (max(16, round(width * scale)), max(16, round(height * scale)))) if scale < 1 else image
