"""Generators of pytorch-CycleGAN-and-pix2pix as ours: their architecture is read off the keys and shapes of a state dict.

Their layers and ours stand in the same order; what differs is where some of them are kept, and biases that a norm cancels.
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
ENLARGING: dict[str, Upsample] = {"bilinear": "resize", "nearest": "nearest"}
"""Ways in which a resize-convolution enlarges, by PyTorch's names, and ours; the first is the usual one."""
WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")  # of DataParallel and torch.compile
STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Layer:
    """A convolution and the norm that follows it, if one does: the names of both modules there, and ours."""

    theirs: str
    ours: str
    their_norm: str = ""
    our_norm: str = ""


def read_state_dict(state: object, upsample: str | None = None) -> tuple[ImageGenerator, dict[str, Any]]:
    """The generator that a state dict holds, to be used, and its architecture as `build_generator` takes it.

    upsample: how a resize-convolution enlarges, bilinear (None) or nearest: no key tells. Batch norms use their running
    statistics. ModelError for anything but an RGB generator's state dict, ConfigError for an upsample that does not fit it.
    """
    if upsample not in (None, *ENLARGING):
        raise ConfigError(f"upsample must be {' or '.join(ENLARGING)}, got {upsample!r}")
    tensors = plain(state)
    if "model.model.0.weight" in tensors:
        architecture, layers = _unet(tensors)
    elif any(".conv_block." in key for key in tensors):
        architecture, layers = _resnet(tensors, ENLARGING[upsample or "bilinear"])
    else:
        raise ModelError(_stranger(tensors))
    architecture["norm"] = "batch" if any(_name(key) in STATISTICS for key in tensors) else "instance"
    if upsample and architecture["upsample"] == "deconvolution":
        raise ConfigError(f"this generator has deconvolutions, which do not enlarge by {upsample}: leave upsample out")
    with torch.device("meta"):  # shapes alone, until the weights come
        network = build_generator(**architecture)
    network.load_state_dict(_moved(tensors, layers, network, described(architecture)), assign=True)
    return network.eval().requires_grad_(False), architecture


def described(architecture: Mapping[str, Any]) -> str:
    """For people: `generator resnet, blocks 9, …`."""
    return ", ".join(f"{name} {value}" for name, value in architecture.items())


def plain(state: object) -> dict[str, Tensor]:
    """A state dict's tensors by their bare names, in fp32; ModelError if it is none.

    Without what makes no picture: how many batches a norm has seen, and the statistics that old instance norms kept unused.
    """
    if not isinstance(state, Mapping):
        raise ModelError(f"holds a {type(state).__name__}, expected a generator's state dict: tensors by name")
    others = [str(key) for key, value in state.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if others:
        raise ModelError(f"holds {_some(others)}, expected a generator's state dict: tensors alone; save it by itself")
    tensors = {WRAPPERS.sub("", key): value.detach() for key, value in state.items()}
    return {
        key: value.float().contiguous()
        for key, value in tensors.items()
        if _name(key) != "num_batches_tracked" and (_name(key) not in STATISTICS or f"{_module(key)}.weight" in tensors)
    }


def _resnet(tensors: Mapping[str, Tensor], enlarging: Upsample) -> tuple[dict[str, Any], list[Layer]]:
    """Resize-convolutions are three modules there (Upsample, ReflectionPad2d, Conv2d) and one here (`double`)."""
    blocks = len({key.split(".conv_block.")[0] for key in tensors if ".conv_block." in key})
    dropout = any(key.endswith(".conv_block.6.weight") and value.ndim == 4 for key, value in tensors.items())
    second = 6 if dropout else 5  # the block's other convolution
    up = 10 + blocks
    deconvolution = f"model.{up}.weight" in tensors
    more, inside = (0, "") if deconvolution else (2, ".1")  # modules there, place here
    layers = [_normed(f"model.{at}") for at in (1, 4, 7)]
    for block in (f"model.{at}.conv_block" for at in range(10, up)):
        layers += [_normed(f"{block}.1"), Layer(f"{block}.{second}", f"{block}.5", f"{block}.{second + 1}", f"{block}.6")]
    for way in (0, 1):
        there, here = up + more + (3 + more) * way, up + 3 * way
        layers.append(Layer(f"model.{there}", f"model.{here}{inside}", f"model.{there + 1}", f"model.{here + 1}"))
    layers.append(Layer(f"model.{up + 7 + 2 * more}", f"model.{up + 7}"))
    ngf = _width(tensors, "model.1.weight")
    upsample = "deconvolution" if deconvolution else enlarging
    return {"generator": "resnet", "blocks": blocks, "ngf": ngf, "upsample": upsample}, layers


def _unet(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[Layer]]:
    """Level by level from outside in; names agree."""
    downs = max(key.count("model.") for key in tensors) - 1
    if downs < 5:
        raise ModelError(f"a U-Net of {downs} halvings, expected 5 or more")
    levels = ["model.model" + ".1.model" * (depth > 0) + ".3.model" * (depth - 1) for depth in range(downs)]
    outermost, *middle, innermost = levels
    layers = [Layer(f"{outermost}.{at}", f"{outermost}.{at}") for at in (0, 3)]
    layers += [_normed(f"{level}.{at}") for level in middle for at in (1, 5)]
    layers += [Layer(f"{innermost}.1", f"{innermost}.1"), _normed(f"{innermost}.3")]
    ngf = _width(tensors, f"{outermost}.0.weight")
    return {"generator": "unet", "downs": downs, "ngf": ngf, "upsample": "deconvolution"}, layers


def _normed(name: str) -> Layer:
    """A convolution that is kept in the same place, and the norm in the place after it."""
    norm = f"{_module(name)}.{int(_name(name)) + 1}"
    return Layer(name, name, norm, norm)


def _moved(tensors: Mapping[str, Tensor], layers: list[Layer], network: ImageGenerator, what: str) -> dict[str, Tensor]:
    """The state dict that `network` takes; ModelError if a tensor is missing, of another shape, or left over.

    A bias before an instance norm cancels; before a batch norm it comes off the mean that this one subtracts.
    """
    left, moved = dict(tensors), {}

    def take(key: str, like: Tensor, absent: Tensor | None = None) -> Tensor:
        value = left.pop(key, absent)
        if value is None:
            raise ModelError(f"has no {key}, expected of {what}")
        if value.shape != like.shape:
            raise ModelError(f"{key} is {_shape(value)}, expected {_shape(like)} of {what}")
        return value

    for layer in layers:
        convolution = network.get_submodule(layer.ours)
        assert isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d)
        moved[f"{layer.ours}.weight"] = take(f"{layer.theirs}.weight", convolution.weight)
        zeros = torch.zeros(convolution.out_channels)
        bias = take(f"{layer.theirs}.bias", zeros, absent=zeros)
        if not layer.our_norm:
            moved[f"{layer.ours}.bias"] = bias
        elif isinstance(network.get_submodule(layer.our_norm), nn.BatchNorm2d):
            norm = {name: take(f"{layer.their_norm}.{name}", zeros) for name in ("weight", "bias", *STATISTICS)}
            norm |= {"running_mean": norm["running_mean"] - bias, "num_batches_tracked": torch.tensor(0)}
            moved |= {f"{layer.our_norm}.{name}": value for name, value in norm.items()}
    if left:
        raise ModelError(f"holds {_some(left)}, which has no place in {what}")
    return moved


def _width(tensors: Mapping[str, Tensor], key: str) -> int:
    """Channels that the first convolution makes."""
    if key not in tensors or tensors[key].ndim != 4 or not tensors[key].numel():
        raise ModelError(f"has no convolution {key}, expected as the first of a generator")
    return tensors[key].shape[0]


def _stranger(tensors: Mapping[str, Tensor]) -> str:
    """What a state dict is that is no generator's."""
    first, convolutions = next(iter(tensors), ""), [value for value in tensors.values() if value.ndim == 4]
    if first in ("model.0.weight", "net.0.weight") and convolutions and convolutions[-1].shape[0] == 1:
        return f"a discriminator ({first} is {_shape(tensors[first])}), expected a generator: the file with net_G in its name"
    return (
        f"holds {_some(tensors)}, expected a generator of {REPOSITORY}: "
        "a ResNet's model.10.conv_block.1.weight or a U-Net's model.model.0.weight"
    )


def _some(names: Iterable[str]) -> str:
    """The first three, and how many more."""
    all_names = list(names)
    return (", ".join(all_names[:3]) or "nothing") + (f" and {len(all_names) - 3} more" if len(all_names) > 3 else "")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _module(key: str) -> str:
    """`model.2.weight` -> `model.2`."""
    return key.rpartition(".")[0]


def _name(key: str) -> str:
    """`model.2.weight` -> `weight`."""
    return key.rpartition(".")[2]
