"""Lists, decodes, halves and resizes image files; converts between uint8 and [-1, 1]."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageOps
from torch import Tensor

from cyclecast.errors import InputError, MissingInputError
from cyclecast.image_formats import (
    IMAGE_SUFFIXES,
    PILLOW_FORMATS,
    check_image_size,
    describe_unreadable,
    keep_readable,
    open_with_pillow,
)

log = logging.getLogger(__name__)
MIN_SIDE = 16  # pixels; smaller files are icons, not training images

Half = Literal["left", "right"]


def list_images(folder: Path) -> list[Path]:
    """Lists every image file in `folder` and its subfolders that can be decoded here, sorted; logs how many cannot.

    Raises InputError if the folder is missing or has none.
    """
    if not folder.is_dir():
        raise MissingInputError(f"{folder}: no such folder")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    paths = keep_readable(folder, found)
    if not paths:
        reason = describe_unreadable(found) or f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}"
        raise InputError(f"{folder}: no images in it ({reason})")
    return paths


def has_images(folder: Path) -> bool:
    """Returns whether `folder` or its subfolders hold an image file."""
    return any(path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() for path in folder.rglob("*"))


def decode(path: Path, flags: int) -> NDArray[np.uint8] | None:
    """Decodes a file with OpenCV's IMREAD `flags`; None if it cannot be decoded to uint8.

    Of a GIF, the first frame. GIF, AVIF and HEIC are decoded by Pillow: always three channels, upright.
    """
    try:  # from memory, because OpenCV crashes on file names that are not UTF-8
        data = np.fromfile(path, np.uint8)
        check_image_size(path, data.tobytes())
        if path.suffix.lower() in PILLOW_FORMATS:
            return _decode_with_pillow(path, data.tobytes(), flags)
        image = cv2.imdecode(data, flags)
    except InputError as error:
        log.debug("%s", error)
        return None
    except (cv2.error, OSError):
        return None
    return None if image is None or image.dtype != np.uint8 else np.asarray(image, np.uint8)


def _decode_with_pillow(path: Path, data: bytes, flags: int) -> NDArray[np.uint8] | None:
    image = open_with_pillow(path, data)
    if image is None:
        return None
    pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
    return pixels if flags == cv2.IMREAD_COLOR_RGB else np.ascontiguousarray(pixels[..., ::-1])


def read_image(path: Path) -> NDArray[np.uint8] | None:
    """Reads (H, W, 3) uint8 RGB, rotated to its EXIF orientation; None if it cannot be decoded or is tiny."""
    image = decode(path, cv2.IMREAD_COLOR_RGB)
    return None if image is None or is_tiny(image) else image


def is_tiny(image: NDArray[np.uint8]) -> bool:
    """Returns whether a side is shorter than MIN_SIDE pixels."""
    return bool(min(image.shape[:2]) < MIN_SIDE)


def half_of(image: NDArray[np.uint8], half: Half) -> NDArray[np.uint8]:
    """Returns one of two images side by side: (H, W, ...) -> (H, W // 2, ...); an odd width loses its middle column."""
    width = image.shape[1] // 2
    return image[:, :width] if half == "left" else image[:, image.shape[1] - width :]


def short_side_shape(image: NDArray[np.uint8], side: int) -> tuple[int, int]:
    """Returns (height, width) of the image after its shorter side is resized to `side` pixels."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    return max(side, round(height * scale)), max(side, round(width * scale))


def resize(image: NDArray[np.uint8], shape: tuple[int, int], nearest: bool = False) -> NDArray[np.uint8]:
    """Resizes to `shape` (height, width): area mean to shrink, bicubic to enlarge; nearest creates no new colors."""
    if nearest:
        interpolation = cv2.INTER_NEAREST_EXACT
    else:
        interpolation = cv2.INTER_AREA if min(shape) < min(image.shape[:2]) else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, shape[::-1], interpolation=interpolation), np.uint8)


def resize_short_side(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resizes the shorter side to `side` pixels and keeps the aspect ratio."""
    return resize(image, short_side_shape(image, side))


def spaced_indices(length: int, count: int) -> NDArray[np.int64]:
    """Returns up to `count` of the indices 0 to length - 1, evenly spaced."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(np.int64))


def to_tensor(image: NDArray[np.uint8]) -> Tensor:
    """Converts (H, W, 3) uint8 to (3, H, W) float32 in [-1, 1]."""
    # In NumPy: torch would wake its threads for each small image, which takes many times longer than the arithmetic.
    values = np.divide(np.ascontiguousarray(image.transpose(2, 0, 1)), 127.5, dtype=np.float32)
    values -= 1
    return torch.from_numpy(values)


def to_bytes(images: Tensor) -> Tensor:
    """Converts (N, 3, H, W) float in [-1, 1] to uint8, on the CPU."""
    return images.detach().clamp(-1, 1).add(1).mul(127.5).round().byte().cpu()
