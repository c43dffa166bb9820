"""Maps the layers of another project's generator to ours, and converts their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cyclecast.errors import ModelError
from cyclecast.export.state_dicts.names import first_names, last_name, module_name, shape_text
from cyclecast.training.networks import ImageGenerator

STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Layer:
    """A convolution and the norm that follows it, if there is one: the names of both modules in their network and in ours."""

    theirs: str
    ours: str
    their_norm: str = ""
    our_norm: str = ""


@dataclass(frozen=True)
class Layout:
    """The architecture and the layers of a generator, as its keys show them."""

    architecture: dict[str, Any]
    """Arguments of `build_generator`, without the norm."""
    layers: list[Layer]
    filters: dict[str, str] = field(default_factory=dict)
    """Low-pass filters: the tensor's name in their network -> in ours."""
    is_ours: bool = False
    """Whether only our own networks have such keys."""


def conv_and_norm(name: str) -> Layer:
    """Returns a convolution with the same name in both networks, and the norm that follows it."""
    norm = f"{module_name(name)}.{int(last_name(name)) + 1}"
    return Layer(name, name, norm, norm)


def first_channels(tensors: Mapping[str, Tensor], key: str) -> tuple[int, int]:
    """Returns input and output channels of the first convolution. Raises ModelError if it is missing."""
    if key not in tensors or tensors[key].ndim != 4 or not tensors[key].numel():
        raise ModelError(f"has no convolution {key}, expected as the first of a generator")
    return tensors[key].shape[1], tensors[key].shape[0]


def last_channels(tensors: Mapping[str, Tensor], key: str, axis: int) -> int:
    """Returns the output channels of the last convolution, at `axis` of its weight; 3 if it is missing (see `convert`)."""
    return tensors[key].shape[axis] if key in tensors and tensors[key].ndim == 4 else 3


def image_channels(inputs: int, outputs: int) -> dict[str, int]:
    """Returns the arguments of `build_generator` for channels that are not RGB."""
    return {name: count for name, count in (("in_channels", inputs), ("out_channels", outputs)) if count != 3}


def convert(tensors: Mapping[str, Tensor], layout: Layout, network: ImageGenerator, description: str) -> dict[str, Tensor]:
    """Converts the tensors into a state dict of `network`.

    Raises ModelError if a tensor is missing, has another shape, or is not expected. An instance norm cancels the bias before it,
    which is dropped. A batch norm's running mean includes the bias before it, which is subtracted. Statistics that `network`
    does not use are dropped.
    """
    remaining, converted = dict(tensors), {}

    def take(key: str, like: Tensor, absent: Tensor | None = None) -> Tensor:
        value = remaining.pop(key, absent)
        if value is None:
            raise ModelError(f"has no {key}, expected in {description}")
        if value.shape != like.shape:
            raise ModelError(f"{key} is {shape_text(value)}, expected {shape_text(like)} in {description}")
        return value

    for layer in layout.layers:
        convolution = network.get_submodule(layer.ours)
        assert isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d)
        converted[f"{layer.ours}.weight"] = take(f"{layer.theirs}.weight", convolution.weight)
        norm = network.get_submodule(layer.our_norm) if layer.our_norm else nn.Identity()
        zeros = torch.zeros(convolution.out_channels)
        if isinstance(norm, nn.Identity):
            converted[f"{layer.ours}.bias"] = take(f"{layer.theirs}.bias", zeros, absent=zeros)
            continue
        assert isinstance(norm, nn.BatchNorm2d | nn.InstanceNorm2d)
        bias = torch.zeros(norm.num_features)
        if norm.num_features == convolution.out_channels:  # not behind PixelShuffle, where a norm cancels no bias
            bias = take(f"{layer.theirs}.bias", zeros, absent=zeros)
        zeros = torch.zeros(norm.num_features)
        statistics = {name: f"{layer.their_norm}.{name}" for name in STATISTICS}
        if isinstance(norm, nn.BatchNorm2d):
            taken = {name: take(f"{layer.their_norm}.{name}", zeros) for name in ("weight", "bias", *STATISTICS)}
            taken |= {"running_mean": taken["running_mean"] - bias, "num_batches_tracked": torch.tensor(0)}
        else:
            taken = {name: take(f"{layer.their_norm}.{name}", zeros) for name, _ in norm.named_parameters()}
            for name in statistics.values():
                take(name, zeros, absent=zeros)
        converted |= {f"{layer.our_norm}.{name}": value for name, value in taken.items()}
    for theirs, ours in layout.filters.items():
        converted[ours] = take(theirs, network.get_buffer(ours))
    if remaining:
        raise ModelError(f"holds {first_names(remaining)}, not expected in {description}")
    return converted
