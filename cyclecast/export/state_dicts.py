"""Reads generators of pytorch-CycleGAN-and-pix2pix: the keys and shapes of a state dict show the architecture.

Their networks have the same layers as ours, in the same order. Some layers have other names, and some convolutions have biases
that the following norm cancels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cyclecast.errors import ConfigError, ModelError
from cyclecast.training.networks import ImageGenerator, build_generator
from cyclecast.training.networks.layers import Upsample

REPOSITORY = "pytorch-CycleGAN-and-pix2pix"
UPSAMPLE_MODES: dict[str, Upsample] = {"bilinear": "resize", "nearest": "nearest"}
"""Interpolation of a resize-convolution in PyTorch's terms -> our `upsample`. The first one is the default."""
WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")  # prefixes of DataParallel and torch.compile
STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Layer:
    """A convolution and the norm that follows it, if there is one: the names of both modules in their network and in ours."""

    theirs: str
    ours: str
    their_norm: str = ""
    our_norm: str = ""


def read_state_dict(state: object, upsample: str | None = None) -> tuple[ImageGenerator, dict[str, Any]]:
    """Returns the generator in a state dict, in eval mode, and its architecture as arguments of `build_generator`.

    upsample: interpolation of the resize-convolutions, bilinear (None) or nearest; the keys do not show it. Batch norms use
    their running statistics. Raises ModelError if this is not the state dict of an RGB generator, and ConfigError if the
    generator has no such upsample.
    """
    if upsample not in (None, *UPSAMPLE_MODES):
        raise ConfigError(f"upsample must be {' or '.join(UPSAMPLE_MODES)}, got {upsample!r}")
    tensors = bare_tensors(state)
    if "model.model.0.weight" in tensors:
        architecture, layers = _unet(tensors)
    elif any(".conv_block." in key for key in tensors):
        architecture, layers = _resnet(tensors, UPSAMPLE_MODES[upsample or "bilinear"])
    else:
        raise ModelError(_rejection(tensors))
    architecture["norm"] = "batch" if any(_last_name(key) in STATISTICS for key in tensors) else "instance"
    if upsample and architecture["upsample"] == "deconvolution":
        raise ConfigError("upsample is for resize-convolutions, but this generator has deconvolutions: leave upsample out")
    with torch.device("meta"):  # allocates no memory: the weights come from the file
        network = build_generator(**architecture)
    network.load_state_dict(_convert(tensors, layers, network, describe_architecture(architecture)), assign=True)
    return network.eval().requires_grad_(False), architecture


def describe_architecture(architecture: Mapping[str, Any]) -> str:
    """The architecture as text: `generator resnet, blocks 9, …`."""
    return ", ".join(f"{name} {value}" for name, value in architecture.items())


def bare_tensors(state: object) -> dict[str, Tensor]:
    """The tensors of a state dict in fp32, by their names without wrappers; ModelError if it is not a state dict.

    Leaves out what does not affect the output: the batch counts of norms, and the unused statistics of old instance norms.
    """
    if not isinstance(state, Mapping):
        raise ModelError(f"holds a {type(state).__name__}, expected a generator's state dict: tensors by name")
    others = [str(key) for key, value in state.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if others:
        raise ModelError(f"holds {_first_names(others)}, expected only tensors: save the generator's state dict by itself")
    tensors = {WRAPPERS.sub("", key): value.detach() for key, value in state.items()}
    return {
        key: value.float().contiguous()
        for key, value in tensors.items()
        if _last_name(key) != "num_batches_tracked"
        and (_last_name(key) not in STATISTICS or f"{_module_name(key)}.weight" in tensors)
    }


def _resnet(tensors: Mapping[str, Tensor], resize_mode: Upsample) -> tuple[dict[str, Any], list[Layer]]:
    """A resize-convolution is three modules there (Upsample, ReflectionPad2d, Conv2d) and one here (`upsample_block`)."""
    blocks = len({key.split(".conv_block.")[0] for key in tensors if ".conv_block." in key})
    dropout = any(key.endswith(".conv_block.6.weight") and value.ndim == 4 for key, value in tensors.items())
    second = 6 if dropout else 5  # index of the block's second convolution
    up = 10 + blocks
    deconvolution = f"model.{up}.weight" in tensors
    extra_modules, inside = (0, "") if deconvolution else (2, ".1")  # modules that ours lacks; where ours keeps the convolution
    layers = [_conv_and_norm(f"model.{at}") for at in (1, 4, 7)]
    for block in (f"model.{at}.conv_block" for at in range(10, up)):
        layers += [_conv_and_norm(f"{block}.1"), Layer(f"{block}.{second}", f"{block}.5", f"{block}.{second + 1}", f"{block}.6")]
    for step in (0, 1):
        their_index, our_index = up + extra_modules + (3 + extra_modules) * step, up + 3 * step
        layers.append(
            Layer(f"model.{their_index}", f"model.{our_index}{inside}", f"model.{their_index + 1}", f"model.{our_index + 1}")
        )
    layers.append(Layer(f"model.{up + 7 + 2 * extra_modules}", f"model.{up + 7}"))
    ngf = _first_channels(tensors, "model.1.weight")
    upsample = "deconvolution" if deconvolution else resize_mode
    return {"generator": "resnet", "blocks": blocks, "ngf": ngf, "upsample": upsample}, layers


def _unet(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[Layer]]:
    """The names are the same in both networks. The levels are listed from the outside in."""
    downs = max(key.count("model.") for key in tensors) - 1
    if downs < 5:
        raise ModelError(f"a U-Net of {downs} halvings, expected 5 or more")
    levels = ["model.model" + ".1.model" * (depth > 0) + ".3.model" * (depth - 1) for depth in range(downs)]
    outermost, *middle, innermost = levels
    layers = [Layer(f"{outermost}.{at}", f"{outermost}.{at}") for at in (0, 3)]
    layers += [_conv_and_norm(f"{level}.{at}") for level in middle for at in (1, 5)]
    layers += [Layer(f"{innermost}.1", f"{innermost}.1"), _conv_and_norm(f"{innermost}.3")]
    ngf = _first_channels(tensors, f"{outermost}.0.weight")
    return {"generator": "unet", "downs": downs, "ngf": ngf, "upsample": "deconvolution"}, layers


def _conv_and_norm(name: str) -> Layer:
    """A convolution with the same name in both networks, and the norm that follows it."""
    norm = f"{_module_name(name)}.{int(_last_name(name)) + 1}"
    return Layer(name, name, norm, norm)


def _convert(tensors: Mapping[str, Tensor], layers: list[Layer], network: ImageGenerator, description: str) -> dict[str, Tensor]:
    """Converts the tensors into a state dict of `network`; ModelError if one is missing, has another shape, or is left over.

    An instance norm cancels the bias before it, which is dropped. A batch norm's running mean includes the bias before it, which
    is subtracted.
    """
    remaining, converted = dict(tensors), {}

    def take(key: str, like: Tensor, absent: Tensor | None = None) -> Tensor:
        value = remaining.pop(key, absent)
        if value is None:
            raise ModelError(f"has no {key}, expected of {description}")
        if value.shape != like.shape:
            raise ModelError(f"{key} is {_shape_text(value)}, expected {_shape_text(like)} of {description}")
        return value

    for layer in layers:
        convolution = network.get_submodule(layer.ours)
        assert isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d)
        converted[f"{layer.ours}.weight"] = take(f"{layer.theirs}.weight", convolution.weight)
        zeros = torch.zeros(convolution.out_channels)
        bias = take(f"{layer.theirs}.bias", zeros, absent=zeros)
        if not layer.our_norm:
            converted[f"{layer.ours}.bias"] = bias
        elif isinstance(network.get_submodule(layer.our_norm), nn.BatchNorm2d):
            norm = {name: take(f"{layer.their_norm}.{name}", zeros) for name in ("weight", "bias", *STATISTICS)}
            norm |= {"running_mean": norm["running_mean"] - bias, "num_batches_tracked": torch.tensor(0)}
            converted |= {f"{layer.our_norm}.{name}": value for name, value in norm.items()}
    if remaining:
        raise ModelError(f"holds {_first_names(remaining)}, which has no place in {description}")
    return converted


def _first_channels(tensors: Mapping[str, Tensor], key: str) -> int:
    """Output channels of the first convolution."""
    if key not in tensors or tensors[key].ndim != 4 or not tensors[key].numel():
        raise ModelError(f"has no convolution {key}, expected as the first of a generator")
    return tensors[key].shape[0]


def _rejection(tensors: Mapping[str, Tensor]) -> str:
    """Why a state dict is not a generator's, as text."""
    first, convolutions = next(iter(tensors), ""), [value for value in tensors.values() if value.ndim == 4]
    if first in ("model.0.weight", "net.0.weight") and convolutions and convolutions[-1].shape[0] == 1:
        return (
            f"a discriminator ({first} is {_shape_text(tensors[first])}), expected a generator: the file with net_G in its name"
        )
    return (
        f"holds {_first_names(tensors)}, expected a generator of {REPOSITORY}: "
        "a ResNet's model.10.conv_block.1.weight or a U-Net's model.model.0.weight"
    )


def _first_names(names: Iterable[str]) -> str:
    """The first three names, and the number of the others."""
    all_names = list(names)
    return (", ".join(all_names[:3]) or "nothing") + (f" and {len(all_names) - 3} more" if len(all_names) > 3 else "")


def _shape_text(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _module_name(key: str) -> str:
    """`model.2.weight` -> `model.2`."""
    return key.rpartition(".")[0]


def _last_name(key: str) -> str:
    """`model.2.weight` -> `weight`."""
    return key.rpartition(".")[2]
