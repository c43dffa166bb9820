"""The frame graph: uint8 BGR frame -> generator -> uint8 BGR frame, so that no caller can get range, layout or colours wrong."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.training.networks import ResnetGenerator


class FrameGraph(nn.Module):
    """(1, H, W, 3) uint8 BGR -> (1, H, W, 3) uint8 BGR, any H and W from 16 up: padded and cropped inside.

    The casts are the first and the last node, the only place where TensorRT takes uint8. Colour order and input range are
    folded into the first and last convolution, where they cost nothing. keep_colours: see `with_colours_of`.
    """

    def __init__(self, generator: ResnetGenerator, keep_colours: float = 0.0) -> None:
        super().__init__()
        self.stride = generator.stride
        self.keep_colours = keep_colours
        self.generator = fold_colours(generator).eval()

    def forward(self, frame: Tensor) -> Tensor:
        x = frame.float().permute(0, 3, 1, 2)  # (1, 3, H, W) in [0, 255], BGR
        height, width = x.shape[2], x.shape[3]
        padded = functional.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="reflect")
        out = self.generator.model(padded)[:, :, :height, :width] * 127.5  # in [-127.5, 127.5], BGR
        out = out + x if self.generator.skip else out + 127.5
        if self.keep_colours:
            out = with_colours_of(x, out, self.keep_colours)
        return torch.clamp(out, 0.0, 255.0).round().permute(0, 2, 3, 1).to(torch.uint8)


def with_colours_of(source: Tensor, styled: Tensor, share: float) -> Tensor:
    """`styled` in its own brightness, its colours moved by `share` towards the source's; (N, 3, H, W) BGR, both.

    At 1 this is luminance-only transfer (Gatys et al. 2016, "Preserving Color in Neural Artistic Style Transfer"). The
    rows of the matrix take the difference in colour less its brightness (ITU-R BT.601).
    """
    brightness = torch.tensor([0.114, 0.587, 0.299], dtype=styled.dtype)
    matrix = share * (torch.eye(3, dtype=styled.dtype) - brightness)
    return styled + functional.conv2d(source - styled, matrix[:, :, None, None])


@torch.no_grad()
def fold_colours(generator: ResnetGenerator) -> ResnetGenerator:
    """A copy whose `model` takes BGR in [0, 255] and gives BGR in [-1, 1].

    conv(x / 127.5 - 1) = conv'(x) with w' = w / 127.5 and b' = b - sum(w): exact, because the padding before the first
    convolution is reflected, not zero. The bias keeps the sums centred, which bf16 and fp16 need.
    """
    generator = copy.deepcopy(generator).float()
    convolutions = [layer for layer in generator.modules() if isinstance(layer, nn.Conv2d)]
    first, last = convolutions[0], convolutions[-1]
    shift = -first.weight.sum(dim=(1, 2, 3))
    first.bias = nn.Parameter(shift if first.bias is None else first.bias + shift)
    first.weight.copy_(first.weight.flip(1) / 127.5)
    last.weight.copy_(last.weight.flip(0))
    if last.bias is not None:
        last.bias.copy_(last.bias.flip(0))
    return generator


@torch.no_grad()
def reference(generator: ResnetGenerator, frame: Tensor, keep_colours: float = 0.0) -> Tensor:
    """What the graph must give, written out plainly: (H, W, 3) uint8 BGR -> the same, in fp32."""
    height, width = frame.shape[:2]
    x = frame.flip(2).permute(2, 0, 1)[None].float() / 127.5 - 1.0  # (1, 3, H, W) RGB
    x = functional.pad(x, (0, -width % generator.stride, 0, -height % generator.stride), mode="reflect")
    x = generator.float().eval().forward(x)[0, :, :height, :width]
    styled = ((x + 1.0) * 127.5).permute(1, 2, 0).flip(2)  # (H, W, 3) BGR
    blue, green, red = (frame.float() - styled).unbind(2)
    brightness = 0.114 * blue + 0.587 * green + 0.299 * red
    moved = torch.stack([blue - brightness, green - brightness, red - brightness], dim=2)
    return (styled + keep_colours * moved).clamp(0, 255).round().byte()
