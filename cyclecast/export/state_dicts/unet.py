"""U-Net generators of pix2pix."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cyclecast.errors import ModelError
from cyclecast.export.state_dicts.layers import Layer, Layout, conv_and_norm, first_channels, image_channels, last_channels


def unet_layout(tensors: Mapping[str, Tensor]) -> Layout:
    """Finds levels and channels. The names are the same in both networks; the levels are listed from the outside in."""
    downs = max(key.count("model.") for key in tensors) - 1
    if downs < 5:
        raise ModelError(f"a U-Net of {downs} halvings, expected 5 or more")
    levels = ["model.model" + ".1.model" * (depth > 0) + ".3.model" * (depth - 1) for depth in range(downs)]
    outermost, *middle, innermost = levels
    layers = [Layer(f"{outermost}.{at}", f"{outermost}.{at}") for at in (0, 3)]
    layers += [conv_and_norm(f"{level}.{at}") for level in middle for at in (1, 5)]
    layers += [Layer(f"{innermost}.1", f"{innermost}.1"), conv_and_norm(f"{innermost}.3")]
    inputs, ngf = first_channels(tensors, f"{outermost}.0.weight")
    architecture = {"generator": "unet", "downs": downs, "ngf": ngf, "upsample": "deconvolution"}
    architecture |= image_channels(inputs, last_channels(tensors, f"{outermost}.3.weight", 1))
    return Layout(architecture, layers)
