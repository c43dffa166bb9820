"""Batches as pure functions: image i of step n does not depend on what was drawn before, nor on the process that draws it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cyclecast.errors import InputError
from cyclecast.phrases import count_noun
from cyclecast.training.data.crops import AlignedImages, View
from cyclecast.training.data.domains import Domain
from cyclecast.training.data.images import Half, list_images

log = logging.getLogger(__name__)

NAMED_FILES = 5  # of the unpaired ones, in a message


def sample_randoms(seed: int, step: int, size: int, first: int, domain: int = 0) -> Iterator[np.random.Generator]:
    """Yields a random generator for each of the images first to first + size - 1 of a step's batch; domain: its number."""
    return (np.random.default_rng((seed, step, index, domain)) for index in range(first, first + size))


@dataclass(frozen=True)
class OneDomain:
    """Batches of one domain."""

    domain: Domain

    def __len__(self) -> int:
        return len(self.domain)

    def facts(self) -> dict[str, int]:
        """Returns the number of images, and of those skipped so far as unusable."""
        return {"images": len(self.domain), "skipped": len(self.domain.skipped)}

    def batch(self, seed: int, step: int, size: int, first: int = 0) -> tuple[Tensor]:
        """Returns (real,), of (size, 3, S, S): images first to first + size - 1 of the step's batch."""
        return (_draw(self.domain, seed, step, size, first, 0),)


@dataclass(frozen=True)
class UnpairedData:
    """Batches of two domains without correspondences."""

    domain_a: Domain
    domain_b: Domain

    def __len__(self) -> int:
        return max(len(self.domain_a), len(self.domain_b))

    def facts(self) -> dict[str, int]:
        """Returns the number of images, and of those skipped so far as unusable."""
        skipped = len(self.domain_a.skipped) + len(self.domain_b.skipped)
        return {"images of A": len(self.domain_a), "images of B": len(self.domain_b), "skipped": skipped}

    def batch(self, seed: int, step: int, size: int, first: int = 0) -> tuple[Tensor, Tensor]:
        """Returns (real_a, real_b), each (size, 3, S, S): images first to first + size - 1 of the step's batch.

        Processes that share a batch draw parts of it: first=0 and first=2 with 2 images each give the batch of 4.
        """
        real_a = _draw(self.domain_a, seed, step, size, first, 0)
        real_b = _draw(self.domain_b, seed, step, size, first, 1)
        return real_a, real_b


@dataclass
class PairedData:
    """Pairs of images that are resized, cropped and flipped as one.

    Files pair up by their path within the folder, without suffix. If both folders are the same, each file holds a pair side by
    side: A on the left and B on the right, unless half_a and half_b say otherwise. load_size, crop_size, label maps: see
    ImageFolder; B is resized to the size of A. Unpaired files are skipped and logged in one line, with their number and
    the first names; an unusable file is skipped together with its partner and logged once. All of them are in `skipped`.
    Raises InputError if there are no pairs.
    """

    folder_a: Path
    folder_b: Path
    load_size: tuple[int, int] | None
    crop_size: int
    flip: bool = True
    half_a: Half | None = None
    half_b: Half | None = None

    def __post_init__(self) -> None:
        files_a, files_b = list_images(self.folder_a), list_images(self.folder_b)
        half_a, half_b = self.half_a, self.half_b
        if self.folder_a.samefile(self.folder_b):
            half_a, half_b, files_b = half_a or "left", half_b or "right", files_a
            if half_a == half_b:
                raise InputError(f"{self.folder_a}: A and B are both its {half_a} half; half_a and half_b must differ")
        by_stem_a, by_stem_b = _by_stem(self.folder_a, files_a), _by_stem(self.folder_b, files_b)
        rows = [(path, by_stem_b[stem]) for stem, path in by_stem_a.items() if stem in by_stem_b]
        if not rows:
            found = f"no file names in common, so no pairs, such as {files_a[0].name} and {files_b[0].name}"
            raise InputError(f"{self.folder_a}, {self.folder_b}: {found}; name the images alike in both")
        views = (View.for_folder(self.folder_a, half_a), View.for_folder(self.folder_b, half_b))
        name = f"{self.folder_a}, {self.folder_b}"
        self._images = AlignedImages(name, rows, views, self.load_size, self.crop_size, self.flip)
        paired = {path for row in rows for path in row}
        alone = [path for path in dict.fromkeys([*files_a, *files_b]) if path not in paired]
        if alone:
            self._images.skipped.update(alone)
            log.warning("%s: %s", name, _describe_alone(alone))

    def __len__(self) -> int:
        return len(self._images.rows)

    def facts(self) -> dict[str, int]:
        """Returns the number of pairs, and of files skipped so far as unusable."""
        return {"pairs": len(self), "skipped files": len(self.skipped)}

    @property
    def skipped(self) -> set[Path]:
        """Returns the unpaired files, and the files that could not be used so far."""
        return self._images.skipped

    def batch(self, seed: int, step: int, size: int, first: int = 0) -> tuple[Tensor, Tensor]:
        """Returns (real_a, real_b), each (size, 3, crop_size, crop_size), paired by index; see UnpairedData.batch."""
        drawn = [self._images.draw(random) for random in sample_randoms(seed, step, size, first)]
        return _stack([pair[0] for pair in drawn]), _stack([pair[1] for pair in drawn])

    def first(self, count: int, side: int) -> tuple[Tensor, Tensor]:
        """Returns the first `count` readable pairs, evenly spread, center-cropped: two of (n, 3, side, side) in [-1, 1]."""
        first_a, first_b = self._images.first(count, side)
        return first_a, first_b


def _draw(domain: Domain, seed: int, step: int, size: int, first: int, number: int) -> Tensor:
    return _stack([domain.draw(random) for random in sample_randoms(seed, step, size, first, number)])


def _stack(images: list[Tensor]) -> Tensor:
    """Stacks images to (n, 3, S, S) in NumPy: batches are drawn during a training step, and torch would use its cores."""
    return torch.from_numpy(np.stack([image.numpy() for image in images]))


def _describe_alone(paths: list[Path]) -> str:
    """Returns, for example, "2 unpaired files skipped (a/3.png, b/4.png)": the number and the first names."""
    names = ", ".join(f"{path.parent.name}/{path.name}" for path in paths[:NAMED_FILES])
    more = f" and {len(paths) - NAMED_FILES} more" if len(paths) > NAMED_FILES else ""
    return f"{count_noun(len(paths), 'unpaired file')} skipped ({names}{more})"


def _by_stem(folder: Path, files: list[Path]) -> dict[Path, Path]:
    out: dict[Path, Path] = {}
    for path in files:
        out.setdefault(path.relative_to(folder).with_suffix(""), path)
    return out
