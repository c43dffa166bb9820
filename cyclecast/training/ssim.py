"""SSIM and its parts (Wang et al. 2004), shared by the losses and the figures.

The losses need a window that stays exact under autocast and SSIM's structure term alone; torchmetrics has neither, and it
also averages over mirrored pixels outside the image. The tests compare this implementation with torchmetrics in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

Blur = Callable[[Tensor], Tensor]

WINDOW = 11
"""Pixels across SSIM's window."""

SIGMA = 1.5
"""Standard deviation of the Gaussian window, in pixels."""


@dataclass(frozen=True)
class LocalMoments:
    """Means, variances and covariance of two images x and y in every window that lies inside them."""

    mean_x: Tensor
    mean_y: Tensor
    variance_x: Tensor
    variance_y: Tensor
    covariance: Tensor

    @classmethod
    def measure(cls, x: Tensor, y: Tensor, blur: Blur) -> LocalMoments:
        """Measures the moments of (N, C, H, W) float; `blur` is the weighted mean of a window."""
        mean_x, mean_y = blur(x), blur(y)
        variance_x, variance_y = blur(x.square()) - mean_x.square(), blur(y.square()) - mean_y.square()
        return cls(mean_x, mean_y, variance_x, variance_y, blur(x * y) - mean_x * mean_y)


def ssim(x: Tensor, y: Tensor, data_range: float, blur: Blur) -> Tensor:
    """Computes the mean SSIM of (N, C, H, W), a scalar, at most 1. data_range: the largest possible value minus the smallest."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    m = LocalMoments.measure(x, y, blur)
    luminance = (2 * m.mean_x * m.mean_y + c1) / (m.mean_x.square() + m.mean_y.square() + c1)
    contrast_structure = (2 * m.covariance + c2) / (m.variance_x + m.variance_y + c2)
    return (luminance * contrast_structure).mean()


def structure_similarity(x: Tensor, y: Tensor, data_range: float, blur: Blur) -> Tensor:
    """Computes SSIM's structure term s(x, y) alone: the mean correlation in the windows, a scalar from -1 to 1."""
    c3 = 0.5 * (0.03 * data_range) ** 2
    m = LocalMoments.measure(x, y, blur)
    return ((m.covariance + c3) / ((m.variance_x * m.variance_y).clamp_min(1e-8).sqrt() + c3)).mean()


def square_window(size: int) -> Blur:
    """Returns the mean over size x size pixels: (N, C, H, W) -> (N, C, H - size + 1, W - size + 1), exact under autocast."""
    return partial(_mean_of_square, size=size)


def _mean_of_square(x: Tensor, size: int) -> Tensor:
    # Rows, then columns, in the contiguous layout: a tenth of the time of one square window in channels-last.
    rows = functional.avg_pool2d(x.contiguous(), (1, size), stride=1)
    return functional.avg_pool2d(rows, (size, 1), stride=1)


def gaussian_window(x: Tensor) -> Tensor:
    """Computes SSIM's own Gaussian mean of 11x11 pixels: (N, C, H, W) -> (N, C, H - 10, W - 10)."""
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / SIGMA).square())
    weights = (weights / weights.sum()).view(1, 1, 1, WINDOW)
    rows = functional.conv2d(x.flatten(0, 1)[:, None], weights)
    return functional.conv2d(rows, weights.mT).view(*x.shape[:2], x.shape[2] - WINDOW + 1, x.shape[3] - WINDOW + 1)
