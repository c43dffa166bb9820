"""Draws the thumbnail of a style: a frame before and after, side by side, as a small JPEG."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cyclecast.errors import OutputError
from cyclecast.video.frame import Image
from cyclecast.video.resize import resize_image

HEIGHT = 270  # pixels
MOST_WIDTH = 960  # pixels
QUALITIES = (88, 75, 60, 45, 30, 15)  # of JPEG, the first that is small enough


def encode_thumbnail(images: Sequence[Image], most_bytes: int) -> bytes:
    """Returns a JPEG of one image, or of two of equal size side by side: (H, W, 3) uint8 BGR each.

    Raises OutputError if it does not fit into so many bytes.
    """
    image = np.concatenate([_shrink(image, MOST_WIDTH // len(images)) for image in images], axis=1)
    for quality in QUALITIES:
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if len(encoded) <= most_bytes:
            return encoded.tobytes()
    raise OutputError(f"a thumbnail of {image.shape[1]}x{image.shape[0]} pixels is larger than {most_bytes:,} bytes as a JPEG")


def _shrink(image: Image, most_width: int) -> Image:
    height, width = image.shape[:2]
    scale = min(1, HEIGHT / height, most_width / width)
    return resize_image(image, (max(16, round(width * scale)), max(16, round(height * scale)))) if scale < 1 else image
