"""Temporal stability from still images: the output must move with the input, and must not amplify its noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

MAX_SHIFT = 8  # pixels on each axis: two cells of the ResNet and frame generators' grids of 4 pixels
MAX_ZOOM = 0.05  # relative change of size, in or out
MAX_NOISE = 0.06  # standard deviation, for values in [-1, 1]: 7.6 gray levels
FLAT_SIDE = 96  # pixels of a flat image
MARGIN = 8  # pixels at the border that are not compared, because the network sees its padding there


def steadiness_loss(network: Callable[[Tensor], Tensor], inputs: Tensor, outputs: Tensor) -> Tensor:
    """Computes |network(T(x) + noise) - T(network(x))|_1 per value, with a random motion T for each image.

    inputs, outputs: (N, C, H, W) in [-1, 1], outputs = network(inputs). T shifts by whole pixels, or shifts and zooms. The noise
    is Gaussian, its standard deviation uniform up to MAX_NOISE. Random numbers come from torch's generator. No video is needed.
    """
    grid = _random_motions(len(inputs), inputs.shape[2], inputs.shape[3]).to(inputs.device)  # (N, H, W, 2) in [-1, 1]
    moved = _sample(inputs, grid)
    strength = MAX_NOISE * torch.rand(len(inputs), 1, 1, 1, device=inputs.device)
    moved_outputs = network(moved + strength * torch.randn_like(moved))
    inside = torch.tensor([1 - 2 * MARGIN / inputs.shape[3], 1 - 2 * MARGIN / inputs.shape[2]], device=inputs.device)
    is_compared = (grid.abs() <= inside).all(3)[:, None]  # (N, 1, H, W)
    is_compared[..., :MARGIN, :] = is_compared[..., -MARGIN:, :] = False
    is_compared[..., :MARGIN] = is_compared[..., -MARGIN:] = False
    difference = (moved_outputs.float() - _sample(outputs.float(), grid)).abs()
    return (difference * is_compared).sum() / (is_compared.sum() * difference.shape[1]).clamp_min(1)


def flatness_loss(network: Callable[[Tensor], Tensor], inputs: Tensor, margin: int) -> Tensor:
    """Returns the root mean square deviation from its mean color of the network's output for flat images.

    inputs: (N, C, H, W), of which only N and C are used: N images of one random color each, from torch's generator. On a flat
    area, a network can only draw its own sampling grid, PixelShuffle's 4x4 pixels, and lines along the border, where it sees its
    padding. margin: pixels of the border that do not count, because exports pad frames by as much and crop the output.
    """
    colors = (2 * torch.rand(*inputs.shape[:2], 1, 1) - 1).to(inputs)
    outputs = network(colors.expand(-1, -1, FLAT_SIDE, FLAT_SIDE).contiguous()).float()
    inner = outputs[:, :, margin : FLAT_SIDE - margin, margin : FLAT_SIDE - margin]
    return (inner - inner.mean((2, 3), keepdim=True)).square().mean().clamp_min(1e-8).sqrt()


def _random_motions(count: int, height: int, width: int) -> Tensor:
    """Draws the source position of each pixel of each moved image: (count, H, W, 2) in [-1, 1], as grid_sample expects it."""
    zooms = torch.rand(count) < 0.5
    zoom = torch.where(zooms, 1 + MAX_ZOOM * (2 * torch.rand(count) - 1), 1.0)
    shift = MAX_SHIFT * (2 * torch.rand(count, 2) - 1)
    shift = torch.where(zooms[:, None], shift, shift.round())
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom
    theta[:, :, 2] = 2 * shift / torch.tensor([width, height])
    return functional.affine_grid(theta, [count, 1, height, width], align_corners=False)


def _sample(images: Tensor, grid: Tensor) -> Tensor:
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
