"""Domains: the protocol, a folder of images, and `open_domain` for every type."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from cyclecast.errors import InputError
from cyclecast.training.data.crops import AlignedImages, View
from cyclecast.training.data.digits import DIGIT_SUFFIXES, DigitSet, find_digits
from cyclecast.training.data.images import Half, list_images


class Domain(Protocol):
    """A set of images to draw from."""

    def __len__(self) -> int:
        """Returns the number of images."""
        ...

    @property
    def skipped(self) -> set[Path]:
        """Files that could not be used so far."""
        ...

    def draw(self, random: np.random.Generator) -> Tensor:
        """Draws one image, (3, S, S) float32 in [-1, 1], RGB; it depends on the generator's state alone."""
        ...

    def first(self, count: int, side: int) -> Tensor:
        """Returns up to `count` readable images, evenly spaced over the set, center-cropped: (n, 3, side, side) in [-1, 1]."""
        ...


@dataclass
class ImageFolder:
    """A folder of images that are drawn at random, resized, cropped and flipped.

    load_size: range of the shorter side before the crop, drawn uniformly (the paper: 286 to 286); None: images keep their size.
    crop_size: pixels. half: each file holds a pair side by side, and this half is used. A folder whose name ends in `_labels`,
    with classes.csv in it or in its parent, holds label maps: they are shown in that table's colors, which are never blended. A
    file that cannot be used is skipped, logged once and counted in `skipped`.
    """

    folder: Path
    load_size: tuple[int, int] | None
    crop_size: int
    flip: bool = True
    half: Half | None = None

    def __post_init__(self) -> None:
        self.paths = list_images(self.folder)
        rows = [(path,) for path in self.paths]
        views = (View.for_folder(self.folder, self.half),)
        self._images = AlignedImages(str(self.folder), rows, views, self.load_size, self.crop_size, self.flip)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def skipped(self) -> set[Path]:
        """Files that could not be used so far."""
        return self._images.skipped

    def draw(self, random: np.random.Generator) -> Tensor:
        """Returns a random crop: (3, crop_size, crop_size) float32 in [-1, 1], RGB. Raises InputError if no file is usable."""
        return self._images.draw(random)[0]

    def first(self, count: int, side: int) -> Tensor:
        """Returns up to `count` readable images, evenly spaced over the folder, center-cropped: (n, 3, side, side) in [-1, 1]."""
        return self._images.first(count, side)[0]


def open_domain(
    path: Path,
    load_size: tuple[int, int] | None,
    crop_size: int,
    *,
    half: Half | None = None,
    flip: bool = True,
    tight: bool = False,
) -> Domain:
    """Opens a folder as ImageFolder, a file of digits or a folder that holds one as DigitSet of `crop_size` pixels.

    Raises InputError for anything else.

    load_size, half and flip apply to folders (see ImageFolder), tight to digits (see DigitSet).
    """
    path = find_digits(path)
    if path.is_dir():
        return ImageFolder(path, load_size, crop_size, flip, half)
    if path.name.lower().endswith(DIGIT_SUFFIXES):
        return DigitSet(path, crop_size, tight=tight)
    found = "neither a folder of images nor a file of digits" if path.exists() else "no such folder"
    raise InputError(f"{path}: {found}; expected a folder, or a file whose name ends in {', '.join(DIGIT_SUFFIXES)}")


def fixed_set(path: Path, count: int, side: int, half: Half | None = None, tight: bool = False) -> Tensor:
    """Reads the images that are sampled throughout training, `first` of the domain at `path`: (n, 3, side, side) in [-1, 1]."""
    return open_domain(path, (side, side), side, half=half, tight=tight).first(count, side)
