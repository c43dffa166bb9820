"""A generator made for frames: nothing wide at full resolution, and no norm that looks at the whole picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from cyclecast.training.networks.layers import he_init

Preset = Literal["nano", "small", "base"]
PRESETS: dict[Preset, tuple[int, int]] = {"nano": (16, 6), "small": (32, 6), "base": (32, 10)}
"""Width and blocks. 32 channels cost half of 48 where AMX computes them, so depth is the better buy; `monet` is a `base`."""


class PlainBlock(nn.Module):
    """x + conv(relu(conv(x))), without norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class FrameGenerator(nn.Module):
    """PixelUnshuffle, `blocks` residual blocks of `width` channels at 1/factor of the resolution, PixelShuffle.

    No norms: a frame costs one pass, and a change in one corner of a video leaves the others as they were. Its output can
    leave [-1, 1], to be clamped. skip: it makes what is added to its input, which suits a change of colors; a painting
    replaces the detail of its input, and a network that has to cancel it first learns it far worse. The way up could draw a
    grid of `factor` pixels where an adversary rewards any texture: let it imitate a teacher without one (recipe `distill`).

    Its convolutions take what lies outside for zeros, which shows as a line around the picture. An export gives it frames
    that are `margin` pixels larger on each side, where that line falls, and cuts them off again.
    """

    margin = 20
    bounded = False  # its last layer is linear, so that an export can fold the range of bytes into it

    def __init__(self, width: int = 32, blocks: int = 10, factor: int = 4, skip: bool = False) -> None:
        super().__init__()
        self.skip = skip
        self.stride = factor
        values = 3 * factor**2
        # Mirrored at the border, so that a frame's range folds into these weights exactly; zeros further in are faster.
        first = nn.Conv2d(values, width, 3, padding=1, padding_mode="reflect")
        trunk = [PlainBlock(width) for _ in range(blocks)]
        last = nn.Conv2d(width, values, 3, padding=1)
        self.model = nn.Sequential(nn.PixelUnshuffle(factor), first, nn.ReLU(inplace=True), *trunk, last, nn.PixelShuffle(factor))

    @torch.no_grad()
    def start(self) -> None:
        """At first it gives gray, or with the skip its input, nearly: what it makes is small."""
        he_init(self, [layer.body[2] for layer in self.model if isinstance(layer, PlainBlock)])
        self.model[-2].weight.mul_(0.1)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)  # (N, 3, H, W), H and W multiples of factor and at least 2 * factor
        return x + out if self.skip else out

    def depths(self) -> Sequence[nn.Module]:
        """Four modules whose outputs tell how the picture is understood: before the blocks, and at thirds of them."""
        blocks = [layer for layer in self.model if isinstance(layer, PlainBlock)]
        return [self.model[2], *(blocks[len(blocks) * third // 3 - 1] for third in (1, 2, 3))]
