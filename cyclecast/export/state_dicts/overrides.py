"""`Overrides`: what the keys of a state dict do not show, as the user sets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from cyclecast.errors import ConfigError
from cyclecast.training.networks.layers import Border, Upsample

UPSAMPLE_MODES: dict[str, Upsample] = {"bilinear": "resize", "nearest": "nearest"}
"""Interpolation of a resize-convolution in PyTorch's terms -> our `upsample`."""


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What the keys of a file do not show reliably. None: found, or the default."""

    key: str | None = None
    """The generator to read, if the file holds several: its name or a part of it, such as G_BA."""
    norm: str | None = None
    """instance, batch or none."""
    batch_norm: str | None = None
    """Statistics of batch norms: image (the default, of the frame itself) or running (of the training images)."""
    upsample: str | None = None
    """Interpolation of resize-convolutions: bilinear or nearest."""
    gray: str | None = None
    """Conversion of frames for a generator of gray images: luma (the default) or mean."""
    border: str | None = None
    """Padding where a ResNet without norms halves the resolution: zeros or reflect."""
    skip: bool | None = None
    """Whether the network's output is added to its input, as our trainer's setting `skip` does."""

    def check(self) -> None:
        """Raises ConfigError for an unknown value."""
        for name, values in (("upsample", tuple(UPSAMPLE_MODES)), ("border", get_args(Border))):
            value = getattr(self, name)
            if value not in (None, *values):
                raise ConfigError(f"{name} must be {' or '.join(values)}, got {value!r}")

    def names(self) -> list[str]:
        """Returns the names of the overrides that are set."""
        return [name for name, value in vars(self).items() if value is not None]

    @classmethod
    def from_architecture(cls, architecture: Mapping[str, Any], key: str | None = None) -> Overrides:
        """Recovers the overrides that a file was read with, from the architecture of its exported model."""
        upsample = {ours: theirs for theirs, ours in UPSAMPLE_MODES.items()}.get(architecture.get("upsample", ""))
        norm = architecture.get("norm")
        return cls(
            key=key,
            norm=norm if norm in ("instance", "none") else None,
            batch_norm="running" if norm == "batch" else "image" if norm == "affine" else None,
            upsample=upsample,
            gray=architecture.get("gray"),
            border=architecture.get("border"),
            skip=True if architecture.get("skip") else None,
        )
