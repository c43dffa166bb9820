"""From a checkpoint to the generator that is to be frozen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclecast.errors import ConfigError, ModelError
from cyclecast.training import checkpoint
from cyclecast.training.networks import ResnetGenerator, build_generator

DIRECTIONS = ("a2b", "b2a")


@dataclass(frozen=True)
class TrainedGenerator:
    """A generator out of a checkpoint, and where it comes from."""

    network: ResnetGenerator
    recipe: str
    direction: str
    architecture: dict[str, Any]
    steps: int
    frames: list[NDArray[np.uint8]]
    """Real images of the source domain that the run was watched on: (H, W, 3) uint8 BGR each."""


def read_generator(path: Path, direction: str) -> TrainedGenerator:
    """The averaged generator of `direction` ("a2b" or "b2a") in a cyclecast checkpoint, or in the run folder that holds it.

    ModelError if the file is no such checkpoint, ConfigError for another direction.
    """
    if direction not in DIRECTIONS:
        raise ConfigError(f"no direction named {direction!r}: {' or '.join(DIRECTIONS)}")
    state = checkpoint.load(path / checkpoint.NAME if path.is_dir() else path)
    try:
        config, key = state["config"], f"generator_{direction[0]}{direction[2]}"
        architecture = {name: config[name] for name in ("generator", "ngf", "upsample", "skip")}
        network = build_generator(**architecture)
        network.load_state_dict(state["averages"][key])
        images = state["fixed"][direction].permute(0, 2, 3, 1).flip(3).contiguous().numpy()
        return TrainedGenerator(network, state["recipe"], direction, architecture, state["step"], list(images))
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"{path}: a checkpoint without a generator that this version knows ({error})") from error
