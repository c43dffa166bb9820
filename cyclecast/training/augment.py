"""Differentiable augmentation of the discriminator's input, real or fake (Zhao et al. 2020, DiffAugment).

A discriminator memorizes a small set of real images. Random shifts and cutouts delay that. Colors do not change, because the
palette is a part of a painter's style.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def shift(images: Tensor, share: float = 0.125) -> Tensor:
    """Moves each of (N, C, H, W) by up to `share` of its sides; the border is filled with -1."""
    _, _, height, width = images.shape
    reach_y, reach_x = max(1, int(height * share)), max(1, int(width * share))
    padded = functional.pad(images, (reach_x, reach_x, reach_y, reach_y), value=-1.0)
    top = torch.randint(2 * reach_y + 1, (len(images),)).tolist()
    left = torch.randint(2 * reach_x + 1, (len(images),)).tolist()
    return torch.stack([p[:, y : y + height, x : x + width] for p, y, x in zip(padded, top, left, strict=True)])


def cut_out(images: Tensor, share: float = 0.35) -> Tensor:
    """Sets a random rectangle of `share` of the sides to mid gray in each of (N, C, H, W)."""
    _, _, height, width = images.shape
    cut_y, cut_x = max(1, int(height * share)), max(1, int(width * share))
    keep = torch.ones(len(images), 1, height, width, dtype=images.dtype)
    top = torch.randint(height - cut_y + 1, (len(images),)).tolist()
    left = torch.randint(width - cut_x + 1, (len(images),)).tolist()
    for mask, y, x in zip(keep, top, left, strict=True):
        mask[:, y : y + cut_y, x : x + cut_x] = 0
    return images * keep.to(images.device)


def augment(images: Tensor) -> Tensor:
    """Shifts and cuts out: (N, C, H, W) float in [-1, 1] -> the same shape."""
    return cut_out(shift(images))
