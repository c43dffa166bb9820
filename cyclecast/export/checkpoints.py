"""Reads the generator to export from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclecast.errors import ConfigError, ModelError
from cyclecast.export import state_dicts
from cyclecast.training import checkpoint
from cyclecast.training.networks import ImageGenerator, LatentGenerator


@dataclass(frozen=True)
class TrainedGenerator:
    """A generator from a checkpoint, and its origin."""

    network: ImageGenerator | LatentGenerator
    recipe: str
    direction: str
    """a2b or b2a; of a latent model: sample, or the domain whose images it generates."""
    architecture: dict[str, Any]
    steps: int
    frames: list[NDArray[np.uint8]]
    """Images of the source domain from the run's previews, (H, W, 3) uint8 BGR; empty for a latent model and for other
    projects' files."""


def read_generator(path: Path, direction: str | None = None, upsample: str | None = None) -> TrainedGenerator:
    """Reads a generator from a checkpoint, a run folder, or a state dict of pytorch-CycleGAN-and-pix2pix.

    From a checkpoint, or from the run folder with one, it reads the averaged generator of `direction`; None: the first one.
    The direction of a state dict is b2a if the file's name contains `_G_B`, or else a2b, unless it is overridden. upsample:
    interpolation of a state dict's resize-convolutions, bilinear (None) or nearest.

    Raises ModelError if the file is neither, and ConfigError for a direction or an upsample that the generator does not have.
    """
    state = checkpoint.read_file(path)
    if not isinstance(state, dict) or "format" not in state:
        return _generator_from_state_dict(path, state, direction, upsample)
    if upsample is not None:
        raise ConfigError(f"{path}: a cyclecast checkpoint records its generator's upsampling: leave upsample out")
    state = checkpoint.require_format(path, state)
    missing = [name for name in ("recipe", "step", "fixed") if name not in state]
    if missing:
        raise ModelError(f"{path}: cannot be exported: no {', '.join(missing)} in it; expected a checkpoint of `cyclecast train`")
    direction, network = checkpoint.generator_from_checkpoint(state, direction)
    fixed = state["fixed"].get(direction)
    images = [] if fixed is None or fixed.ndim != 4 else list(fixed.permute(0, 2, 3, 1).flip(3).contiguous().numpy())
    architecture = state["exports"][direction]["architecture"]
    return TrainedGenerator(network, state["recipe"], direction, architecture, state["step"], images)


def _generator_from_state_dict(path: Path, state: object, direction: str | None, upsample: str | None) -> TrainedGenerator:
    direction = direction or ("b2a" if "_G_B" in path.name else "a2b")
    if direction not in ("a2b", "b2a"):
        raise ConfigError(f"{path}: direction must be a2b or b2a, got {direction!r}")
    try:
        network, architecture = state_dicts.read_state_dict(state, upsample)
    except (ConfigError, ModelError) as error:
        raise type(error)(f"{path}: {error}") from error
    return TrainedGenerator(network, state_dicts.REPOSITORY, direction, architecture, 0, [])
