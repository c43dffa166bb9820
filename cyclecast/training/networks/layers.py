"""Layers that the networks share: norms, padding, upsampling, initial weights, the average of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import get_ema_multi_avg_fn

Upsample = Literal["deconvolution", "resize", "nearest", "pixelshuffle", "antialias"]
Downsample = Literal["stride", "antialias"]
Norm = Literal["instance", "batch", "none"]
AnyNorm = Norm | Literal["affine"]
"""Norms of generators to export. affine: instance norm with a learned scale and shift, which is batch norm by the statistics of
one image."""
Border = Literal["reflect", "zeros"]
Module = TypeVar("Module", bound=nn.Module)


def norm_layer(channels: int, norm: AnyNorm = "instance") -> nn.Module:
    """Returns a norm layer. instance: without learned scale and running statistics (CycleGAN). batch: with both (DCGAN)."""
    if norm == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels) if norm == "batch" else InstanceNorm(channels, affine=norm == "affine")


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm that keeps the channels-last layout when it trains on a CPU.

    PyTorch's own converts to the contiguous layout and back at every norm, which costs more than the layout saves in the
    convolutions.
    """

    def forward(self, input: Tensor) -> Tensor:
        is_training = input.device.type == "cpu" and input.dtype != torch.float64 and torch.is_grad_enabled()
        is_channels_last = input.is_contiguous(memory_format=torch.channels_last) and not input.is_contiguous()
        if is_training and is_channels_last and not torch.compiler.is_compiling():
            normalized = instance_norm_by_sample(input, self.eps)
            return normalized if self.weight is None else normalized * self.weight[:, None, None] + self.bias[:, None, None]
        return super().forward(input)


def instance_norm_by_sample(x: Tensor, eps: float) -> Tensor:
    """Computes instance norm as the batch norm of each sample: (N, C, H, W) -> the same, in the memory format of `x`."""
    scale, shift = x.new_ones(x.shape[1], dtype=torch.float32), x.new_zeros(x.shape[1], dtype=torch.float32)  # fp32 statistics
    # The backward pass of `split` copies its parts into one tensor, so one sample is not split.
    samples = x.split(1) if len(x) > 1 else [x]
    normalized = [functional.batch_norm(sample, None, None, scale, shift, True, 0.0, eps) for sample in samples]
    return normalized[0] if len(normalized) == 1 else torch.cat(normalized)


class ReflectionPad(nn.ReflectionPad2d):
    """Reflection padding in the dtype of its input: autocast on the CPU would convert to fp32 and back."""

    def forward(self, input: Tensor) -> Tensor:
        device_type = input.device.type
        if not torch.is_autocast_enabled(device_type):
            return super().forward(input)
        with torch.autocast(device_type, enabled=False):
            return super().forward(input)


def upsample_block(
    in_channels: int, out_channels: int, mode: Upsample, kernel: int = 3, bias: bool = False, border: Border = "reflect"
) -> nn.Module:
    """Returns layers that upsample by 2: (N, C, H, W) -> (N, C', 2H, 2W). kernel: of the deconvolution, 3 (CycleGAN) or 4.

    resize: bilinear, then a convolution, which draws no checkerboard (Odena et al. 2016). nearest: the same after nearest
    neighbor, for weights that were trained so; slopes then show as rows of dots. pixelshuffle: a convolution to four values per
    pixel that form 2x2 pixels (Shi et al. 2016), equal ones initially. antialias: a fixed low-pass filter, then a convolution
    (CUT, Park et al. 2020). border: padding of the convolution of resize and nearest; PyTorch-GAN's has zeros.
    """
    if mode == "deconvolution":
        return nn.ConvTranspose2d(in_channels, out_channels, kernel, stride=2, padding=1, output_padding=4 - kernel, bias=bias)
    if mode in ("resize", "nearest"):
        return nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear" if mode == "resize" else "nearest"),
            nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode=border, bias=bias),
        )
    if mode == "antialias":
        return nn.Sequential(BlurUp(in_channels), nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias))
    return PixelShuffleUp(in_channels, out_channels, bias)


class BlurDown(nn.Module):
    """Low-pass filter, then every second pixel (Zhang 2019, "Making Convolutional Networks Shift-Invariant Again").

    (N, C, H, W) -> (N, C, H / 2, W / 2), reflection padded. `filt` is a buffer, as in CUT's files.
    """

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", _binomial_filter((1.0, 2.0, 1.0), channels))  # (C, 1, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), self.filt, stride=2, groups=x.shape[1])


class BlurUp(nn.Module):
    """Zeros between the pixels, then a low-pass filter: (N, C, H, W) -> (N, C, 2H, 2W), border replicated."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", 4 * _binomial_filter((1.0, 3.0, 3.0, 1.0), channels))  # (C, 1, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
        # Of the 2H + 4 rows of the full result, the outer three on each side lack neighbors; one more row belongs to the padding.
        return functional.conv_transpose2d(padded, self.filt, stride=2, padding=3, groups=x.shape[1])


def _binomial_filter(row: tuple[float, ...], channels: int) -> Tensor:
    """Builds a low-pass filter from the binomial coefficients of a row: (C, 1, K, K), with sum 1 for each channel."""
    weights = torch.tensor(row)
    return (torch.outer(weights, weights) / weights.sum() ** 2).repeat(channels, 1, 1, 1)


@runtime_checkable
class CustomInit(Protocol):
    """A module with its own initial weights: `initialize` calls `init_weights` last."""

    def init_weights(self) -> None:
        """Sets its weights in place, drawn from torch's generator."""


class PixelShuffleUp(nn.Sequential):
    """3x3 convolution to 4 C' channels, then (N, 4 C', H, W) -> (N, C', 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool) -> None:
        # Replicated at the border: a U-Net's innermost map is one pixel wide and cannot be reflected.
        convolution = nn.Conv2d(in_channels, 4 * out_channels, 3, padding=1, padding_mode="replicate", bias=bias)
        super().__init__(convolution, nn.PixelShuffle(2))
        self._weight = [convolution.weight]  # in a list, so that the state dict has no second key for it

    @torch.no_grad()
    def init_weights(self) -> None:
        """Sets equal weights for the four of a 2x2, so that no checkerboard shows at first (ICNR, Aitken et al. 2017)."""
        (weight,) = self._weight
        weight.copy_(weight[::4].repeat_interleave(4, dim=0))


def outputs_of(model: nn.Sequential, layers: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """Returns the outputs of `layers`, which are children of `model`, in its order, and runs nothing behind the last of them.

    An activation that works in place changes the output of the layer before it.
    """
    outputs: list[Tensor] = []
    for layer in model:
        x = layer(x)
        if layer in layers:
            outputs.append(x)
        if len(outputs) == len(set(layers)):
            break
    return outputs


def initialize(module: Module) -> Module:
    """Sets weights from N(0, 0.02), of batch norms from N(1, 0.02), biases 0 (DCGAN, section 4; CycleGAN, appendix 7.1).

    In place, drawn from torch's generator. Linear layers keep PyTorch's default.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
    for layer in module.modules():
        if isinstance(layer, CustomInit):
            layer.init_weights()
    return module


@torch.no_grad()
def init_he_residual(network: nn.Module, branches: Sequence[nn.Module]) -> None:
    """Sets weights of a network without norms that keep the variance from layer to layer (He et al. 2015), in place.

    branches: the last convolution of each residual branch; they are scaled so that all together add the variance of one.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            gain = len(branches) ** -0.5 if layer in branches else 1.0
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            layer.weight.mul_(gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, decay: float) -> None:
    """Sets average <- decay * average + (1 - decay) * current, for parameters and for batch norms' statistics."""
    get_ema_multi_avg_fn(decay)(list(average.parameters()), list(current.parameters()), 0)
    for averaged, latest in zip(average.buffers(), current.buffers(), strict=True):
        averaged.lerp_(latest, 1.0 - decay) if averaged.is_floating_point() else averaged.copy_(latest)
