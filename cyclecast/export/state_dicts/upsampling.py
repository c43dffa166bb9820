"""How a generator upsamples: from the names of the tensors at the place of its upsampling layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cyclecast.training.networks.layers import Border, Upsample


@dataclass(frozen=True)
class Upsampling:
    """One upsampling by 2: its modules in another network, which are one module in ours (`upsample_block`)."""

    upsample: Upsample
    """resize stands for any interpolation, because keys do not show which."""
    convolution: str
    """Name of the convolution in their network."""
    inside: str = ""
    """Name of the convolution inside our module."""
    low_pass: tuple[str, str] | None = None
    """Name of the low-pass filter's tensor in their network, and inside our module."""
    border: Border = "reflect"
    """Padding of the convolution after an interpolation."""
    is_ours: bool = False
    """Whether only cyclecast's own networks have these names."""


def upsampling_of_module(tensors: Mapping[str, Tensor], name: str) -> Upsampling | None:
    """Returns the upsampling in the module of this name: a deconvolution, or several layers in one module, as only ours has."""
    if f"{name}.weight" in tensors:
        return Upsampling("deconvolution", name)
    if f"{name}.0.filt" in tensors:
        return Upsampling("antialias", f"{name}.1", ".1", (f"{name}.0.filt", ".0.filt"), is_ours=True)
    if f"{name}.0.weight" in tensors:
        return Upsampling("pixelshuffle", f"{name}.0", ".0", is_ours=True)
    if f"{name}.1.weight" in tensors:
        return Upsampling("resize", f"{name}.1", ".1", is_ours=True)
    return None


def upsampling_of_row(tensors: Mapping[str, Tensor], at: int) -> tuple[Upsampling, int]:
    """Returns the upsampling of a ResNet that starts with the module `model.{at}`, and the index of the norm after it.

    A deconvolution is one module; CUT's low-pass filter and convolution are two, and so are PyTorch-GAN's Upsample and Conv2d;
    Upsample, ReflectionPad2d and Conv2d are three.
    """
    one = upsampling_of_module(tensors, f"model.{at}")
    if one is not None:
        return one, at + 1
    if f"model.{at}.filt" in tensors:
        return Upsampling("antialias", f"model.{at + 1}", ".1", (f"model.{at}.filt", ".0.filt")), at + 2
    if f"model.{at + 1}.weight" in tensors:
        return Upsampling("resize", f"model.{at + 1}", ".1", border="zeros"), at + 2
    return Upsampling("resize", f"model.{at + 2}", ".1"), at + 3
