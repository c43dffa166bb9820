"""What a domain is, a folder of images as one, and the one way to open any."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from cyclecast.errors import InputError
from cyclecast.training.data.crops import AlignedImages, View
from cyclecast.training.data.digits import DIGIT_SUFFIXES, DigitSet
from cyclecast.training.data.images import Half, list_images


class Domain(Protocol):
    """One set of images that is drawn from."""

    def __len__(self) -> int:
        """How many images it has."""
        ...

    @property
    def skipped(self) -> set[Path]:
        """Files that were met and could not be used."""
        ...

    def draw(self, random: np.random.Generator) -> Tensor:
        """One image, (3, S, S) float32 in [-1, 1], RGB: a function of the generator's state alone."""
        ...

    def first(self, count: int, side: int) -> Tensor:
        """The first `count` readable images, evenly spread over the set, center-cropped: (n, 3, side, side) in [-1, 1]."""
        ...


@dataclass
class ImageFolder:
    """One domain: images drawn at random, resized, cropped and flipped.

    load_size: the shorter side before the crop, drawn evenly from this range (the paper: 286 to 286). crop_size: pixels.
    half: the files are pairs that stand side by side, and this half of each is the domain. A folder whose name ends in
    `_labels`, with classes.csv in it or beside it, holds label maps: they are seen in that table's colors and never blended.
    A file that cannot be used is skipped, named once and counted in `skipped`.
    """

    folder: Path
    load_size: tuple[int, int]
    crop_size: int
    flip: bool = True
    half: Half | None = None

    def __post_init__(self) -> None:
        self.paths = list_images(self.folder)
        rows = [(path,) for path in self.paths]
        views = (View.of(self.folder, self.half),)
        self._images = AlignedImages(str(self.folder), rows, views, self.load_size, self.crop_size, self.flip)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def skipped(self) -> set[Path]:
        """Files that were met and could not be used."""
        return self._images.skipped

    def draw(self, random: np.random.Generator) -> Tensor:
        """One random crop: (3, crop_size, crop_size) float32 in [-1, 1], RGB. InputError once every file has failed."""
        return self._images.draw(random)[0]

    def first(self, count: int, side: int) -> Tensor:
        """The first `count` readable images, evenly spread over the folder, center-cropped: (n, 3, side, side) in [-1, 1]."""
        return self._images.first(count, side)[0]


def open_domain(
    path: Path,
    load_size: tuple[int, int],
    crop_size: int,
    *,
    half: Half | None = None,
    flip: bool = True,
    tight: bool = False,
) -> Domain:
    """A folder as ImageFolder, a file of digits as DigitSet, `crop_size` wide. InputError for anything else.

    load_size, half, flip: of folders alone (see ImageFolder). tight: of digits alone (see DigitSet).
    """
    if path.is_dir():
        return ImageFolder(path, load_size, crop_size, flip, half)
    if path.name.lower().endswith(DIGIT_SUFFIXES):
        return DigitSet(path, crop_size, tight=tight)
    what = "neither a folder of images nor a file of digits" if path.exists() else "no such folder"
    raise InputError(f"{path}: {what}; expected a folder, or a file whose name ends in {', '.join(DIGIT_SUFFIXES)}")


def fixed_set(path: Path, count: int, side: int, half: Half | None = None, tight: bool = False) -> Tensor:
    """`first` of the domain at `path`: (n, 3, side, side) in [-1, 1]."""
    return open_domain(path, (side, side), side, half=half, tight=tight).first(count, side)
