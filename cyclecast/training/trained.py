"""Trained generators out of a checkpoint, to be used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cyclecast.errors import ConfigError, ModelError
from cyclecast.training.networks import (
    LATENT_GENERATORS,
    ImageGenerator,
    LatentGenerator,
    build_generator,
    build_latent_generator,
)
from cyclecast.training.search import translate

Translate = Callable[[Tensor], Tensor]  # (N, 3, S, S) float in [-1, 1], RGB -> the same


def generator(state: dict[str, Any], direction: str | None = None) -> tuple[str, ImageGenerator | LatentGenerator]:
    """A direction of a checkpoint and its averaged generator, to be used; None: its first direction.

    ConfigError for a direction that the run did not train, ModelError if this version does not know the network.
    """
    try:
        exports = state["exports"]
        direction = direction or next(iter(exports))
        if direction not in exports:
            raise ConfigError(f"no direction named {direction!r} in this checkpoint: {' or '.join(exports)}")
        architecture = exports[direction]["architecture"]
        latent = architecture["generator"] in LATENT_GENERATORS
        network = build_latent_generator(**architecture) if latent else build_generator(**architecture)
        network.load_state_dict(state["averages"][exports[direction]["network"]])
    except (KeyError, TypeError, RuntimeError, StopIteration) as error:
        raise ModelError(f"a checkpoint without a generator that this version knows ({error})") from error
    return direction, network.eval().requires_grad_(False)


def latent_generator(state: dict[str, Any], direction: str | None = None) -> LatentGenerator:
    """The same of a recipe that starts from noise; ModelError of another."""
    direction, network = generator(state, direction)
    if not isinstance(network, LatentGenerator):
        raise ModelError(f"{state['recipe']} draws nothing from noise: {direction} takes images")
    return network


def translators(state: dict[str, Any]) -> dict[str, Translate]:
    """Every way between two domains (`a2b`, `b2a`) that a checkpoint can go. ModelError of a recipe with one domain."""
    if state["recipe"] == "cogan":
        a, b = latent_generator(state, "a"), latent_generator(state, "b")
        return {"a2b": partial(_by_latent, a, b), "b2a": partial(_by_latent, b, a)}
    networks = {direction: generator(state, direction)[1] for direction in state["exports"]}
    if any(isinstance(network, LatentGenerator) for network in networks.values()):
        raise ModelError(f"{state['recipe']} translates nothing: it draws from noise")
    return {direction: partial(apply, network) for direction, network in networks.items()}


def _by_latent(source: LatentGenerator, target: LatentGenerator, images: Tensor) -> Tensor:
    return torch.cat([translate(source, target, part) for part in images.split(32)])


@torch.no_grad()
def apply(network: nn.Module, inputs: Tensor, batch: int = 32) -> Tensor:
    """`network` on (N, …) in parts: (N, 3, H, W) float in [-1, 1]; gray pictures in three equal channels."""
    made = torch.cat([network(part) for part in inputs.split(batch)])
    return made.expand(-1, 3, -1, -1).clamp(-1, 1)
