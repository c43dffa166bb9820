"""Label maps: images of class indices, shown in the colors of a table beside them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cyclecast.errors import InputError, MissingInputError
from cyclecast.training.data.images import decode

TABLE = "classes.csv"
COLUMNS = ("index", "name", "r", "g", "b")


@dataclass(frozen=True, eq=False)
class Palette:
    """The classes of label maps; index i has the name `names[i]` and the color `colors[i]`."""

    names: tuple[str, ...]
    colors: NDArray[np.uint8]
    """(K, 3) uint8 RGB."""

    def __len__(self) -> int:
        return len(self.names)


def read_palette(path: Path) -> Palette:
    """Reads a CSV file with the columns index, name, r, g, b; indices are 0 to K - 1 in any order, K at most 256.

    Raises InputError, naming the line, for anything else.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [_row(path, reader.line_num, row) for row in reader]
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from error
    rows.sort()
    if not rows or [index for index, _, _ in rows] != list(range(len(rows))) or len(rows) > 256:
        got = ", ".join(str(index) for index, _, _ in rows[:8]) or "none"
        raise InputError(f"{path}: indices must be 0, 1, 2 and so on to at most 255, each once; got {got}")
    return Palette(tuple(name for _, name, _ in rows), np.array([color for _, _, color in rows], np.uint8))


def _row(path: Path, line: int, row: dict[str, str | None]) -> tuple[int, str, tuple[int, ...]]:
    try:
        index, *color = (int(row[column] or "") for column in ("index", "r", "g", "b"))
        name = (row["name"] or "").strip()
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path}, line {line}: expected the columns {','.join(COLUMNS)}, whole numbers except for the name"
        ) from error
    if not all(0 <= value <= 255 for value in color):
        raise InputError(f"{path}, line {line}: r, g and b must be 0 to 255, got {color}")
    return index, name, tuple(color)


def find_palette(folder: Path) -> Palette | None:
    """Reads the table of a folder of label maps or of its parent; None without one, or if the name does not end in `_labels`."""
    folder = folder.absolute()
    if not folder.name.endswith("_labels"):
        return None
    tables = [path for path in (folder / TABLE, folder.parent / TABLE) if path.is_file()]
    return read_palette(tables[0]) if tables else None


def read_labels(path: Path, palette: Palette) -> NDArray[np.uint8] | None:
    """Reads a single-channel image of class indices and colors it: (H, W, 3) uint8 RGB; None if it cannot be decoded.

    Raises InputError if it has more channels, or an index outside the palette.
    """
    indices = decode(path, cv2.IMREAD_UNCHANGED)
    if indices is None:
        return None
    if indices.ndim != 2:
        raise InputError(f"{path}: a label map must have one channel of class indices, got {indices.shape[2]} channels")
    try:
        return colorize(indices, palette)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def colorize(indices: NDArray[np.uint8], palette: Palette) -> NDArray[np.uint8]:
    """Converts (H, W) uint8 class indices to (H, W, 3) uint8 RGB. Raises InputError for an index outside the palette."""
    if indices.size and int(indices.max()) >= len(palette):
        raise InputError(f"class index {int(indices.max())} is outside the table, expected 0 to {len(palette) - 1}")
    return palette.colors[indices]


def nearest_class(image: NDArray[np.uint8], palette: Palette) -> NDArray[np.uint8]:
    """Returns the class whose color is nearest (Euclidean), the first in a tie: (H, W, 3) uint8 RGB -> (H, W) uint8."""
    pixels = image.astype(np.int32)
    best = np.full(image.shape[:-1], np.iinfo(np.int32).max, np.int32)
    indices = np.zeros(image.shape[:-1], np.uint8)
    for index, color in enumerate(palette.colors.astype(np.int32)):
        distance = np.square(pixels - color).sum(axis=-1, dtype=np.int32)
        closer = distance < best
        best[closer], indices[closer] = distance[closer], index
    return indices
