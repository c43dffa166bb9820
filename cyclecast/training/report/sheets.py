"""Sample sheets: the generators' outputs for the fixed set, one row per step."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cyclecast.files import write_error
from cyclecast.own_files import create_own_folder, own_opener
from cyclecast.training.data import to_bytes
from cyclecast.training.data.images import spaced_indices

MOST_ROWS = 9  # of a sample sheet: the first and last saved steps and evenly spaced ones between
MARGIN = 84  # pixels for captions
SMALLEST = 64  # pixels: smaller images are enlarged by repeating pixels


def strip(images: Tensor) -> NDArray[np.uint8]:
    """Puts images in a row: (n, 3, S, S) in [-1, 1], RGB -> (S', n * S', 3) uint8 BGR; S' is at least SMALLEST."""
    return tile(images, len(images))


def tile(images: Tensor, columns: int) -> NDArray[np.uint8]:
    """Arranges (n, 3, H, W) in [-1, 1], RGB, row by row in a uint8 BGR grid; the last row is filled up with white."""
    pixels = to_bytes(images).permute(0, 2, 3, 1).numpy()
    factor = -(-SMALLEST // pixels.shape[1])
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    missing = -len(pixels) % columns
    pixels = np.concatenate([pixels, np.full((missing, *pixels.shape[1:]), 255, np.uint8)])
    rows = [np.concatenate(list(pixels[i : i + columns]), axis=1) for i in range(0, len(pixels), columns)]
    return np.ascontiguousarray(np.concatenate(rows)[..., ::-1])


def add_caption(row: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """Adds a caption to the left of an image: (H, W, 3) -> (H, MARGIN + W, 3)."""
    margin = np.full((row.shape[0], MARGIN, 3), 255, np.uint8)
    place = (4, row.shape[0] // 2 + 5)
    cv2.putText(margin, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (60, 60, 60), 1, cv2.LINE_AA)
    return np.concatenate([margin, row], axis=1)


def write_sheet(folder: Path, step: int, name: str, originals: Tensor | None, outputs: Tensor) -> None:
    """Saves this step's images and redraws `folder/NAME.jpg`: the originals, if any, above the outputs of several steps.

    originals, outputs: (n, 3, S, S) in [-1, 1].
    """
    samples = folder / "samples"
    try:
        create_own_folder(samples)
    except OSError as error:
        raise write_error(error, samples) from error
    _write(samples / f"{name}-{step:07d}.png", strip(outputs))
    rows = [] if originals is None else [add_caption(strip(originals), "original")]
    width = strip(outputs).shape[1]
    for at, image in load_strips(folder, name):
        if image.shape[1] == width:
            rows.append(add_caption(image, f"step {at}"))
    _write(folder / f"{name}.jpg", np.concatenate(rows))


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    encoded = cv2.imencode(path.suffix, image, [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix == ".jpg" else [])[1]
    try:
        with open(path, "wb", opener=own_opener) as file:
            file.write(encoded.tobytes())
    except OSError as error:
        raise write_error(error, path) from error


def load_strips(folder: Path, name: str, most: int = MOST_ROWS) -> list[tuple[int, NDArray[np.uint8]]]:
    """Loads (step, strip) of at most `most` saved samples of `name`: the first, the last and evenly spaced ones between."""
    paths = sorted(path for path in (folder / "samples").glob(f"{name}-*.png") if path.stem.rpartition("-")[2].isdecimal())
    chosen = [paths[index] for index in spaced_indices(len(paths), most)]
    strips = [(int(path.stem.rpartition("-")[2]), cv2.imread(str(path))) for path in chosen]
    return [(step, np.asarray(image, np.uint8)) for step, image in strips if image is not None]
