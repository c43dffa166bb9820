"""Differentiable augmentation: what the discriminator sees, real or fake, is changed alike (Zhao et al. 2020, DiffAugment).

With few real images a discriminator learns them by heart; seen shifted and with a piece cut out, they last much longer.
Color is left alone: the palette is a good part of a painter's style.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def shift(images: Tensor, share: float = 0.125) -> Tensor:
    """(N, C, H, W): each image moved by up to `share` of its sides, the border filled with -1."""
    _, _, height, width = images.shape
    reach_y, reach_x = max(1, int(height * share)), max(1, int(width * share))
    padded = functional.pad(images, (reach_x, reach_x, reach_y, reach_y), value=-1.0)
    top = torch.randint(2 * reach_y + 1, (len(images),)).tolist()
    left = torch.randint(2 * reach_x + 1, (len(images),)).tolist()
    return torch.stack([p[:, y : y + height, x : x + width] for p, y, x in zip(padded, top, left, strict=True)])


def cut_out(images: Tensor, share: float = 0.35) -> Tensor:
    """(N, C, H, W): in each image a rectangle of `share` of its sides set to mid gray."""
    _, _, height, width = images.shape
    cut_y, cut_x = max(1, int(height * share)), max(1, int(width * share))
    keep = torch.ones(len(images), 1, height, width, dtype=images.dtype)
    top = torch.randint(height - cut_y + 1, (len(images),)).tolist()
    left = torch.randint(width - cut_x + 1, (len(images),)).tolist()
    for mask, y, x in zip(keep, top, left, strict=True):
        mask[:, y : y + cut_y, x : x + cut_x] = 0
    return images * keep.to(images.device)


def augment(images: Tensor) -> Tensor:
    """Both, on (N, C, H, W) float in [-1, 1]."""
    return cut_out(shift(images))
