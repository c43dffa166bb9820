"""A teacher's image without the grid that its own strided layers leave: the mean over shifted inputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def shift_averaged(teacher: nn.Module, source: Tensor, scale: float = 1.0, shifts: int = 2) -> Tensor:
    """Returns the teacher's output for (N, 3, H, W), computed at `scale` of its size, without its grid; in [-1, 1], fp32.

    The mean of shifts x shifts calls, shifted by equal parts of the teacher's stride from a random offset: what the teacher
    draws on its grid falls elsewhere in each call and cancels out; what belongs to the image adds up. At scale 1 the teacher
    sees the image at its size; at others the size is rounded up to a multiple of the teacher's stride, or of 8. A larger
    stride, as of a U-Net, is filled up with the mirrored image.
    """
    height, width = source.shape[2:]
    stride = int(teacher.stride)  # type: ignore[arg-type]
    reach = min(max(shifts, round(stride / scale)), height // 2, width // 2)
    step = max(1, reach // shifts)
    top, left = torch.randint(step, (2,)).tolist()
    padded = functional.pad(source, (reach,) * 4, mode="reflect")
    offsets = [(top + step * row, left + step * column) for row in range(shifts) for column in range(shifts)]
    shifted = torch.cat([padded[:, :, y : y + height + reach, x : x + width + reach] for y, x in offsets])
    sides = list(shifted.shape[2:])
    multiple = min(stride, 8)
    small = sides if scale == 1 else [max(2 * multiple, math.ceil(side * scale / multiple) * multiple) for side in sides]
    filled = [math.ceil(side / stride) * stride for side in small]
    output = teacher(_mirror_to(shifted if small == sides else resize(shifted, small), filled))
    output = output[:, :, : small[0], : small[1]].float().clamp(-1, 1)
    output = output if small == sides else resize(output, sides).clamp(-1, 1)
    parts = zip(output.chunk(len(offsets)), offsets, strict=True)
    aligned = [part[:, :, reach - y : reach - y + height, reach - x : reach - x + width] for part, (y, x) in parts]
    return torch.stack(aligned).mean(0)


def resize(images: Tensor, size: list[int]) -> Tensor:
    """Resizes (N, C, H, W) to (N, C, *size), bicubic and antialiased."""
    return functional.interpolate(images, size, mode="bicubic", antialias=True)


def _mirror_to(images: Tensor, size: list[int]) -> Tensor:
    """Extends (N, C, H, W) to the right and downwards to `size` by its mirror image, repeated as often as needed."""
    for axis, side in enumerate(size, start=2):
        if side > (own := images.shape[axis]):
            index = torch.arange(side, device=images.device) % (2 * own - 2)
            images = images.index_select(axis, torch.minimum(index, 2 * own - 2 - index))
    return images
