"""A generator for video frames: no wide layer at full resolution, and no norm with statistics of the whole frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from cyclecast.training.networks.layers import init_he_residual, outputs_of

Preset = Literal["nano", "small", "base"]
PRESETS: dict[Preset, tuple[int, int]] = {"nano": (16, 6), "small": (32, 6), "base": (32, 8)}
"""Width and blocks. With AMX, 32 channels cost half of what 48 cost, so depth pays more than width. `monet` is a `base`."""


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

    Without norms, a frame costs one pass, and a change in one corner of a video does not change the other corners. The output can
    leave [-1, 1] and must be clamped. skip: the network outputs what is added to its input. That suits a change of colors; for a
    painting, which replaces detail, it learns far worse, because it must cancel its input first. With an adversarial loss, which
    rewards any texture, PixelShuffle can draw a grid of `factor` pixels; let it imitate a teacher instead (recipe `distill`).

    The convolutions pad with zeros, which shows as a line along the border. An export pads each frame by `margin` pixels on
    each side, where that line falls, and crops the output. 20 pixels hide it; 12 suffice if the loss saw the line
    (`flatness_loss`). 2 * margin is a multiple of factor.
    """

    in_channels = out_channels = 3
    gray = "luma"
    bounded = False  # the last layer is linear, so that an export can fold the scaling to bytes into it

    def __init__(self, width: int = 32, blocks: int = 10, factor: int = 4, skip: bool = False, margin: int = 20) -> None:
        super().__init__()
        self.skip, self.margin = skip, margin
        self.stride = factor
        self.least_side = 2 * factor
        values = 3 * factor**2
        # Reflected at the border, so that the scaling of bytes folds into these weights exactly; zeros are faster further in.
        first = nn.Conv2d(values, width, 3, padding=1, padding_mode="reflect")
        trunk = [PlainBlock(width) for _ in range(blocks)]
        last = nn.Conv2d(width, values, 3, padding=1)
        self.model = nn.Sequential(nn.PixelUnshuffle(factor), first, nn.ReLU(inplace=True), *trunk, last, nn.PixelShuffle(factor))

    @torch.no_grad()
    def init_weights(self) -> None:
        """Sets initial weights with a small output: nearly gray or, with `skip`, nearly the input."""
        init_he_residual(self, [layer.body[2] for layer in self.model if isinstance(layer, PlainBlock)])
        self.model[-2].weight.mul_(0.1)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)  # (N, 3, H, W), H and W multiples of factor and at least 2 * factor
        return x + out if self.skip else out

    def encode(self, images: Tensor) -> list[Tensor]:
        """Returns the images and four maps of the first half: unshuffled pixels, first layer, first block, middle block."""
        blocks = [layer for layer in self.model if isinstance(layer, PlainBlock)]
        layers = [self.model[0], self.model[2], blocks[0], blocks[(len(blocks) - 1) // 2]]
        return [images, *outputs_of(self.model, layers, images)]

    def depths(self) -> Sequence[nn.Module]:
        """Returns four modules whose outputs are compared in distillation: before the blocks, and after each third of them."""
        blocks = [layer for layer in self.model if isinstance(layer, PlainBlock)]
        return [self.model[2], *(blocks[len(blocks) * third // 3 - 1] for third in (1, 2, 3))]
