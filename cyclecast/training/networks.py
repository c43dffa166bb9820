"""Generators and discriminators, laid out so that the keys of their state dicts are those of pytorch-CycleGAN-and-pix2pix.

Every generator maps (N, 3, H, W) float in [-1, 1], RGB, to the same; H and W multiples of `stride`. Convolutions that an
instance norm follows have no bias: the norm subtracts it, and a large one costs precision in fp16 and bf16.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Upsample = Literal["deconvolution", "resize"]
UPSAMPLES: tuple[Upsample, ...] = ("deconvolution", "resize")


def _norm(channels: int) -> nn.Module:
    """Instance norm as the paper has it: no learnt scale, no running statistics."""
    return nn.InstanceNorm2d(channels)


class ReflectionPad(nn.ReflectionPad2d):
    """Reflection padding in the dtype it is given: autocast on the CPU would go up to fp32 for it and down again after."""

    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        if not torch.is_autocast_enabled(kind):
            return super().forward(input)
        with torch.autocast(kind, enabled=False):
            return super().forward(input)


def _double(in_channels: int, out_channels: int, how: Upsample) -> nn.Module:
    """(N, C, H, W) -> (N, C', 2H, 2W).

    `resize` enlarges, then convolves, so it draws no grid (Odena et al. 2016). Bilinear, because after nearest neighbour a
    difference between two pixels still depends on where in the grid it falls: slopes come out as rows of dots.
    """
    if how == "deconvolution":
        return nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1, bias=False)
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect", bias=False),
    )


class ResnetBlock(nn.Module):
    """x + conv(relu(norm(conv(x)))), reflection padded (Johnson et al. 2016; CycleGAN, appendix 7.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            ReflectionPad(1),
            nn.Conv2d(channels, channels, 3, bias=False),
            _norm(channels),
            nn.ReLU(inplace=True),
            ReflectionPad(1),
            nn.Conv2d(channels, channels, 3, bias=False),
            _norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv_block(x)
        return out


class ResnetGenerator(nn.Module):
    """c7s1-n, d2n, d4n, `blocks` x R4n, u2n, un, c7s1-3 of the paper (CycleGAN, appendix 7.2).

    ngf: channels at full resolution (the paper: 64). blocks: 9 for 256x256 and above, 6 for 128x128. skip (not in the
    paper): the network makes what is added to its input. Instance norm forgets the colour of a flat crop; the skip does not.
    Its output can leave [-1, 1], to be clamped.
    """

    stride = 4

    def __init__(self, ngf: int = 64, blocks: int = 9, upsample: Upsample = "deconvolution", skip: bool = False) -> None:
        super().__init__()
        self.skip = skip
        layers: list[nn.Module] = [
            ReflectionPad(3),
            nn.Conv2d(3, ngf, 7, bias=False),
            _norm(ngf),
            nn.ReLU(inplace=True),
        ]
        for channels in (ngf, 2 * ngf):
            layers += [
                nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False),
                _norm(2 * channels),
                nn.ReLU(inplace=True),
            ]
        layers += [ResnetBlock(4 * ngf) for _ in range(blocks)]
        for channels in (4 * ngf, 2 * ngf):
            layers += [_double(channels, channels // 2, upsample), _norm(channels // 2), nn.ReLU(inplace=True)]
        layers += [ReflectionPad(3), nn.Conv2d(ngf, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)  # (N, 3, H, W) in [-1, 1]
        return x + out if self.skip else out


class PatchDiscriminator(nn.Module):
    """C64-C128-C256-C512 of the paper: each output judges a 70x70 patch (CycleGAN, appendix 7.2; Isola et al. 2017).

    (N, 3, H, W) -> (N, 1, H / 8 - 2, W / 8 - 2), raw scores.
    """

    def __init__(self, ndf: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, ndf, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for channels, stride in ((ndf, 2), (2 * ndf, 2), (4 * ndf, 1)):
            layers += [
                nn.Conv2d(channels, 2 * channels, 4, stride=stride, padding=1, bias=False),
                _norm(2 * channels),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers += [nn.Conv2d(8 * ndf, 1, 4, padding=1)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out


def initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02), biases 0 (CycleGAN, appendix 7.1); in place, from torch's generator."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


GENERATORS = {"resnet6": 6, "resnet9": 9}  # name -> residual blocks


def build_generator(generator: str, ngf: int, upsample: Upsample, skip: bool = False) -> ResnetGenerator:
    """The network that the settings of these names describe, with fresh weights."""
    network = ResnetGenerator(ngf, GENERATORS[generator], upsample, skip)
    initialise(network)
    return network


def build_discriminator(ndf: int) -> PatchDiscriminator:
    """The 70x70 PatchGAN with fresh weights."""
    discriminator = PatchDiscriminator(ndf)
    initialise(discriminator)
    return discriminator


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * current, parameter by parameter, in place."""
    torch._foreach_lerp_(list(average.parameters()), list(current.parameters()), 1.0 - decay)
