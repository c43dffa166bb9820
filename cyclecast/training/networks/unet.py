"""The U-Net generator (Ronneberger et al. 2015; Isola et al. 2017, appendix 6.1.1)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import torch
from torch import Tensor, nn

from cyclecast.training.networks.layers import AnyNorm, Upsample, norm_layer, upsample_block


class UnetLevel(nn.Module):
    """One level: downsampling, the levels below, upsampling; its input is concatenated to the result, unless outermost.

    (N, C, H, W) -> (N, C + C', H, W). The order in `model` is that of pytorch-CycleGAN-and-pix2pix, so state-dict keys agree.
    """

    def __init__(
        self,
        outer: int,
        inner: int,
        below: UnetLevel | None,
        *,
        upsample: Upsample,
        norm: AnyNorm,
        image_channels: tuple[int, int] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.outermost = image_channels is not None
        has_bias = norm == "none" or self.outermost  # and no norm in either direction
        channels_in, channels_out = image_channels or (outer, outer)
        down = nn.Conv2d(channels_in, inner, 4, stride=2, padding=1, bias=has_bias or below is None)
        up = upsample_block(inner if below is None else 2 * inner, channels_out, upsample, kernel=4, bias=has_bias)
        leaky, relu = nn.LeakyReLU(0.2), nn.ReLU()
        if below is None:  # 1x1 at the training size, where a norm would leave zeros
            layers = [leaky, down, relu, up, norm_layer(outer, norm)]
        elif self.outermost:
            layers = [down, below, relu, up, nn.Tanh()]
        else:
            layers = [leaky, down, norm_layer(inner, norm), below, relu, up, norm_layer(outer, norm)]
            layers += [nn.Dropout(dropout)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out if self.outermost else torch.cat([x, out], 1)


class UnetGenerator(nn.Module):
    """`downs` levels of stride 2: 5 for 32x32, 7 for 128x128, 8 for 256x256, with skip connections.

    ngf: channels after the first level (the papers: 64), doubled up to 8 ngf. dropout: of the inner levels, pix2pix's source of
    noise (0.5). skip, in_channels, out_channels, gray: as in the ResNet generator.
    """

    margin = 0
    bounded = True  # by tanh

    def __init__(
        self,
        downs: int = 8,
        ngf: int = 64,
        upsample: Upsample = "deconvolution",
        skip: bool = False,
        dropout: float = 0.0,
        norm: AnyNorm = "instance",
        in_channels: int = 3,
        out_channels: int = 3,
        gray: str = "luma",
    ) -> None:
        super().__init__()
        self.gray = gray
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride = self.least_side = 2**downs
        self.skip = skip
        level = UnetLevel(8 * ngf, 8 * ngf, None, upsample=upsample, norm=norm)
        for _ in range(downs - 5):
            level = UnetLevel(8 * ngf, 8 * ngf, level, upsample=upsample, norm=norm, dropout=dropout)
        for outer in (4 * ngf, 2 * ngf, ngf):
            level = UnetLevel(outer, 2 * outer, level, upsample=upsample, norm=norm)
        images = (in_channels, out_channels)
        self.model = UnetLevel(ngf, ngf, level, upsample=upsample, norm=norm, image_channels=images)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)  # (N, C, H, W) in [-1, 1]
        return x + out if self.skip else out

    def encode(self, images: Tensor) -> list[Tensor]:
        """Returns the images and the first four maps on the way down, at 1/2 to 1/16 of the resolution."""
        maps = [images]
        for level in [each for each in self.modules() if isinstance(each, UnetLevel)][:4]:
            down = takewhile(lambda layer: not isinstance(layer, UnetLevel), level.model)
            maps.append(nn.Sequential(*down)(maps[-1]))
        return maps

    def depths(self) -> Sequence[nn.Module]:
        """Returns four modules whose outputs are compared in distillation: the levels below the outermost."""
        return [level for level in self.modules() if isinstance(level, UnetLevel)][1:5]
