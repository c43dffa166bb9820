"""Cuts pairs of images into tiles, in folders that the recipe `supervised` learns from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cyclecast.files import atomic_write
from cyclecast.style.looks import Pairs
from cyclecast.style.stills import read_opaque
from cyclecast.video.files.images import write_image
from cyclecast.video.frame import Image

SIDE = 256  # pixels of a tile: it is decoded in a few milliseconds, and crops from it differ enough
MOST_TILES = 2000
HELD_OUT = 20  # one pair of this many is held out of training; the figures are measured on these

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class PairFolders:
    """The folders `before` and `after` to learn from, and the same two for the pairs that are held out.

    total: the number of pairs. Each image is cut into tiles; if there are many, a random selection of them is kept.
    """

    folder: Path
    total: int = 0

    @property
    def before(self) -> Path:
        return self.folder / "before"

    @property
    def after(self) -> Path:
        return self.folder / "after"

    @property
    def held_out(self) -> PairFolders:
        """Returns the folders of the pairs that are held out of training."""
        return PairFolders(self.folder / "held-out")

    def has_pair(self, number: int) -> bool:
        """Returns whether all tiles of pair `number` exist."""
        return (self._target(number).after / f"{number:06d}-last.png").is_file()

    def are_complete(self) -> bool:
        """Returns whether all pairs exist, and at least one."""
        return self.total > 0 and all(map(self.has_pair, range(self.total)))

    def write(self, number: int, before: Image, after: Image) -> None:
        """Writes the tiles of a pair, two (H, W, 3) uint8 BGR images of one size. The last tile marks the pair as complete."""
        target, places = self._target(number), tile_places(before.shape[0], before.shape[1])
        most = max(1, MOST_TILES // max(1, self.total))
        if len(places) > most:
            chosen = np.random.default_rng(number).choice(len(places), most, replace=False)
            places = [places[index] for index in sorted(chosen)]
        for index, (top, left) in enumerate(places):
            name = f"{number:06d}-{'last' if index == len(places) - 1 else index}.png"
            for folder, image in ((target.before, before), (target.after, after)):
                with atomic_write(folder / name, overwrite=True) as partial:
                    write_image(partial, np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE]))

    def _target(self, number: int) -> PairFolders:
        is_held_out = self.total > HELD_OUT and number % HELD_OUT == HELD_OUT - 1
        return self.held_out if is_held_out else self


def write_pairs(pairs: Pairs, folders: PairFolders, on_progress: OnProgress) -> None:
    """Writes the tiles of the user's pairs that are missing. Transparent parts of an image after show the image before."""
    for number, (before, after) in enumerate(pairs.rows):
        if not folders.has_pair(number):
            source = read_opaque(before)
            folders.write(number, source, read_opaque(after, source))
        on_progress(number + 1, len(pairs.rows))


def tile_places(height: int, width: int) -> list[tuple[int, int]]:
    """Returns (top, left) of the tiles of SIDE pixels that cover an image and overlap a little."""
    return [(top, left) for top in _starts(height) for left in _starts(width)]


def _starts(side: int) -> list[int]:
    if side <= SIDE:
        return [0]
    overlap = SIDE // 8
    count = -(-(side - overlap) // (SIDE - overlap))
    return [int(start) for start in np.linspace(0, side - SIDE, count).round()]
