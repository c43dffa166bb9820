"""Writes a sheet with one frame and the outputs of several models for it, with their names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

import cyclecast
from cyclecast.errors import OutputError
from cyclecast.files import atomic_write, check_output
from cyclecast.image_formats import FORMATS
from cyclecast.video.files.images import SUFFIXES, read_image, write_image
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.frame import Image
from cyclecast.video.resize import resize_image

MAX_SHORT_SIDE = 720  # pixels of the frame's shorter side: the size that the bundled models are trained for
CELL = 960  # pixels, the longer side of a frame in the sheet, at most
CAPTION = 40  # pixels, the height of a caption


def write_contact_sheet(
    source: Path, output: Path, models: Sequence[str], overwrite: bool = False, threads: int | None = None
) -> None:
    """Writes an image, or the first frame of a video, and the output of each model for it to one image file.

    models: names or paths. threads: as in `cyclecast.load`. Raises InputError if the source cannot be read, OutputError if the
    sheet exists (unless `overwrite`) or cannot be written.
    """
    check_output(output, overwrite)
    if output.suffix.lower() not in FORMATS:
        raise OutputError(f"{output}: no image format of that name; there are: {', '.join(sorted(FORMATS))}")
    frame = read_first_frame(source)
    height, width = frame.shape[:2]
    frame = _shrink(frame, MAX_SHORT_SIDE / min(height, width))
    cells = [add_caption(_cell(frame), "source")]
    for name in models:
        with cyclecast.load(name, threads=threads) as model:
            cells.append(add_caption(_cell(model(frame)), name))
    with atomic_write(output, overwrite) as partial:
        write_image(partial, arrange(cells))


def read_first_frame(path: Path) -> Image:
    """Reads (H, W, 3) uint8 BGR. Raises InputError if the file is missing, or neither an image nor a video."""
    if path.suffix.lower() in SUFFIXES:
        return read_image(path)
    with VideoFile(path) as video:
        return next(iter(video)).image


def add_caption(image: Image, text: str) -> Image:
    """Adds the text on white above the image: (H, W, 3) -> (CAPTION + H, W, 3)."""
    bar = np.full((CAPTION, image.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, text, (8, CAPTION - 12), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (40, 40, 40), 2, cv2.LINE_AA)
    return np.concatenate([bar, image])


def arrange(cells: Sequence[Image]) -> Image:
    """Arranges images of one size in a grid of nearly as many rows as columns; white fills the last row."""
    columns = math.ceil(math.sqrt(len(cells)))
    filled = [*cells, *[np.full_like(cells[0], 255)] * (-len(cells) % columns)]
    rows = [np.concatenate(filled[start : start + columns], axis=1) for start in range(0, len(filled), columns)]
    return np.concatenate(rows)


def _cell(image: Image) -> Image:
    return _shrink(image, CELL / max(image.shape[:2]))


def _shrink(image: Image, scale: float) -> Image:
    """Scales the image if that makes it smaller; no side becomes shorter than 16 pixels."""
    height, width = image.shape[:2]
    return resize_image(image, (max(16, round(width * scale)), max(16, round(height * scale)))) if scale < 1 else image
