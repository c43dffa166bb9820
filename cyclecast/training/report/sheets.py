"""Sample sheets: what the generators made of the fixed set at several steps, row by row."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cyclecast.files import write_error
from cyclecast.training.data import to_bytes

MOST_ROWS = 9  # of the sheet through time: the first, the last and evenly between
MARGIN = 84  # pixels for captions
SMALLEST = 64  # pixels: smaller pictures are enlarged, pixel by pixel


def strip(images: Tensor) -> NDArray[np.uint8]:
    """(n, 3, S, S) in [-1, 1], RGB -> (S', n * S', 3) uint8 BGR in a row; S' at least SMALLEST."""
    return tile(images, len(images))


def tile(images: Tensor, columns: int) -> NDArray[np.uint8]:
    """(n, 3, H, W) in [-1, 1], RGB -> one uint8 BGR picture of them, row by row, the last row filled up with white."""
    pictures = to_bytes(images).permute(0, 2, 3, 1).numpy()
    times = -(-SMALLEST // pictures.shape[1])
    pictures = pictures.repeat(times, axis=1).repeat(times, axis=2)
    missing = -len(pictures) % columns
    pictures = np.concatenate([pictures, np.full((missing, *pictures.shape[1:]), 255, np.uint8)])
    rows = [np.concatenate(list(pictures[i : i + columns]), axis=1) for i in range(0, len(pictures), columns)]
    return np.ascontiguousarray(np.concatenate(rows)[..., ::-1])


def labelled(row: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """(H, W, 3) -> (H, MARGIN + W, 3): the picture with a caption to its left."""
    margin = np.full((row.shape[0], MARGIN, 3), 255, np.uint8)
    place = (4, row.shape[0] // 2 + 5)
    cv2.putText(margin, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (60, 60, 60), 1, cv2.LINE_AA)
    return np.concatenate([margin, row], axis=1)


def write_sheet(folder: Path, step: int, name: str, originals: Tensor | None, made: Tensor) -> None:
    """Saves this step's pictures and redraws `folder/NAME.jpg`: originals, where there are any, and what came of them since.

    originals, made: (n, 3, S, S) in [-1, 1].
    """
    samples = folder / "samples"
    try:
        samples.mkdir(exist_ok=True)
    except OSError as error:
        raise write_error(error, samples) from error
    _write(samples / f"{name}-{step:07d}.png", strip(made))
    rows = [] if originals is None else [labelled(strip(originals), "original")]
    width = strip(made).shape[1]
    for at, picture in through_time(folder, name):
        if picture.shape[1] == width:
            rows.append(labelled(picture, f"step {at}"))
    _write(folder / f"{name}.jpg", np.concatenate(rows))


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    encoded = cv2.imencode(path.suffix, picture, [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix == ".jpg" else [])[1]
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise write_error(error, path) from error


def through_time(folder: Path, name: str, most: int = MOST_ROWS) -> list[tuple[int, NDArray[np.uint8]]]:
    """(step, strip) of the saved samples of `name`: the first, the last and evenly between."""
    taken = sorted(path for path in (folder / "samples").glob(f"{name}-*.png") if path.stem.rpartition("-")[2].isdecimal())
    chosen = np.unique(np.linspace(0, len(taken) - 1, min(most, len(taken))).round().astype(int))
    pictures = [(int(taken[i].stem.rsplit("-", 1)[1]), cv2.imread(str(taken[i]))) for i in chosen]
    return [(step, np.asarray(picture, np.uint8)) for step, picture in pictures if picture is not None]
