"""U-Net generators of pix2pix and of our own recipes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cyclecast.errors import ModelError
from cyclecast.export.state_dicts.layers import Layer, Layout, conv_and_norm, first_channels, image_channels, last_channels
from cyclecast.export.state_dicts.upsampling import Upsampling, upsampling_of_module


def unet_layout(tensors: Mapping[str, Tensor]) -> Layout:
    """Finds levels, channels, and how it upsamples. The names are the same in both networks."""
    downs = max(key.count("model.") for key in tensors) - 1
    if downs < 5:
        raise ModelError(f"a U-Net of {downs} halvings, expected 5 or more")
    levels = ["model.model" + ".1.model" * (depth > 0) + ".3.model" * (depth - 1) for depth in range(downs)]
    outermost, *middle, innermost = levels
    inputs, ngf = first_channels(tensors, f"{outermost}.0.weight")
    found = upsampling_of_module(tensors, f"{outermost}.3") or Upsampling("deconvolution", f"{outermost}.3")
    filters: dict[str, str] = {}

    def up(level: str, at: int, has_norm: bool = True) -> Layer:
        name = f"{level}.{at}"
        if found.low_pass is not None:
            filters[name + found.low_pass[1]] = name + found.low_pass[1]
        norm = f"{level}.{at + 1}" if has_norm else ""
        return Layer(name + found.inside, name + found.inside, norm, norm)

    layers = [Layer(f"{outermost}.0", f"{outermost}.0"), up(outermost, 3, has_norm=False)]
    layers += [layer for level in middle for layer in (conv_and_norm(f"{level}.1"), up(level, 5))]
    layers += [Layer(f"{innermost}.1", f"{innermost}.1"), up(innermost, 3)]
    architecture = {"generator": "unet", "downs": downs, "ngf": ngf, "upsample": found.upsample}
    axis = 1 if found.upsample == "deconvolution" else 0
    outputs = last_channels(tensors, f"{outermost}.3{found.inside}.weight", axis)
    outputs //= 4 if found.upsample == "pixelshuffle" else 1
    return Layout(architecture | image_channels(inputs, outputs), layers, filters, found.is_ours)
