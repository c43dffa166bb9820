"""Discriminators of patches, for images of any size (Isola et al. 2017; CycleGAN, appendix 7.2)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from cyclecast.training.networks.layers import Norm, initialize, norm_layer
from cyclecast.training.networks.projected import ProjectedDiscriminator

Discriminator = Literal["basic", "n_layers", "pixel", "projected"]


class PatchDiscriminator(nn.Module):
    """C64-C128-C256-C512 of the paper at 3 `layers`: each output scores a 70x70 patch (1: 16x16, 2: 34x34, 4: 142x142).

    (N, C, H, W) -> (N, 1, H / 2^layers - 2, W / 2^layers - 2), raw scores. ndf: channels after the first layer.
    """

    def __init__(self, ndf: int = 64, layers: int = 3, in_channels: int = 3, norm: Norm = "instance") -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(in_channels, ndf, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        channels = ndf
        for layer in range(1, layers + 1):
            wider = min(2**layer, 8) * ndf
            parts += [
                nn.Conv2d(channels, wider, 4, stride=2 if layer < layers else 1, padding=1, bias=False),
                norm_layer(wider, norm),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            channels = wider
        self.model = nn.Sequential(*parts, nn.Conv2d(channels, 1, 4, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out

    def hidden(self, x: Tensor) -> list[Tensor]:
        """Returns hidden features: (N, C, H, W) after each activation."""
        return leaky_relu_outputs(self.model, x)


class PixelDiscriminator(nn.Module):
    """1x1 convolutions: scores each pixel by itself, so only colors count. (N, C, H, W) -> (N, 1, H, W)."""

    def __init__(self, ndf: int = 64, in_channels: int = 3, norm: Norm = "instance") -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(in_channels, ndf, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf, 2 * ndf, 1, bias=False),
            norm_layer(2 * ndf, norm),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * ndf, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out

    def hidden(self, x: Tensor) -> list[Tensor]:
        """Returns hidden features: (N, C, H, W) after each activation."""
        return leaky_relu_outputs(self.net, x)


def leaky_relu_outputs(layers: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Returns the outputs of the leaky ReLUs in `layers`."""
    maps = []
    for layer in layers:
        x = layer(x)
        if isinstance(layer, nn.LeakyReLU):
            maps.append(x)
    return maps


AnyDiscriminator = PatchDiscriminator | PixelDiscriminator | ProjectedDiscriminator


def build_discriminator(discriminator: Discriminator, ndf: int, layers: int = 3, in_channels: int = 3) -> AnyDiscriminator:
    """Builds a discriminator. basic: the 70x70 PatchGAN; n_layers: with `layers` of stride 2; pixel; projected."""
    if discriminator == "projected":
        return ProjectedDiscriminator(ndf)
    if discriminator == "pixel":
        return initialize(PixelDiscriminator(ndf, in_channels))
    return initialize(PatchDiscriminator(ndf, 3 if discriminator == "basic" else layers, in_channels))


def side_requirement(discriminator: Discriminator, layers: int, side: int) -> str | None:
    """Returns what the side of an image must be, if this discriminator does not accept `side` pixels; None if it does."""
    if discriminator == "projected":
        return "a multiple of 32" if side % 32 else None
    if discriminator == "pixel":
        return None
    smallest = 3 << (3 if discriminator == "basic" else layers)  # the last instance norm needs more than one value
    return f"at least {smallest}" if side < smallest else None
