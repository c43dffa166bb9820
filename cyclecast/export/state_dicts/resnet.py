"""ResNet generators of CycleGAN and CUT."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cyclecast.export.state_dicts.layers import Layer, Layout, conv_and_norm, first_channels, image_channels, last_channels
from cyclecast.training.networks.layers import Upsample


def resnet_layout(tensors: Mapping[str, Tensor], resize_mode: Upsample) -> Layout:
    """Finds the blocks, the channels, the down- and the upsampling. resize_mode: upsampling of a resize-convolution.

    Upsampling is one module here (`upsample_block`). There, a deconvolution is one, too; a low-pass filter (CUT) and its
    convolution are two; a resize-convolution is three: Upsample, ReflectionPad2d, Conv2d.
    """
    blocks = len({key.split(".conv_block.")[0] for key in tensors if ".conv_block." in key})
    dropout = any(key.endswith(".conv_block.6.weight") and value.ndim == 4 for key, value in tensors.items())
    second = 6 if dropout else 5  # index of the block's second convolution
    blur_down = "model.7.filt" in tensors
    layers, filters, at = [conv_and_norm("model.1")], {}, 4
    for _ in range(2):
        layers.append(conv_and_norm(f"model.{at}"))
        if blur_down:
            filters[f"model.{at + 3}.filt"] = f"model.{at + 3}.filt"
        at += 4 if blur_down else 3
    for block in (f"model.{index}.conv_block" for index in range(at, at + blocks)):
        layers += [conv_and_norm(f"{block}.1"), Layer(f"{block}.{second}", f"{block}.5", f"{block}.{second + 1}", f"{block}.6")]
    theirs = ours = at + blocks
    upsample, before, inside = _upsampling(tensors, theirs, resize_mode)
    for _ in range(2):
        if upsample == "antialias":
            filters[f"model.{theirs}.filt"] = f"model.{ours}.0.filt"
        theirs += before
        layers.append(Layer(f"model.{theirs}", f"model.{ours}{inside}", f"model.{theirs + 1}", f"model.{ours + 1}"))
        theirs, ours = theirs + 3, ours + 3
    last = f"model.{theirs + 1}"
    layers.append(Layer(last, f"model.{ours + 1}"))
    inputs, ngf = first_channels(tensors, "model.1.weight")
    architecture = {"generator": "resnet", "blocks": blocks, "ngf": ngf, "upsample": upsample}
    architecture |= {"downsample": "antialias"} if blur_down else {}
    architecture |= image_channels(inputs, last_channels(tensors, f"{last}.weight", 0))
    return Layout(architecture, layers, filters)


def _upsampling(tensors: Mapping[str, Tensor], at: int, resize_mode: Upsample) -> tuple[Upsample, int, str]:
    """Returns the upsampling, the number of their modules before the convolution, and the place of the convolution in ours.

    at: the index of their first module.
    """
    if f"model.{at}.filt" in tensors:
        return "antialias", 1, ".1"
    return ("deconvolution", 0, "") if f"model.{at}.weight" in tensors else (resize_mode, 2, ".1")
