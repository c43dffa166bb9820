"""ResNet generators of CycleGAN, CUT, PyTorch-GAN, pix2pixHD and our own recipes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from cyclecast.errors import ModelError
from cyclecast.export.state_dicts.layers import Layer, Layout, conv_and_norm, first_channels, image_channels, last_channels
from cyclecast.export.state_dicts.upsampling import upsampling_of_row

BLOCK = re.compile(r"model\.(\d+)\.(conv_block|block)\.")
MOST_HALVINGS = 6


def resnet_layout(tensors: Mapping[str, Tensor]) -> Layout:
    """Finds halvings, blocks, channels, and how it down- and upsamples."""
    places = {int(found[1]): found[2] for found in map(BLOCK.match, tensors) if found}
    first, blocks, inner = min(places), len(places), places[min(places)]
    inputs, ngf = first_channels(tensors, "model.1.weight")
    if inner == "block" and inputs == 1:
        raise ModelError(
            "a gray generator of PyTorch-GAN, whose output is smaller than its input: it pads by as many pixels as there are "
            "channels; expected 3 channels"
        )
    blur_down = "model.7.filt" in tensors
    step = 4 if blur_down else 3
    halvings = (first - 4) // step
    if not 0 < halvings <= MOST_HALVINGS:
        raise ModelError(f"its first block is model.{first}, after {halvings} halvings; expected 1 to {MOST_HALVINGS} of them")
    layers, filters = [conv_and_norm("model.1")], {}
    for at in range(4, 4 + halvings * step, step):
        layers.append(conv_and_norm(f"model.{at}"))
        if blur_down:
            filters[f"model.{at + 3}.filt"] = f"model.{at + 3}.filt"
    dropout = any(key.endswith(f".{inner}.6.weight") and value.ndim == 4 for key, value in tensors.items())
    second = 6 if dropout else 5  # index of the block's second convolution
    start = 4 + halvings * step
    for index in range(start, start + blocks):
        theirs, ours = f"model.{index}.{inner}", f"model.{index}.conv_block"
        layers.append(Layer(f"{theirs}.1", f"{ours}.1", f"{theirs}.2", f"{ours}.2"))
        layers.append(Layer(f"{theirs}.{second}", f"{ours}.5", f"{theirs}.{second + 1}", f"{ours}.6"))
    at = our_index = start + blocks
    found, norm = upsampling_of_row(tensors, at)
    for _ in range(halvings):
        current, norm = upsampling_of_row(tensors, at)
        if current.low_pass is not None:
            filters[current.low_pass[0]] = f"model.{our_index}{current.low_pass[1]}"
        ours = f"model.{our_index}{current.inside}"
        layers.append(Layer(current.convolution, ours, f"model.{norm}", f"model.{our_index + 1}"))
        at, our_index = norm + 2, our_index + 3
    last = f"model.{at + 1}"
    layers.append(Layer(last, f"model.{our_index + 1}"))
    architecture = {"generator": "resnet", "blocks": blocks, "ngf": ngf, "upsample": found.upsample}
    architecture |= {"downsample": "antialias"} if blur_down else {}
    architecture |= {"halvings": halvings} if halvings != 2 else {}
    architecture |= {"upsample_border": found.border} if found.border != "reflect" else {}
    architecture |= image_channels(inputs, last_channels(tensors, f"{last}.weight", 0))
    return Layout(architecture, layers, filters, found.is_ours)
