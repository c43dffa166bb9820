"""What the networks share: norms, padding, ways up, initial weights, averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import get_ema_multi_avg_fn

Upsample = Literal["deconvolution", "resize", "nearest", "pixelshuffle"]
Norm = Literal["instance", "batch", "none"]
Module = TypeVar("Module", bound=nn.Module)


def norm(channels: int, kind: Norm = "instance") -> nn.Module:
    """instance: as CycleGAN has it, no learnt scale, no running statistics. batch: as DCGAN has it."""
    if kind == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels) if kind == "batch" else InstanceNorm(channels)


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm that keeps the memory format of channels_last images when it trains on a CPU.

    PyTorch's own converts them to contiguous and back at every norm, which costs more than channels_last gains elsewhere.
    """

    def forward(self, input: Tensor) -> Tensor:
        is_training = input.device.type == "cpu" and input.dtype != torch.float64 and torch.is_grad_enabled()
        is_channels_last = input.is_contiguous(memory_format=torch.channels_last) and not input.is_contiguous()
        if is_training and is_channels_last and not torch.compiler.is_compiling():
            return instance_norm_by_sample(input, self.eps)
        return super().forward(input)


def instance_norm_by_sample(x: Tensor, eps: float) -> Tensor:
    """Instance norm as the batch norm of each sample: (N, C, H, W) -> the same, in the memory format of `x`."""
    scale, shift = x.new_ones(x.shape[1], dtype=torch.float32), x.new_zeros(x.shape[1], dtype=torch.float32)  # fp32 statistics
    samples = [functional.batch_norm(sample, None, None, scale, shift, True, 0.0, eps) for sample in x.split(1)]
    return samples[0] if len(samples) == 1 else torch.cat(samples)


class ReflectionPad(nn.ReflectionPad2d):
    """Reflection padding in the dtype it is given: autocast on the CPU would go up to fp32 for it and down again after."""

    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        if not torch.is_autocast_enabled(kind):
            return super().forward(input)
        with torch.autocast(kind, enabled=False):
            return super().forward(input)


def upsample_block(in_channels: int, out_channels: int, how: Upsample, kernel: int = 3, bias: bool = False) -> nn.Module:
    """(N, C, H, W) -> (N, C', 2H, 2W); kernel: of the deconvolution, 3 (CycleGAN) or 4 (DCGAN, pix2pix).

    `resize` enlarges, then convolves, so it draws no grid (Odena et al. 2016). Bilinear, because after nearest neighbor a
    difference between two pixels still depends on where in the grid it falls: slopes come out as rows of dots. `nearest` does
    just that, for weights that were trained with it. `pixelshuffle` makes four values for each and lays them out as 2x2 (Shi
    et al. 2016), equal ones at the start.
    """
    if how == "deconvolution":
        return nn.ConvTranspose2d(in_channels, out_channels, kernel, stride=2, padding=1, output_padding=4 - kernel, bias=bias)
    if how in ("resize", "nearest"):
        return nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear" if how == "resize" else "nearest"),
            nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect", bias=bias),
        )
    return PixelShuffleUp(in_channels, out_channels, bias)


@runtime_checkable
class OwnStart(Protocol):
    """A module whose weights do not start as the others do: `initialize` calls this last."""

    def start(self) -> None:
        """Sets its weights, in place, drawn from torch's generator."""


class PixelShuffleUp(nn.Sequential):
    """3x3 convolution to 4 C' channels, then (N, 4 C', H, W) -> (N, C', 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool) -> None:
        # Padded with its own border: a U-Net's innermost picture is one pixel, which has nothing to mirror.
        convolution = nn.Conv2d(in_channels, 4 * out_channels, 3, padding=1, padding_mode="replicate", bias=bias)
        super().__init__(convolution, nn.PixelShuffle(2))
        self._weight = [convolution.weight]  # in a list: no second name in the state dict

    @torch.no_grad()
    def start(self) -> None:
        """The four of a 2x2 start equal, so that the first pictures hold no grid (Aitken et al. 2017, ICNR)."""
        (weight,) = self._weight
        weight.copy_(weight[::4].repeat_interleave(4, dim=0))


def initialize(module: Module) -> Module:
    """Weights from N(0, 0.02), of batch norms from N(1, 0.02), biases 0 (DCGAN, section 4; CycleGAN, appendix 7.1).

    In place, drawn from torch's generator. Linear layers keep PyTorch's own start.
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
        if isinstance(layer, OwnStart):
            layer.start()
    return module


@torch.no_grad()
def he_init(network: nn.Module, branches: Sequence[nn.Module]) -> None:
    """Weights of a network without norms that neither swell nor fade what passes (He et al. 2015), in place.

    branches: the last convolution of each residual branch; their sum stays as large as one.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            share = len(branches) ** -0.5 if layer in branches else 1.0
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            layer.weight.mul_(share)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * current, in place: parameters, and the statistics of batch norms with them."""
    get_ema_multi_avg_fn(decay)(list(average.parameters()), list(current.parameters()), 0)
    for old, new in zip(average.buffers(), current.buffers(), strict=True):
        old.lerp_(new, 1.0 - decay) if old.is_floating_point() else old.copy_(new)
