"""A checkpoint: one file with everything that a run needs to resume, or an export to start from.

`save` and `load` a run's state; `generator_from_checkpoint`, `latent_generator_from_checkpoint` and
`translators_from_checkpoint` build trained networks from it. Randomness needs no state here: batches, augmentation and pool
draw from generators that are seeded by (seed, step).
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cyclecast.errors import ConfigError, MissingModelError, ModelError, OutputError
from cyclecast.files import atomic_write
from cyclecast.training.checkpoint_sizes import check_sizes, check_tensors
from cyclecast.training.networks import (
    LATENT_GENERATORS,
    ImageGenerator,
    LatentGenerator,
    build_generator,
    build_latent_generator,
)
from cyclecast.training.search import translate

NAME = "checkpoint.pt"  # in a run's folder
FORMAT = "cyclecast-checkpoint-2"
REQUIRED = ("recipe", "config", "step", "precision", "networks", "averages", "optimizers", "scalers", "pools", "log", "seconds")
FIELD_TYPES: dict[str, Any] = {
    **dict.fromkeys(("config", "networks", "averages", "optimizers", "scalers", "exports", "fixed", "log", "extra"), dict),
    **dict.fromkeys(("recipe", "precision"), str),
    "step": int,
    "seconds": int | float,
    "pools": list,
}

CPU = torch.device("cpu")
Translate = Callable[[Tensor], Tensor]  # (N, 3, S, S) float in [-1, 1], RGB -> the same
log = logging.getLogger(__name__)


class Weights(Protocol):
    """The parts of a recipe that hold weights."""

    @property
    def networks(self) -> Mapping[str, Any]: ...
    @property
    def averages(self) -> Mapping[str, Any]: ...
    @property
    def optimizers(self) -> Mapping[str, Any]: ...


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes `state` (tensors, numbers, strings, lists, dicts) completely or not at all. Raises OutputError if that fails."""
    with atomic_write(path, overwrite=True) as partial_path:
        try:
            with partial_path.open("wb") as file:
                torch.save({"format": FORMAT, **state}, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch's own writer raises the latter on a full disk
            reason = getattr(error, "strerror", None) or "is the disk full?"
            raise OutputError(f"cannot save the checkpoint ({reason})") from error


def read_file(path: Path) -> Any:
    """Reads what torch.save wrote into a file, or into the checkpoint of a run's folder, onto the CPU.

    Raises ModelError if the file holds more than plain data, or asks for much more memory than its size.
    """
    path = path / NAME if path.is_dir() else path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that torch.save did not write: they are refused below
            check_sizes(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
        check_tensors(path, state)
        return state
    except ModelError:
        raise
    except FileNotFoundError:
        raise MissingModelError(f"{path}: no such checkpoint") from None
    except Exception as error:  # the restricted unpickler raises many types of errors on files of other types
        log.debug("cannot read %s", path, exc_info=True)
        code = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f": it wants to run code ({code[1]}), expected tensors, numbers and names alone; save a state_dict()"
            if code
            else f" ({type(error).__name__}): expected what torch.save writes, a run's {NAME} or a generator's state dict"
        )
        raise ModelError(f"{path}: cannot be read as a checkpoint{reason}") from error


def load(path: Path) -> dict[str, Any]:
    """Loads the state of a run from its checkpoint or its folder. Raises ModelError if it is not a sound cyclecast checkpoint."""
    return require_format(path, read_file(path))


def require_format(path: Path, state: Any) -> dict[str, Any]:
    """Returns `state`, read from `path`, if it is a checkpoint whose fields have the right types; otherwise ModelError."""
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ModelError(f"{path}: not a cyclecast checkpoint (expected format {FORMAT!r})")
    for name, expected in FIELD_TYPES.items():
        if name in state and not isinstance(state[name], expected):
            raise _damage_error(path, name, getattr(expected, "__name__", str(expected)), state[name])
    for name, inputs in state.get("fixed", {}).items():
        if not isinstance(inputs, Tensor):
            raise _damage_error(path, f"fixed[{name!r}]", "Tensor", inputs)
    for index, pools in enumerate(state.get("pools", [])):
        if not isinstance(pools, dict):
            raise _damage_error(path, f"pools[{index}]", "dict", pools)
    return state


def _damage_error(path: Path, name: str, expected: str, found: object) -> ModelError:
    return ModelError(
        f"{path}: a damaged checkpoint, or one of another version: {name} must be of type {expected}, got {type(found).__name__}"
    )


def require_complete(path: Path, state: Mapping[str, Any]) -> None:
    """Raises ModelError if a checkpoint lacks a part that resuming needs."""
    missing = [name for name in REQUIRED if name not in state]
    if missing:
        raise ModelError(f"{path}: a run cannot be resumed from it: no {', '.join(missing)} in it")


def restore_weights(state: Mapping[str, Any], recipe: Weights) -> None:
    """Loads networks, averages and optimizers from a run's state.

    Raises ConfigError if its networks have other shapes, ModelError if a part does not hold weights or the state of an
    optimizer.
    """
    targets = {"networks": recipe.networks, "averages": recipe.averages, "optimizers": recipe.optimizers}
    try:
        for part, members in targets.items():
            for key, member in members.items():
                member.load_state_dict(state[part][key])
    except (RuntimeError, ValueError, KeyError) as error:
        log.debug("weights do not fit", exc_info=True)
        raise ConfigError("the checkpoint's networks have another shape than the settings ask for") from error
    except (TypeError, AttributeError) as error:
        raise ModelError(f"the checkpoint's {part} are damaged ({error}); restore an earlier copy, or train again") from error


def generator_from_checkpoint(
    state: Mapping[str, Any], direction: str | None = None, device: torch.device = CPU
) -> tuple[str, ImageGenerator | LatentGenerator]:
    """Builds an averaged generator for inference on `device`; returns (direction, generator). direction None: the first one.

    For a teacher's facts, which hold no weights, the generator has fresh ones, to be loaded later.

    Raises ConfigError for a direction that the run did not train, ModelError if this version does not know the network.
    """
    try:
        exports = state["exports"]
        direction = direction or next(iter(exports))
        if direction not in exports:
            raise ConfigError(f"no direction named {direction!r} in this checkpoint: {' or '.join(exports)}")
        architecture = exports[direction]["architecture"]
        is_latent = architecture["generator"] in LATENT_GENERATORS
        network = build_latent_generator(**architecture) if is_latent else build_generator(**architecture)
        if "averages" in state or "format" in state:  # a file always has a format; a teacher's facts alone have none
            network.load_state_dict(state["averages"][exports[direction]["network"]])
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, StopIteration) as error:
        raise ModelError(f"a checkpoint without a generator that this version knows ({error})") from error
    return direction, network.eval().requires_grad_(False).to(device)


def latent_generator_from_checkpoint(
    state: Mapping[str, Any], direction: str | None = None, device: torch.device = CPU
) -> LatentGenerator:
    """Builds the averaged generator of a recipe that starts from noise. Raises ModelError for other recipes."""
    direction, network = generator_from_checkpoint(state, direction, device)
    if not isinstance(network, LatentGenerator):
        raise ModelError(f"{state['recipe']} generates nothing from noise: {direction} needs images")
    return network


def translators_from_checkpoint(state: Mapping[str, Any], device: torch.device = CPU) -> dict[str, Translate]:
    """Builds a function that translates images on `device` for each direction of a checkpoint: `a2b`, `b2a` or both.

    Raises ModelError for a recipe with one domain.
    """
    if state["recipe"] == "cogan":
        a, b = (latent_generator_from_checkpoint(state, domain, device) for domain in "ab")
        return {"a2b": partial(_translate_by_latent, a, b), "b2a": partial(_translate_by_latent, b, a)}
    networks = {direction: generator_from_checkpoint(state, direction, device)[1] for direction in state["exports"]}
    if any(isinstance(network, LatentGenerator) for network in networks.values()):
        raise ModelError(f"{state['recipe']} translates no images: it generates them from noise")
    return {direction: partial(generate, network) for direction, network in networks.items()}


def _translate_by_latent(source: LatentGenerator, target: LatentGenerator, images: Tensor) -> Tensor:
    device = next(source.parameters()).device
    return torch.cat([translate(source, target, part.to(device)).to(images.device) for part in images.split(32)])


@torch.no_grad()
def generate(network: nn.Module, inputs: Tensor, batch: int = 32) -> Tensor:
    """Runs `network` on (N, …), `batch` at a time -> (N, 3, H, W) float in [-1, 1]; gray images get three equal channels.

    Computes on the network's device; the result is where `inputs` are.
    """
    device = next(network.parameters()).device
    images = torch.cat([network(part.to(device)).to(inputs.device) for part in inputs.split(batch)])
    return images.expand(-1, 3, -1, -1).clamp(-1, 1)
