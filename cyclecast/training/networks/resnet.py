"""The ResNet generator (Johnson et al. 2016; CycleGAN, appendix 7.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cyclecast.training.networks.layers import (
    AnyNorm,
    BlurDown,
    Border,
    Downsample,
    ReflectionPad,
    Upsample,
    init_he_residual,
    norm_layer,
    outputs_of,
    upsample_block,
)


class ResnetBlock(nn.Module):
    """x + conv(relu(norm(conv(x)))), reflection padded."""

    def __init__(self, channels: int, norm: AnyNorm = "instance") -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            ReflectionPad(1),
            nn.Conv2d(channels, channels, 3, bias=norm == "none"),
            norm_layer(channels, norm),
            nn.ReLU(inplace=True),
            ReflectionPad(1),
            nn.Conv2d(channels, channels, 3, bias=norm == "none"),
            norm_layer(channels, norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv_block(x)
        return out


class ResnetGenerator(nn.Module):
    """c7s1-n, d2n, d4n, `blocks` x R4n, u2n, un, c7s1-3 of the paper.

    ngf: channels at full resolution (the paper: 64). blocks: 9 for 256x256 and above, 6 for 128x128. skip (not in the paper):
    the network outputs what is added to its input. That keeps the color of a flat crop, which instance norm removes; but the
    output can leave [-1, 1] and must be clamped. downsample: by the stride of a convolution, or by a low-pass filter after it
    (CUT). border: padding of the convolutions that halve the resolution; None: reflect without norms, where zeros show as lines
    along the border, and zeros otherwise. in_channels, out_channels: 3 (RGB) or 1 (gray). gray: luma or mean, how an export
    converts frames for one input channel; the network itself does not use it. halvings: 2, or up to 4 in pix2pixHD.
    upsample_border: padding after resize-convolutions' interpolation, `upsample_block`.
    """

    margin = 0  # it pads by reflection
    bounded = True  # by tanh

    def __init__(
        self,
        blocks: int = 9,
        ngf: int = 64,
        upsample: Upsample = "deconvolution",
        skip: bool = False,
        norm: AnyNorm = "instance",
        downsample: Downsample = "stride",
        border: Border | None = None,
        in_channels: int = 3,
        out_channels: int = 3,
        gray: str = "luma",
        halvings: int = 2,
        upsample_border: Border = "reflect",
    ) -> None:
        super().__init__()
        self.gray = gray
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride = 2**halvings
        self.least_side = 2 * self.stride  # the blocks reflect one row, so that they need two
        self.skip = skip
        self.norm = norm
        bias = norm == "none"
        border = border or ("reflect" if norm == "none" else "zeros")
        stride = 2 if downsample == "stride" else 1
        layers: list[nn.Module] = [
            ReflectionPad(3),
            nn.Conv2d(in_channels, ngf, 7, bias=bias),
            norm_layer(ngf, norm),
            nn.ReLU(inplace=True),
        ]
        widths = [ngf * 2**index for index in range(halvings + 1)]
        for channels in widths[:-1]:
            layers += [
                nn.Conv2d(channels, 2 * channels, 3, stride=stride, padding=1, padding_mode=border, bias=bias),
                norm_layer(2 * channels, norm),
                nn.ReLU(inplace=True),
                *([BlurDown(2 * channels)] if downsample == "antialias" else []),
            ]
        layers += [ResnetBlock(widths[-1], norm) for _ in range(blocks)]
        for channels in widths[:0:-1]:
            layers += [
                upsample_block(channels, channels // 2, upsample, bias=bias, border=upsample_border),
                norm_layer(channels // 2, norm),
                nn.ReLU(inplace=True),
            ]
        layers += [ReflectionPad(3), nn.Conv2d(ngf, out_channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Sets weights that keep the variance, if the network has no norms; otherwise changes nothing."""
        if self.norm == "none":
            init_he_residual(self, [layer.conv_block[-2] for layer in self.model if isinstance(layer, ResnetBlock)])
            self.model[-2].weight.mul_(0.1)  # type: ignore[operator]  # a saturated tanh has no gradient

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)  # (N, C, H, W) in [-1, 1]
        return x + out if self.skip else out

    def encode(self, images: Tensor) -> list[Tensor]:
        """Returns the images and four maps of the first half: both halvings, the first block, the middle one (CUT, appendix C.1).

        Without norms, a position sees squares of 1, 9, 13, 29 and, with 9 blocks, 93 pixels.
        """
        blocks = [layer for layer in self.model if isinstance(layer, ResnetBlock)]
        _, *halvings, _ = (layer for layer in self.model if isinstance(layer, nn.Conv2d))
        return [images, *outputs_of(self.model, [*halvings, blocks[0], blocks[(len(blocks) - 1) // 2]], images)]

    def depths(self) -> Sequence[nn.Module]:
        """Returns four modules whose outputs are compared in distillation: before the blocks, and after each third of them."""
        blocks = [layer for layer in self.model if isinstance(layer, ResnetBlock)]
        before = self.model[list(self.model).index(blocks[0]) - 1]
        return [before, *(blocks[len(blocks) * third // 3 - 1] for third in (1, 2, 3))]
