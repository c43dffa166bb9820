"""Image files in and out: upright as their EXIF says, (H, W, 3) uint8 BGR."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from cyclecast.errors import InputError, OutputError
from cyclecast.video.frame import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
QUALITY = {
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 95],
}


def read_image(path: Path) -> Image:
    """The picture as (H, W, 3) uint8 BGR, upright. InputError if it is missing or cannot be decoded."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:  # decoded from memory: OpenCV dies on file names that are not UTF-8
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, OSError) as error:
        raise InputError(f"{path}: cannot be read as an image") from error
    if image is None:
        raise InputError(f"{path}: cannot be read as an image")
    return np.asarray(image, np.uint8)


def write_image(path: Path, image: Image) -> None:
    """Encodes by the suffix, at quality 95 where there is a choice. OutputError if it cannot be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"no image format of that name; there are: {', '.join(sorted(SUFFIXES))}")
    try:
        encoded, data = cv2.imencode(path.suffix.lower(), image, QUALITY.get(path.suffix.lower(), []))
    except cv2.error as error:
        raise OutputError(f"an image of {image.shape[1]}x{image.shape[0]} cannot be encoded") from error
    if not encoded:
        raise OutputError("cannot be encoded")
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror})") from error
