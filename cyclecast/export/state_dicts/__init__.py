"""Reads generators of other projects and bare state dicts of ours: keys and shapes of the tensors show the architecture.

`find` finds the generator in a checkpoint; `resnet`, `unet` and `frame` read its layout, `upsampling` how it upsamples, `norms`
its norm layers; `layers` converts the tensors. Their networks have the same layers as ours, in the same order. Some layers have
other names, and some convolutions have biases that the following norm cancels. `overrides` is what keys do not show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.adopt.sizes import Finding
from cyclecast.export.gray import check_channels, check_gray
from cyclecast.export.state_dicts.architectures import name_architecture
from cyclecast.export.state_dicts.find import REPOSITORY, StoredGenerator, find_generator
from cyclecast.export.state_dicts.frame import frame_layout
from cyclecast.export.state_dicts.layers import Layout, convert
from cyclecast.export.state_dicts.names import last_name
from cyclecast.export.state_dicts.norms import find_norm
from cyclecast.export.state_dicts.overrides import UPSAMPLE_MODES, Overrides
from cyclecast.export.state_dicts.recorded import read_recorded
from cyclecast.export.state_dicts.resnet import resnet_layout
from cyclecast.export.state_dicts.unet import unet_layout
from cyclecast.training.networks import SETTINGS_KEY, ImageGenerator, build_generator


@dataclass(frozen=True)
class ForeignGenerator:
    """A generator from another project's file, or from a bare state dict, in eval mode."""

    network: ImageGenerator
    architecture: dict[str, Any]
    """Arguments of `build_generator`."""
    key: str
    """Its place in the file; empty if the file is its state dict."""
    findings: list[Finding]
    """What was inferred from the file, with the reasons."""


def read_state_dict(state: object, overrides: Overrides | None = None, direction: str | None = None) -> ForeignGenerator:
    """Reads the generator in a checkpoint. direction: chooses among several, where their names show it.

    Raises ModelError if there is no generator of frames, and ConfigError if an override is missing or does not fit it.
    """
    overrides = overrides or Overrides()
    overrides.check()
    check_gray(overrides.gray)
    key, stored, findings = find_generator(state, overrides.key, direction)
    if SETTINGS_KEY in stored.modules.get("", {}):
        network, architecture, finding = read_recorded(stored, overrides)
        return ForeignGenerator(network.eval().requires_grad_(False), architecture, key, [*findings, finding])
    if named := name_architecture(stored.tensors):
        raise ModelError(named)
    tensors = {name: value.detach().float().contiguous() for name, value in stored.tensors.items() if not _is_batch_count(name)}
    layout = _layout(tensors)
    architecture = dict(layout.architecture)
    findings += _norm(architecture, tensors, stored, layout, overrides)
    findings += _upsample(architecture, overrides.upsample)
    findings += _border(architecture, tensors, layout, overrides.border)
    findings += _skip(architecture, tensors, layout, overrides.skip)
    findings += _gray(architecture, overrides.gray)
    description = describe_architecture(architecture)
    with torch.device("meta"):  # allocates no memory: the weights come from the file
        network = build_generator(**architecture)
    network.load_state_dict(convert(tensors, layout, network, description), assign=True)
    return ForeignGenerator(network.eval().requires_grad_(False), architecture, key, findings)


def describe_architecture(architecture: Mapping[str, Any]) -> str:
    """Returns the architecture as text: `generator resnet, blocks 9, …`."""
    return ", ".join(f"{name} {value}" for name, value in architecture.items())


def _layout(tensors: Mapping[str, Tensor]) -> Layout:
    if "model.model.0.weight" in tensors:
        return unet_layout(tensors)
    return frame_layout(tensors) if any(".body." in name for name in tensors) else resnet_layout(tensors)


def _norm(
    architecture: dict[str, Any],
    tensors: Mapping[str, Tensor],
    stored: StoredGenerator,
    layout: Layout,
    overrides: Overrides,
) -> list[Finding]:
    if architecture["generator"] == "frame":
        if overrides.norm or overrides.batch_norm:
            raise ConfigError("this generator has no norms: leave norm and batch_norm out")
        return []
    versions = {name: facts.get("version") for name, facts in stored.modules.items()}
    architecture["norm"], findings = find_norm(tensors, layout, versions, overrides.norm, overrides.batch_norm)
    return findings


def _upsample(architecture: dict[str, Any], upsample: str | None) -> list[Finding]:
    """Sets the interpolation of resize-convolutions."""
    if architecture.get("upsample") != "resize":
        if upsample:
            raise ConfigError("upsample is for resize-convolutions, but this generator has none: leave upsample out")
        return []
    default, other, why = "bilinear", "nearest", "assumed, since the file does not record it"
    if architecture.get("upsample_border") == "zeros":
        default, other, why = "nearest", "bilinear", "as PyTorch-GAN, whose keys it has; the file does not record it"
    value = upsample or default
    architecture["upsample"] = UPSAMPLE_MODES[value]
    return [Finding("upsample", value, "as requested" if upsample else f"{why}; the alternative is --upsample {other}")]


def _is_like_ours(architecture: Mapping[str, Any], tensors: Mapping[str, Tensor], layout: Layout) -> bool:
    """Returns whether it may be our trainer's: by its keys, or because convolutions have a bias exactly if there are no norms."""
    biased = {f"{layer.theirs}.bias" in tensors for layer in layout.layers if layer.their_norm}
    norm = architecture.get("norm")
    return layout.is_ours or (norm in ("instance", "none") and biased == {norm == "none"})


def _border(architecture: dict[str, Any], tensors: Mapping[str, Tensor], layout: Layout, border: str | None) -> list[Finding]:
    """Sets the padding where a ResNet without norms halves the resolution: ours reflects, other projects' add zeros."""
    if architecture["generator"] != "resnet" or architecture["norm"] != "none":
        if border:
            raise ConfigError("border is for ResNets without norms: leave border out")
        return []
    architecture["border"] = border or ("reflect" if layout.is_ours else "zeros")
    if border:
        return [Finding("border", border, "as requested")]
    if layout.is_ours or not _is_like_ours(architecture, tensors, layout):
        return []
    why = "assumed, since the file does not record it; --border reflect is for a generator that cyclecast trained"
    return [Finding("border", "zeros", why)]


def _skip(architecture: dict[str, Any], tensors: Mapping[str, Tensor], layout: Layout, skip: bool | None) -> list[Finding]:
    """Sets whether the output is added to the input, as our trainer's setting `skip` does."""
    if skip:
        architecture["skip"] = True
        return [Finding("skip", "yes", "as requested")]
    if skip is None and _is_like_ours(architecture, tensors, layout):
        return [Finding("skip", "no", "assumed, since the file does not record it; --skip is for a run with skip = true")]
    return []


def _gray(architecture: dict[str, Any], gray: str | None) -> list[Finding]:
    """Adds a conversion to gray that is not the default to the architecture. Raises ModelError for channels that no frame has."""
    inputs, outputs = architecture.get("in_channels", 3), architecture.get("out_channels", 3)
    check_channels(inputs, outputs)
    if inputs == 3:
        if gray:
            raise ConfigError("gray is for generators of gray images, but this one has colors as its input: leave gray out")
        return []
    if gray == "mean":
        architecture["gray"] = gray
    why = "as requested" if gray else "BT.601, as that project's loader; the alternative is --gray mean"
    return [Finding("gray", gray or "luma", why)]


def _is_batch_count(key: str) -> bool:
    """Returns whether a tensor is the number of batches that a norm has seen, which does not affect the output."""
    return last_name(key) == "num_batches_tracked"


__all__ = ["REPOSITORY", "UPSAMPLE_MODES", "ForeignGenerator", "Overrides", "describe_architecture", "read_state_dict"]
