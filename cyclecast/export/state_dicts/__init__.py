"""Reads generators of pytorch-CycleGAN-and-pix2pix and CUT: the keys and shapes of their tensors show the architecture.

`find` finds the generator in a checkpoint, `resnet` and `unet` read its layout, `norms` its norm layers; `layers` converts the
tensors. Their networks have the same layers as ours, in the same order. Some layers have other names, and some convolutions have
biases that the following norm cancels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cyclecast.errors import ConfigError
from cyclecast.export.adopt.sizes import Finding
from cyclecast.export.gray import check_channels, check_gray
from cyclecast.export.state_dicts.find import REPOSITORY, find_generator
from cyclecast.export.state_dicts.layers import convert
from cyclecast.export.state_dicts.names import last_name
from cyclecast.export.state_dicts.norms import find_norm
from cyclecast.export.state_dicts.resnet import resnet_layout
from cyclecast.export.state_dicts.unet import unet_layout
from cyclecast.training.networks import ImageGenerator, build_generator
from cyclecast.training.networks.layers import Upsample

UPSAMPLE_MODES: dict[str, Upsample] = {"bilinear": "resize", "nearest": "nearest"}
"""Interpolation of a resize-convolution in PyTorch's terms -> our `upsample`. The first one is the default."""


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """Settings that the keys of a file do not show, or not for sure. None: inferred, or the default."""

    key: str | None = None
    """The generator to read, if the file holds several: its name or a part of it, such as G_BA."""
    norm: str | None = None
    """instance, batch or none."""
    batch_norm: str | None = None
    """Statistics of batch norms: image (the default, of the frame itself) or running (of the training images)."""
    upsample: str | None = None
    """Interpolation of resize-convolutions: bilinear (the default) or nearest."""
    gray: str | None = None
    """Conversion of frames for a generator of gray images: luma (the default) or mean."""

    def names(self) -> list[str]:
        """Returns the names of the overrides that are set."""
        return [name for name, value in vars(self).items() if value is not None]

    @classmethod
    def from_architecture(cls, architecture: Mapping[str, Any]) -> Overrides:
        """Returns the overrides that were used to read a file whose exported model has this architecture."""
        upsample = {ours: theirs for theirs, ours in UPSAMPLE_MODES.items()}.get(architecture.get("upsample", ""))
        norm = architecture.get("norm")
        return cls(
            norm=norm if norm in ("instance", "none") else None,
            batch_norm="running" if norm == "batch" else None,
            upsample=upsample,
            gray=architecture.get("gray"),
        )


@dataclass(frozen=True)
class ForeignGenerator:
    """A generator from another project's file, in eval mode."""

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
    if overrides.upsample not in (None, *UPSAMPLE_MODES):
        raise ConfigError(f"upsample must be {' or '.join(UPSAMPLE_MODES)}, got {overrides.upsample!r}")
    check_gray(overrides.gray)
    key, found, findings = find_generator(state, overrides.key, direction)
    tensors = {name: value.detach().float().contiguous() for name, value in found.items() if not _is_batch_count(name)}
    resize_mode = UPSAMPLE_MODES[overrides.upsample or "bilinear"]
    layout = unet_layout(tensors) if "model.model.0.weight" in tensors else resnet_layout(tensors, resize_mode)
    norm, norm_findings = find_norm(tensors, layout.layers, overrides.norm, overrides.batch_norm)
    architecture = {**layout.architecture, "norm": norm}
    if architecture["generator"] == "resnet" and norm == "none":
        architecture["border"] = "zeros"
    findings += norm_findings
    if architecture["upsample"] in UPSAMPLE_MODES.values():
        why = (
            "as requested"
            if overrides.upsample
            else "assumed, since the file does not record it; the alternative is --upsample nearest"
        )
        findings.append(Finding("upsample", overrides.upsample or "bilinear", why))
    elif overrides.upsample:
        raise ConfigError("upsample is for resize-convolutions, but this generator has none: leave upsample out")
    findings += _add_gray(architecture, overrides.gray)
    description = describe_architecture(architecture)
    with torch.device("meta"):  # allocates no memory: the weights come from the file
        network = build_generator(**architecture)
    network.load_state_dict(convert(tensors, layout, network, description), assign=True)
    return ForeignGenerator(network.eval().requires_grad_(False), architecture, key, findings)


def describe_architecture(architecture: Mapping[str, Any]) -> str:
    """Returns the architecture as text: `generator resnet, blocks 9, …`."""
    return ", ".join(f"{name} {value}" for name, value in architecture.items())


def _add_gray(architecture: dict[str, Any], gray: str | None) -> list[Finding]:
    """Adds the conversion to gray to the architecture if it is not the default; returns the finding.

    Raises ModelError for numbers of channels that no frame has, and ConfigError for `gray` with a color input.
    """
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
