"""Steadiness learnt from still images: where the input moves, the output has to move with it, and noise may not show."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

SHIFT = 8  # pixels, each way; several of the generators' own grids
ZOOM = 0.05  # of the size, either way
NOISE = 0.06  # standard deviation at most, in [-1, 1]: 7.6 gray levels
MARGIN = 8  # pixels at the border that are not compared: there a network sees its padding


def steadiness_loss(network: Callable[[Tensor], Tensor], inputs: Tensor, outputs: Tensor) -> Tensor:
    """|network(T(x) + noise) - T(network(x))|_1 per value, T a motion of its own for each image.

    inputs, outputs: (N, C, H, W) in [-1, 1], outputs = network(inputs). T shifts by whole pixels, or shifts and zooms; noise
    is normal, its strength drawn evenly. No video is needed: the motion is made here. Random numbers come from torch's generator.
    """
    where = _motions(len(inputs), inputs.shape[2], inputs.shape[3]).to(inputs.device)  # (N, H, W, 2) in [-1, 1]
    moved = _take(inputs, where)
    strength = NOISE * torch.rand(len(inputs), 1, 1, 1, device=inputs.device)
    seen = network(moved + strength * torch.randn_like(moved))
    inside = torch.tensor([1 - 2 * MARGIN / inputs.shape[3], 1 - 2 * MARGIN / inputs.shape[2]], device=inputs.device)
    counts = (where.abs() <= inside).all(3)[:, None]  # (N, 1, H, W)
    counts[..., :MARGIN, :] = counts[..., -MARGIN:, :] = counts[..., :MARGIN] = counts[..., -MARGIN:] = False
    gap = (seen.float() - _take(outputs.float(), where)).abs()
    return (gap * counts).sum() / (counts.sum() * gap.shape[1]).clamp_min(1)


def _motions(count: int, height: int, width: int) -> Tensor:
    """Where each pixel of each moved image comes from: (count, H, W, 2), as grid_sample takes it."""
    smooth = torch.rand(count) < 0.5
    zoom = torch.where(smooth, 1 + ZOOM * (2 * torch.rand(count) - 1), 1.0)
    shift = SHIFT * (2 * torch.rand(count, 2) - 1)
    shift = torch.where(smooth[:, None], shift, shift.round())
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom
    theta[:, :, 2] = 2 * shift / torch.tensor([width, height])
    return functional.affine_grid(theta, [count, 1, height, width], align_corners=False)


def _take(images: Tensor, where: Tensor) -> Tensor:
    return functional.grid_sample(images, where, mode="bilinear", padding_mode="reflection", align_corners=False)
