"""The graphs that export writes: uint8 BGR in and out, so that callers need not know ranges, layouts or color orders."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.export.gray import GRAY_WEIGHTS
from cyclecast.spec import SMALLEST_FRAME
from cyclecast.training.networks import FrameGenerator, ImageGenerator, LatentGenerator

MID_GRAY = 127.5  # gray levels: an image in [-1, 1] is (x - MID_GRAY) / MID_GRAY


class FrameGraph(nn.Module):
    """(1, H, W, 3) uint8 BGR -> (1, H, W, 3) uint8 BGR, any H and W from 16 up: padded and cropped inside.

    The casts are the first and the last node, because TensorRT supports uint8 nowhere else. Color order and input range are
    folded into the first and the last convolution, where they cost nothing. keep_colors: see `with_colors_of`. half: the
    network computes in fp16 except for its norms; everything outside of it stays in fp32. strength: share of the styled frame
    in the output; the rest is the input frame. 1 adds nothing to the graph. A network with one input channel sees the frame in
    gray (`to_gray`); one output channel fills all three.
    """

    def __init__(self, generator: ImageGenerator, keep_colors: float = 0.0, half: bool = False, strength: float = 1.0) -> None:
        super().__init__()
        self.stride, self.margin, self.least_side = generator.stride, generator.margin, generator.least_side
        self.gray: str | None = generator.gray if generator.in_channels == 1 else None
        self.keep_colors, self.strength = keep_colors, strength
        self.generator, self.centered = fold_colors(generator)
        self.generator.eval()
        self.dtype = torch.float32
        if half:
            self.dtype = torch.float16
            to_fp16(self.generator)

    def forward(self, frame: Tensor) -> Tensor:
        x = frame.float().permute(0, 3, 1, 2)  # (1, 3, H, W) in [0, 255], BGR
        seen = x if self.gray is None else to_gray(x, self.gray)
        padded = pad(seen - MID_GRAY if self.centered else seen, self.stride, self.margin, self.least_side)
        out = self.generator.model(padded.to(self.dtype)).float()  # BGR
        out = out[:, :, self.margin : self.margin + x.shape[2], self.margin : self.margin + x.shape[3]]
        if self.generator.out_channels == 1:
            out = out.expand(-1, 3, -1, -1)
        if self.generator.bounded:
            out = out * MID_GRAY  # in [-127.5, 127.5]
        out = out + x if self.generator.skip else out + MID_GRAY
        if self.keep_colors:
            out = with_colors_of(x, out, self.keep_colors)
        out = torch.clamp(out, 0.0, 255.0)
        if self.strength != 1:
            out = x + self.strength * (out - x)
        return round_levels(out).permute(0, 2, 3, 1).to(torch.uint8)


class LatentGraph(nn.Module):
    """(N, Z) float32 -> (N, H, W, 3) uint8 BGR; a gray generator's value in all three channels. half: as in `FrameGraph`."""

    def __init__(self, generator: LatentGenerator, half: bool = False) -> None:
        super().__init__()
        self.generator = copy.deepcopy(generator).float().eval()
        self.dtype = torch.float32
        if half:
            self.dtype = torch.float16
            to_fp16(self.generator)

    def forward(self, latent: Tensor) -> Tensor:
        images = self.generator(latent.to(self.dtype)).float().flip(1)  # (N, C, H, W) in [-1, 1], BGR
        levels = round_levels(torch.clamp((images + 1.0) * MID_GRAY, 0.0, 255.0)).permute(0, 2, 3, 1)
        return levels.expand(-1, -1, -1, 3).to(torch.uint8)


def to_fp16(network: nn.Module) -> None:
    """Converts weights to fp16, in place. Norms stay in fp32: their sums over a frame exceed the range of fp16."""
    network.half()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.InstanceNorm2d | nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(module, name, NormInFp32(child))


class NormInFp32(nn.Module):
    """(N, C, H, W) fp16 -> the same, computed in fp32."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm.float()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x.float())
        return out.to(x.dtype)


def pad(x: Tensor, stride: int, margin: int = 0, least_side: int = SMALLEST_FRAME) -> Tensor:
    """Pads (N, C, H, W) by `margin` on each side, then right and below up to multiples of `stride`; 2 * margin is one.

    The sides grow to `least_side` at least, twice the stride at most. Mirrors the frame, or repeats its last rows and columns
    where the smallest frame may be too small for a mirror (strides from 16 up, margins).
    """
    # Not by -H % stride: the exporter cannot follow that through a U-Net's halvings, and ONNX divides towards 0.
    whole = [(side + stride - 1) // stride * stride for side in x.shape[2:]]
    if least_side > max(stride, SMALLEST_FRAME):
        whole = [torch.sym_max(side, least_side) for side in whole]
    below, right = (padded - side + margin for padded, side in zip(whole, x.shape[2:], strict=True))
    mirrors = not margin and max(stride, least_side // 2) < SMALLEST_FRAME
    return functional.pad(x, (margin, right, margin, below), mode="reflect" if mirrors else "replicate")


def to_gray(x: Tensor, gray: str) -> Tensor:
    """Converts (N, 3, H, W) BGR in [0, 255] to gray (N, 1, H, W). The luma is rounded, as in an image file."""
    weights = torch.tensor(GRAY_WEIGHTS[gray], dtype=x.dtype)
    out = functional.conv2d(x, weights[None, :, None, None])
    return round_levels(out) if gray == "luma" else out


def round_levels(x: Tensor) -> Tensor:
    """Rounds gray levels, halves up. ONNX's Round, halves to even, would run on the CPU in WebGPU, which has no kernel for it."""
    return torch.floor(x + 0.5)


def with_colors_of(source: Tensor, styled: Tensor, share: float) -> Tensor:
    """Moves the colors of `styled` by `share` towards the source's, but keeps its brightness. Both are (N, 3, H, W) BGR.

    At 1 this is luminance-only transfer (Gatys et al. 2016, "Preserving Color in Neural Artistic Style Transfer"). The
    matrix removes the brightness (ITU-R BT.601) from the difference in color.
    """
    brightness = torch.tensor(GRAY_WEIGHTS["luma"], dtype=styled.dtype)
    matrix = share * (torch.eye(3, dtype=styled.dtype) - brightness)
    return styled + functional.conv2d(source - styled, matrix[:, :, None, None])


@torch.no_grad()
def fold_colors(generator: ImageGenerator) -> tuple[ImageGenerator, bool]:
    """Returns a copy whose `model` has BGR input and output, and whether its input range is [-127.5, 127.5] or else [0, 255].

    conv(x / 127.5 - 1) = conv'(x) with w' = w / 127.5 and b' = b - sum(w): exact where the padding before the first
    convolution is a reflection, as in the ResNet. A U-Net pads with zeros, so that its input must be centered first. The bias
    keeps the sums centered, which bf16 and fp16 need. An unbounded network outputs gray levels, the others [-1, 1].
    """
    generator = copy.deepcopy(generator).float()
    layers = [layer for layer in generator.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    first, last = layers[0], layers[-1]
    centered = first.padding != (0, 0) and first.padding_mode == "zeros"
    if not centered:
        shift = -first.weight.sum(dim=(1, 2, 3))
        first.bias = nn.Parameter(shift if first.bias is None else first.bias + shift)
    first.weight.copy_(first.weight[:, _bgr_order(first.in_channels)] / MID_GRAY)
    order = _bgr_order(last.out_channels)
    last.weight.copy_(last.weight[:, order] if isinstance(last, nn.ConvTranspose2d) else last.weight[order])
    if last.bias is not None:
        last.bias.copy_(last.bias[order])
    if not generator.bounded:
        last.weight.mul_(MID_GRAY)
        if last.bias is not None:
            last.bias.mul_(MID_GRAY)
    return generator, centered


def _bgr_order(channels: int) -> Tensor:
    """Returns the channel order from RGB to BGR; several channels of one color (PixelShuffle, PixelUnshuffle) stay together."""
    if channels == 1:
        return torch.tensor([0])
    return torch.arange(channels).view(3, -1).flip(0).flatten()


def without_padding(convolution: nn.Module) -> None:
    """Makes a convolution leave out its padding, in place. Its weights stay as they are."""
    assert isinstance(convolution, nn.Conv2d)
    convolution.padding, convolution.padding_mode = (0, 0), "zeros"


@torch.no_grad()
def reference(generator: ImageGenerator, frame: Tensor, keep_colors: float = 0.0, strength: float = 1.0) -> Tensor:
    """Computes what the graph computes, by the plain formula in fp32: (H, W, 3) uint8 BGR -> the same."""
    (height, width), margin = frame.shape[:2], generator.margin
    x = frame.flip(2).permute(2, 0, 1)[None].float()  # (1, 3, H, W) RGB
    if generator.in_channels == 1:
        x = to_gray(x.flip(1), generator.gray)
    x = x / MID_GRAY - 1.0
    generator.float().eval()
    out: Tensor
    if isinstance(generator, FrameGenerator):  # as in `BlockGraph`: a block more, and no padding in the first convolution
        layers = copy.deepcopy(generator.model)
        without_padding(layers[1])
        out = layers(pad(x, generator.stride, margin + generator.stride, generator.least_side))
        out = out[:, :, margin : margin + height, margin : margin + width]
        out = x + out if generator.skip else out
    else:
        out = generator(pad(x, generator.stride, 0, generator.least_side))
    x = out[0, :, :height, :width]
    styled = ((x + 1.0) * MID_GRAY).expand(3, -1, -1).permute(1, 2, 0).flip(2)  # (H, W, 3) BGR
    blue, green, red = (frame.float() - styled).unbind(2)
    brightness = 0.114 * blue + 0.587 * green + 0.299 * red
    moved = torch.stack([blue - brightness, green - brightness, red - brightness], dim=2)
    styled = (styled + keep_colors * moved).clamp(0, 255)
    return (strength * styled + (1 - strength) * frame).round().byte()
