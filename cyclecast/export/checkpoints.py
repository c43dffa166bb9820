"""From a checkpoint to the generator that is to be frozen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclecast.training import checkpoint, trained
from cyclecast.training.networks import ImageGenerator, LatentGenerator


@dataclass(frozen=True)
class TrainedGenerator:
    """A generator out of a checkpoint, and where it comes from."""

    network: ImageGenerator | LatentGenerator
    recipe: str
    direction: str
    """a2b or b2a; of a latent model: sample, or the domain that it draws."""
    architecture: dict[str, Any]
    steps: int
    frames: list[NDArray[np.uint8]]
    """Real images of the source domain that the run was watched on: (H, W, 3) uint8 BGR each; none of a latent model."""


def read_generator(path: Path, direction: str | None = None) -> TrainedGenerator:
    """The averaged generator of `direction` in a cyclecast checkpoint, or in the run folder that holds it; None: its first.

    ModelError if the file is no such checkpoint, ConfigError for a direction that it does not have.
    """
    state = checkpoint.load(path)
    direction, network = trained.generator(state, direction)
    fixed = state["fixed"].get(direction)
    images = [] if fixed is None or fixed.ndim != 4 else list(fixed.permute(0, 2, 3, 1).flip(3).contiguous().numpy())
    architecture = state["exports"][direction]["architecture"]
    return TrainedGenerator(network, state["recipe"], direction, architecture, state["step"], images)
