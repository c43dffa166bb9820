"""Generators and discriminators of the latent models: a vector in, an image out."""

from __future__ import annotations

import math

from torch import Tensor, nn

from cyclecast.training.networks.layers import Norm, Upsample, norm_layer, upsample_block


class MlpGenerator(nn.Module):
    """z -> 128-256-512-1024 -> pixels, tanh (after GAN, Goodfellow et al. 2014). (N, Z) -> (N, C, S, S) in [-1, 1]."""

    def __init__(self, latent: int = 100, image_size: int = 28, channels: int = 1) -> None:
        super().__init__()
        self.latent, self.shape = latent, (channels, image_size, image_size)
        layers: list[nn.Module] = [nn.Linear(latent, 128), nn.LeakyReLU(0.2, inplace=True)]
        for width in (128, 256, 512):
            layers += [nn.Linear(width, 2 * width), nn.BatchNorm1d(2 * width), nn.LeakyReLU(0.2, inplace=True)]
        self.model = nn.Sequential(*layers, nn.Linear(1024, math.prod(self.shape)), nn.Tanh())

    def forward(self, latent: Tensor) -> Tensor:
        out: Tensor = self.model(latent).unflatten(1, self.shape)
        return out


class MlpDiscriminator(nn.Module):
    """pixels -> 512-256-1. (N, C, S, S) -> (N,) raw scores."""

    def __init__(self, image_size: int = 28, channels: int = 1) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(channels * image_size**2, 512),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(512, 256),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(256, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.model(images.flatten(1))
        return out.flatten()


def factor_side(image_size: int) -> tuple[int, int]:
    """Halves the side until it is odd or below 8; returns the number of stages and the last side: 28 -> (2, 7), 64 -> (4, 4)."""
    stages = 0
    while image_size > 7 and image_size % 2 == 0:
        image_size, stages = image_size // 2, stages + 1
    return stages, image_size


def is_dcgan_size(image_size: int) -> bool:
    """Returns whether the convolutional networks support images of this side: 4 to 7 pixels, doubled once or more."""
    stages, side = factor_side(image_size)
    return stages >= 1 and 4 <= side <= 7


class ConvGenerator(nn.Module):
    """DCGAN's generator: no fully connected layer, batch norm and ReLU everywhere but at the output, tanh (Radford et al. 2015).

    (N, Z) -> (N, C, S, S) in [-1, 1]. upsample: `resize` replaces the paper's transposed convolution, which draws a
    checkerboard. ngf: channels at full resolution.
    """

    def __init__(
        self, latent: int = 100, image_size: int = 28, channels: int = 1, ngf: int = 64, upsample: Upsample = "resize"
    ) -> None:
        super().__init__()
        self.latent = latent
        stages, side = factor_side(image_size)
        width = ngf * 2**stages
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(latent, width, side, bias=False),
            norm_layer(width, "batch"),
            nn.ReLU(inplace=True),
        ]
        for _ in range(stages):
            layers += [
                upsample_block(width, width // 2, upsample, kernel=4),
                norm_layer(width // 2, "batch"),
                nn.ReLU(inplace=True),
            ]
            width //= 2
        self.model = nn.Sequential(*layers, nn.Conv2d(ngf, channels, 3, padding=1), nn.Tanh())

    def forward(self, latent: Tensor) -> Tensor:
        out: Tensor = self.model(latent[:, :, None, None])
        return out


class ConvDiscriminator(nn.Module):
    """DCGAN's discriminator: strided convolutions, LeakyReLU 0.2, batch norm everywhere but at the input.

    (N, C, S, S) -> (N,) raw scores. norm `none` suits a gradient penalty, which is defined for each sample by itself.
    """

    def __init__(self, image_size: int = 28, channels: int = 1, ndf: int = 64, norm: Norm = "batch") -> None:
        super().__init__()
        stages, side = factor_side(image_size)
        layers: list[nn.Module] = [nn.Conv2d(channels, ndf, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        width = ndf
        for _ in range(stages - 1):
            layers += [
                nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=norm == "none"),
                norm_layer(2 * width, norm),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            width *= 2
        self.model = nn.Sequential(*layers, nn.Conv2d(width, 1, side))

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.model(images)
        return out.flatten()
