"""Two folders of images, unpaired: a batch is a pure function of the seed and the step, so a resumed run sees the same images."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyclecast.errors import InputError

log = logging.getLogger(__name__)
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
SMALLEST_SIDE = 32  # pixels; smaller files are thumbnails or icons, not training images


def list_images(folder: Path) -> list[Path]:
    """Every image file under `folder`, sorted. InputError if the folder is missing or holds none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not paths:
        raise InputError(f"{folder}: no images in it (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    return paths


def read_image(path: Path) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 RGB, upright as its EXIF says; None if it cannot be decoded or is tiny."""
    try:  # decoded from memory: OpenCV dies on file names that are not UTF-8
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
    except (cv2.error, OSError):
        return None
    if image is None or min(image.shape[:2]) < SMALLEST_SIDE:
        return None
    return np.asarray(image, np.uint8)


def resize_short_side(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The image with its shorter side at `side` pixels, its shape kept."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def to_tensor(image: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float().div_(127.5).sub_(1.0)


def to_bytes(images: Tensor) -> Tensor:
    """(N, 3, H, W) float in [-1, 1] -> the same shape in uint8."""
    return images.detach().clamp(-1, 1).add(1).mul(127.5).round().byte().cpu()


@dataclass
class ImageFolder:
    """One domain: images drawn at random, resized, cropped and flipped.

    load_size: the shorter side before the crop, drawn evenly from this range (the paper: 286 to 286). crop_size: pixels.
    A file that cannot be used is skipped, named once and counted in `skipped`.
    """

    folder: Path
    load_size: tuple[int, int]
    crop_size: int
    flip: bool = True
    skipped: set[Path] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.paths = list_images(self.folder)

    def __len__(self) -> int:
        return len(self.paths)

    def draw(self, random: np.random.Generator) -> Tensor:
        """One random crop: (3, crop_size, crop_size) float32 in [-1, 1]. InputError once every file has failed."""
        while len(self.skipped) < len(self.paths):
            path = self.paths[int(random.integers(len(self.paths)))]
            image = None if path in self.skipped else read_image(path)
            if image is not None:
                return to_tensor(self._crop(image, random))
            if path not in self.skipped:
                self.skipped.add(path)
                log.warning("skipped %s: unreadable, or smaller than %d pixels", path, SMALLEST_SIDE)
        raise InputError(f"{self.folder}: none of its {len(self.paths)} image files can be read")

    def _crop(self, image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
        low, high = self.load_size
        image = resize_short_side(image, int(random.integers(low, high + 1)))
        top = int(random.integers(image.shape[0] - self.crop_size + 1))
        left = int(random.integers(image.shape[1] - self.crop_size + 1))
        image = image[top : top + self.crop_size, left : left + self.crop_size]
        return image[:, ::-1] if self.flip and random.random() < 0.5 else image


@dataclass(frozen=True)
class UnpairedData:
    """Two domains without correspondences."""

    domain_a: ImageFolder
    domain_b: ImageFolder

    def batch(self, seed: int, step: int, size: int) -> tuple[Tensor, Tensor]:
        """(real_a, real_b), each (size, 3, crop, crop): the same for the same seed and step, whatever came before."""
        random = np.random.default_rng((seed, step))
        real_a = torch.stack([self.domain_a.draw(random) for _ in range(size)])
        real_b = torch.stack([self.domain_b.draw(random) for _ in range(size)])
        return real_a, real_b


def fixed_set(folder: Path, count: int, side: int) -> Tensor:
    """The first `count` readable images, evenly spread over the folder, centre-cropped: (n, 3, side, side) in [-1, 1]."""
    paths = list_images(folder)
    out: list[Tensor] = []
    for path in paths[:: max(1, len(paths) // count)]:
        image = read_image(path)
        if image is not None and len(out) < count:
            image = resize_short_side(image, side)
            top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
            out.append(to_tensor(image[top : top + side, left : left + side]))
    if not out:
        raise InputError(f"{folder}: none of its images can be read")
    return torch.stack(out)
