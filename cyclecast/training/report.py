"""Pictures of a run: sheets of the fixed set, and one sheet of it through time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cyclecast.training.data import to_bytes

MOST_ROWS = 9  # of the sheet through time: the first, the last and evenly between


def _strip(images: Tensor) -> NDArray[np.uint8]:
    """(n, 3, S, S) in [-1, 1], RGB -> (S, n * S, 3) uint8 BGR."""
    row = to_bytes(images).permute(0, 2, 3, 1).numpy()
    return np.ascontiguousarray(np.concatenate(list(row), axis=1)[..., ::-1])


def write_sheets(folder: Path, step: int, direction: str, originals: Tensor, translated: Tensor) -> None:
    """Saves this step's translations and redraws `folder/DIRECTION.jpg`: originals on top, then the fixed set through time."""
    samples = folder / "samples"
    samples.mkdir(exist_ok=True)
    cv2.imwrite(str(samples / f"{direction}-{step:07d}.png"), _strip(translated))
    taken = sorted(samples.glob(f"{direction}-*.png"))
    chosen = np.unique(np.linspace(0, len(taken) - 1, min(MOST_ROWS, len(taken))).round().astype(int))
    rows = [_labelled(_strip(originals), "original")]
    for index in chosen:
        row = cv2.imread(str(taken[index]))
        if row is not None and row.shape == rows[0].shape:
            rows.append(_labelled(np.asarray(row, np.uint8), f"step {int(taken[index].stem.split('-')[1])}"))
    cv2.imwrite(str(folder / f"{direction}.jpg"), np.concatenate(rows), [cv2.IMWRITE_JPEG_QUALITY, 92])


def _labelled(row: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    row = row.copy()
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(row, text, (6, row.shape[0] - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thickness, cv2.LINE_AA)
    return row
