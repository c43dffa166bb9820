"""A discriminator of a frozen network's features in place of pixels (Sauer et al. 2021, Projected GANs)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from cyclecast.training.networks.features import EfficientNetFeatures

LEVELS = 4  # at 1/2 to 1/16 of the resolution: from brush strokes to trees and skies


class RandomProjection(nn.Module):
    """A random convolution that is not trained: it distributes the information of a few channels over all of them."""

    weight: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        weight = nn.init.kaiming_normal_(torch.empty(out_channels, in_channels, kernel, kernel), nonlinearity="linear")
        self.register_buffer("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)


class ProjectedDiscriminator(nn.Module):
    """(N, 3, H, W), H and W multiples of 32 -> raw scores (N, 4, h, w): one map for each level of features, of equal weight.

    Random projections mix the features over channels and from coarse to fine, so that no level alone reveals a fake. Small heads
    under spectral norm score them. ndf: the heads' channels. It learns from few real images much sooner than a discriminator of
    pixels. Raises CyclecastError if the ImageNet weights are not installed.
    """

    def __init__(self, ndf: int = 64, width: int = 64) -> None:
        super().__init__()
        self.features = EfficientNetFeatures(levels=LEVELS)
        self.across = nn.ModuleList(RandomProjection(channels, width, 1) for channels in self.features.channels)
        self.down = nn.ModuleList(RandomProjection(width, width, 3) for _ in self.features.channels[1:])
        self.heads = nn.ModuleList(_head(width, ndf, stride=2 if level < 2 else 1) for level in range(LEVELS))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.features(x)
        mixed: list[Tensor] = []  # from coarse to fine
        for level in reversed(range(LEVELS)):
            own = self.across[level](maps[level])
            if mixed:
                coarser = functional.interpolate(mixed[-1], scale_factor=2, mode="bilinear")
                own = self.down[level](own + coarser) / 2**0.5
            mixed.append(own)
        scores = [head(part) for head, part in zip(self.heads, reversed(mixed), strict=True)]
        finest = scores[0].shape[2:]
        return torch.cat([functional.interpolate(score, finest) for score in scores], 1)

    def hidden(self, x: Tensor) -> list[Tensor]:
        """Returns the frozen features, (N, C, H, W) each."""
        maps: list[Tensor] = self.features(x)
        return maps


def _head(width: int, ndf: int, stride: int) -> nn.Module:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(width, ndf, 3, stride=stride, padding=1)),
        nn.LeakyReLU(0.2, inplace=True),
        spectral_norm(nn.Conv2d(ndf, ndf, 3, stride=stride, padding=1)),
        nn.LeakyReLU(0.2, inplace=True),
        spectral_norm(nn.Conv2d(ndf, 1, 3, padding=1)),
    )
