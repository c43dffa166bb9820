"""Image files that show the same place: each row of them is resized, cropped and flipped as one."""

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
    SMALLEST_SIDE,
    Half,
    half_of,
    is_tiny,
    read_image,
    resize,
    short_side_shape,
    spread,
    to_tensor,
)
from cyclecast.training.data.labels import Palette, palette_of, read_labels

log = logging.getLogger(__name__)
CENTER = 0.4999  # an odd remainder rounds down


@dataclass(frozen=True)
class Crop:
    """A square, `side` pixels wide, of an image whose shorter side is first made `load` pixels."""

    load: int
    side: int
    top: float = CENTER
    """Where in its range the square's top lies: 0 is the image's top, just under 1 is as low as it goes."""
    left: float = CENTER
    flip: bool = False

    def __call__(self, image: NDArray[np.uint8], shape: tuple[int, int], nearest: bool = False) -> NDArray[np.uint8]:
        """(H, W, 3) -> (side, side, 3), by way of `shape` (height, width). `nearest`: resized without new colors."""
        image = resize(image, shape, nearest)
        top, left = int(self.top * (shape[0] - self.side + 1)), int(self.left * (shape[1] - self.side + 1))
        image = image[top : top + self.side, left : left + self.side]
        return image[:, ::-1] if self.flip else image


@dataclass(frozen=True)
class View:
    """What of a file is an image: all of it or one half; label maps are seen in their palette's colors."""

    half: Half | None = None
    palette: Palette | None = None

    @classmethod
    def of(cls, folder: Path, half: Half | None) -> View:
        """How the files of `folder` are read. InputError if its table of classes is malformed."""
        return cls(half, palette_of(folder))

    def read(self, path: Path) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB. InputError, naming the file, if it is unusable."""
        image = read_labels(path, self.palette) if self.palette else read_image(path)
        if image is not None and self.half:
            image = half_of(image, self.half)
        if image is None or is_tiny(image):
            what = f"its {self.half} half" if self.half else "it"
            raise InputError(f"{path}: unreadable, or {what} is smaller than {SMALLEST_SIDE} pixels")
        return image


@dataclass
class AlignedImages:
    """Rows of files that are drawn and cropped alike; column i is seen through `views[i]`.

    load_size: the shorter side before the crop, drawn evenly from this range. crop_size: pixels. `name`: what errors call it.
    A file that cannot be used takes its row with it: it is skipped, named once and counted in `skipped`.
    """

    name: str
    rows: Sequence[tuple[Path, ...]]
    views: tuple[View, ...]
    load_size: tuple[int, int]
    crop_size: int
    flip: bool = True
    skipped: set[Path] = field(default_factory=set, init=False)
    _lost: set[int] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        low, high = self.load_size
        if not self.crop_size <= low <= high:
            raise ConfigError(f"load_size {low} to {high}: must rise, and from crop_size, {self.crop_size}, up")

    def draw(self, random: np.random.Generator) -> tuple[Tensor, ...]:
        """One crop of a row: (3, crop_size, crop_size) float32 in [-1, 1] a column. InputError once every row has failed."""
        while len(self._lost) < len(self.rows):
            images = self._read(int(random.integers(len(self.rows))))
            if images:
                load = int(random.integers(self.load_size[0], self.load_size[1] + 1))
                top, left, turn = random.random(3).tolist()
                return self._cut(images, Crop(load, self.crop_size, top, left, self.flip and turn < 0.5))
        raise self._none_left()

    def first(self, count: int, side: int) -> tuple[Tensor, ...]:
        """The first `count` readable rows, evenly spread, center-cropped: (n, 3, side, side) in [-1, 1] a column."""
        out: list[tuple[Tensor, ...]] = []
        chosen = spread(len(self.rows), count).tolist()
        others = (index for index in range(len(self.rows)) if index not in set(chosen))  # in place of what cannot be read
        for index in (*chosen, *others):
            images = self._read(index) if len(out) < count else None
            if images:
                out.append(self._cut(images, Crop(side, side)))
        if not out:
            raise self._none_left()
        return tuple(torch.stack(column) for column in zip(*out, strict=True))

    def skip(self, path: Path, reason: str) -> None:
        """Count a file that is not used, and name it in the log; once."""
        if path not in self.skipped:
            self.skipped.add(path)
            log.warning("skipped %s", reason)

    def _read(self, index: int) -> list[NDArray[np.uint8]] | None:
        images: list[NDArray[np.uint8]] = []
        for path, view in zip(() if index in self._lost else self.rows[index], self.views, strict=False):
            try:
                images.append(view.read(path))
            except InputError as error:
                self._lost.add(index)
                self.skip(path, str(error))
                return None
        return images

    def _cut(self, images: list[NDArray[np.uint8]], crop: Crop) -> tuple[Tensor, ...]:
        shape = short_side_shape(images[0], crop.load)
        return tuple(
            to_tensor(crop(image, shape, view.palette is not None)) for image, view in zip(images, self.views, strict=True)
        )

    def _none_left(self) -> InputError:
        what = "image files" if len(self.views) == 1 else "pairs"
        return InputError(f"{self.name}: none of its {len(self.rows)} {what} can be read")
