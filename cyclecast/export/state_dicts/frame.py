"""Our own generators for video frames, as the recipes `distill`, `supervised` and `style_transfer` train them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor

from cyclecast.export.state_dicts.layers import Layer, Layout, first_channels

BLOCK = re.compile(r"model\.(\d+)\.body\.")


def frame_layout(tensors: Mapping[str, Tensor]) -> Layout:
    """Finds width, blocks and factor. The names are the same in both networks."""
    blocks = len({found[1] for found in map(BLOCK.match, tensors) if found})
    values, width = first_channels(tensors, "model.1.weight")
    names = [
        "model.1",
        *(f"model.{index}.body.{at}" for index in range(3, 3 + blocks) for at in (0, 2)),
        f"model.{3 + blocks}",
    ]
    architecture = {"generator": "frame", "width": width, "blocks": blocks, "factor": max(1, math.isqrt(values // 3))}
    return Layout(architecture, [Layer(name, name) for name in names], is_ours=True)
