"""The pairs of crops that the recipe `supervised` learns from, in folders; cut from pairs that exist already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cyclecast.errors import InputError
from cyclecast.files import atomic_write
from cyclecast.style.looks import Pairs
from cyclecast.video.files.images import read_image, write_image
from cyclecast.video.frame import Image

SIDE = 256  # pixels of a crop
MOST_TILES = 1500
HELD_OUT = 20  # every so many-th pair is not learned from: the figures come from these

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class CropFolders:
    """The folders of pairs: `before` and `after` to learn from, and the same two with pairs that are held out."""

    folder: Path

    @property
    def before(self) -> Path:
        return self.folder / "before"

    @property
    def after(self) -> Path:
        return self.folder / "after"

    @property
    def held_out(self) -> CropFolders:
        """The pairs that are not learned from."""
        return CropFolders(self.folder / "held-out")

    def has(self, number: int, total: int) -> bool:
        """Whether pair `number` of `total` is complete."""
        return self._target(number, total)[1].is_file()

    def is_complete(self, total: int) -> bool:
        """Whether all pairs are there."""
        return all(self.has(number, total) for number in range(total))

    def write(self, number: int, total: int, before: Image, after: Image) -> None:
        """Writes a pair, `after` last: a pair that has it is complete."""
        for path, image in zip(self._target(number, total), (before, after), strict=True):
            with atomic_write(path, overwrite=True) as partial:
                write_image(partial, image)

    def _target(self, number: int, total: int) -> tuple[Path, Path]:
        is_held_out = total > HELD_OUT and number % HELD_OUT == HELD_OUT - 1
        folders = self.held_out if is_held_out else self
        return folders.before / f"{number:06d}.png", folders.after / f"{number:06d}.png"


def write_tiles(pairs: Pairs, folders: CropFolders, on_progress: OnProgress) -> int:
    """Cuts pairs into tiles of SIDE pixels that overlap a little, and returns their number; of many, an even selection.

    Small images stay whole. InputError if a pair has become unreadable.
    """
    wanted = [(row, place) for row in pairs.rows for place in _places(row[0])]
    if len(wanted) > MOST_TILES:
        wanted = [wanted[i] for i in np.unique(np.linspace(0, len(wanted) - 1, MOST_TILES).round().astype(int))]
    images: tuple[Path | None, Image | None, Image | None] = (None, None, None)
    total = 0 if pairs.are_keyframes else len(wanted)  # of keyframes, every area is needed
    for number, ((before, after), (top, left)) in enumerate(wanted):
        if images[0] != before:
            images = before, read_image(before), read_image(after)
        assert images[1] is not None and images[2] is not None
        tiles = (np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE]) for image in images[1:])  # type: ignore[index]
        folders.write(number, total, *tiles)
        on_progress(number + 1, len(wanted))
    return len(wanted)


def _places(path: Path) -> Iterator[tuple[int, int]]:
    """(top, left) of the tiles that cover an image."""
    image = read_image(path)
    if image is None:
        raise InputError(f"{path}: cannot be read as an image")
    rows, columns = (_starts(side) for side in image.shape[:2])
    return ((top, left) for top in rows for left in columns)


def _starts(side: int) -> list[int]:
    """Where tiles start along a side, so that they cover it evenly."""
    count = max(1, -(-(side - SIDE // 8) // (SIDE - SIDE // 8)))
    return [0] if side <= SIDE else [int(start) for start in np.linspace(0, side - SIDE, count).round()]
