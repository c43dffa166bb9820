"""Aligned image files: the files of a row show one scene, and are resized, cropped and flipped alike."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyclecast.errors import ConfigError, InputError
from cyclecast.training.data.images import (
    MIN_SIDE,
    Half,
    half_of,
    is_tiny,
    read_image,
    resize,
    short_side_shape,
    spaced_indices,
    to_tensor,
)
from cyclecast.training.data.labels import Palette, find_palette, read_labels

log = logging.getLogger(__name__)
CENTER = 0.4999  # just under a half: an odd remainder rounds down


@dataclass(frozen=True)
class Crop:
    """A square of `side` pixels from an image whose shorter side is first resized to `load` pixels."""

    load: int
    side: int
    top: float = CENTER
    """Position of the square's top in its range, in [0, 1): 0 is the top of the image."""
    left: float = CENTER
    flip: bool = False

    def __call__(self, image: NDArray[np.uint8], shape: tuple[int, int], nearest: bool = False) -> NDArray[np.uint8]:
        """Resizes (H, W, 3) to `shape` (height, width) and crops it to (side, side, 3). nearest: creates no new colors."""
        image = resize(image, shape, nearest)
        top, left = int(self.top * (shape[0] - self.side + 1)), int(self.left * (shape[1] - self.side + 1))
        image = image[top : top + self.side, left : left + self.side]
        return image[:, ::-1] if self.flip else image


@dataclass(frozen=True)
class View:
    """How a file is read: all of it or one half; label maps in the colors of their palette."""

    half: Half | None = None
    palette: Palette | None = None

    @classmethod
    def for_folder(cls, folder: Path, half: Half | None) -> View:
        """Returns the view of the files of `folder`. Raises InputError if its table of classes is malformed."""
        return cls(half, find_palette(folder))

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Reads (H, W, 3) uint8 RGB. Raises InputError, which names the file, if it is unusable."""
        image = read_labels(path, self.palette) if self.palette else read_image(path)
        if image is not None and self.half:
            image = half_of(image, self.half)
        if image is None or is_tiny(image):
            subject = f"its {self.half} half" if self.half else "it"
            raise InputError(f"{path}: cannot be decoded, or {subject} is smaller than {MIN_SIDE}x{MIN_SIDE} pixels")
        return image


@dataclass
class AlignedImages:
    """Rows of files that are drawn and cropped alike; column i is read through `views[i]`.

    load_size: range of the shorter side before the crop, drawn uniformly; None: images keep their size, and only those that are
    smaller than a crop are enlarged. crop_size: pixels. name: how errors refer to the rows.
    If a file cannot be used, its row is skipped; the file is logged once and counted in `skipped`.
    """

    name: str
    rows: Sequence[tuple[Path, ...]]
    views: tuple[View, ...]
    load_size: tuple[int, int] | None
    crop_size: int
    flip: bool = True
    skipped: set[Path] = field(default_factory=set, init=False)
    _unusable: set[int] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        low, high = self.load_size or (self.crop_size, self.crop_size)
        if not self.crop_size <= low <= high:
            raise ConfigError(f"load_size must be a rising range from crop_size ({self.crop_size}) up, got {low} to {high}")

    def draw(self, random: np.random.Generator) -> tuple[Tensor, ...]:
        """Draws a random crop of a random row: (3, crop_size, crop_size) float32 in [-1, 1] per column.

        Raises InputError if no row is readable.
        """
        while len(self._unusable) < len(self.rows):
            images = self._read(int(random.integers(len(self.rows))))
            if images:
                low, high = self.load_size or (max(self.crop_size, min(images[0].shape[:2])),) * 2
                load = int(random.integers(low, high + 1))
                top, left, coin = random.random(3).tolist()
                return self._crop(images, Crop(load, self.crop_size, top, left, self.flip and coin < 0.5))
        raise self._no_rows_error()

    def first(self, count: int, side: int) -> tuple[Tensor, ...]:
        """Returns up to `count` readable rows, evenly spaced, center-cropped: (n, 3, side, side) in [-1, 1] per column."""
        out: list[tuple[Tensor, ...]] = []
        chosen = spaced_indices(len(self.rows), count).tolist()
        others = (index for index in range(len(self.rows)) if index not in set(chosen))  # to replace rows that cannot be read
        for index in (*chosen, *others):
            images = self._read(index) if len(out) < count else None
            if images:
                out.append(self._crop(images, Crop(side, side)))
        if not out:
            raise self._no_rows_error()
        return tuple(torch.stack(column) for column in zip(*out, strict=True))

    def skip(self, path: Path, reason: str) -> None:
        """Counts a file as skipped and logs it, once."""
        if path not in self.skipped:
            self.skipped.add(path)
            log.warning("skipped %s", reason)

    def _read(self, index: int) -> list[NDArray[np.uint8]] | None:
        images: list[NDArray[np.uint8]] = []
        for path, view in zip(() if index in self._unusable else self.rows[index], self.views, strict=False):
            try:
                images.append(view.read(path))
            except InputError as error:
                self._unusable.add(index)
                self.skip(path, str(error))
                return None
        return images

    def _crop(self, images: list[NDArray[np.uint8]], crop: Crop) -> tuple[Tensor, ...]:
        shape = short_side_shape(images[0], crop.load)
        return tuple(
            to_tensor(crop(image, shape, view.palette is not None)) for image, view in zip(images, self.views, strict=True)
        )

    def _no_rows_error(self) -> InputError:
        unit = "image files" if len(self.views) == 1 else "pairs"
        return InputError(f"{self.name}: none of its {len(self.rows)} {unit} can be read (see the warnings for the reasons)")
