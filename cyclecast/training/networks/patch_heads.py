"""What CUT compares patches by: unit vectors of single positions of an encoder's maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class PatchHeads(nn.Module):
    """A two-layer MLP for each map of an encoder (CUT, section 3.2; its appendix C.1 has 256 values in both layers).

    channels: of the maps. A head sees single positions, and a position of a deep map stands for a patch of the image.
    """

    def __init__(self, channels: Sequence[int], width: int = 256) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, width), nn.ReLU(inplace=True), nn.Linear(width, width)) for inputs in channels
        )

    def forward(self, maps: Sequence[Tensor], positions: Sequence[Tensor]) -> list[Tensor]:
        """Maps (N, C, H, W) and (P,) indices into the H * W positions of each to (N, P, width) float32 vectors of length 1."""
        vectors = []
        for head, features, index in zip(self.heads, maps, positions, strict=True):
            columns = features.shape[3]
            picked = features[:, :, index // columns, index % columns].transpose(1, 2)  # (N, P, C)
            vectors.append(functional.normalize(head(picked).float(), dim=2))
        return vectors


def draw_positions(maps: Sequence[Tensor], count: int) -> list[Tensor]:
    """Draws (P,) different positions of each map (N, C, H, W), `count` of them or all that it has, from torch's generator."""
    return [torch.randperm(each.shape[2] * each.shape[3])[:count].to(each.device) for each in maps]
