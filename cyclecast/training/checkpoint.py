"""A checkpoint: one file with everything that a run needs to go on, or an export to start from.

Randomness needs no state here: batches, augmentation and pool draw from generators seeded by (seed, step).
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from cyclecast.errors import ConfigError, MissingModelError, ModelError, OutputError
from cyclecast.files import atomic_write

NAME = "checkpoint.pt"  # in a run's folder
FORMAT = "cyclecast-checkpoint-2"


class Learning(Protocol):
    """The parts of a recipe that a checkpoint keeps."""

    @property
    def networks(self) -> Mapping[str, Any]: ...
    @property
    def averages(self) -> Mapping[str, Any]: ...
    @property
    def optimizers(self) -> Mapping[str, Any]: ...


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, lists, dicts) whole or not at all. OutputError if it cannot be written."""
    with atomic_write(path, overwrite=True) as partial:
        try:
            with partial.open("wb") as file:
                torch.save({"format": FORMAT, **state}, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch's own writer raises the latter on a full disk
            reason = getattr(error, "strerror", None) or "is the disk full?"
            raise OutputError(f"cannot save the checkpoint ({reason})") from error


def read(path: Path) -> Any:
    """Whatever torch.save wrote into a file, or into a run's folder, on the CPU. ModelError if it is more than plain data."""
    path = path / NAME if path.is_dir() else path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that torch.save did not write: they are refused in a moment
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise MissingModelError(f"{path}: no such checkpoint") from None
    except Exception as error:  # on a file of another kind the restricted unpickler raises whatever it stumbles over
        code = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f": it wants to run code ({code[1]}), expected tensors, numbers and names alone; save a state_dict()"
            if code
            else f" ({type(error).__name__}): expected what torch.save writes, a run's {NAME} or a generator's state dict"
        )
        raise ModelError(f"{path}: cannot be read as a checkpoint{reason}") from error


def load(path: Path) -> dict[str, Any]:
    """The state of a run in a file, or in the run's folder. ModelError if it is not ours."""
    return checked(path, read(path))


def checked(path: Path, state: Any) -> dict[str, Any]:
    """What was read from `path`, if it is a checkpoint of ours; else ModelError."""
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ModelError(f"{path}: not a cyclecast checkpoint (expected format {FORMAT!r})")
    return state


def fill(state: dict[str, Any], recipe: Learning) -> None:
    """Puts a run's weights, averages and optimizers into a fresh recipe.

    ConfigError if its networks are not those of the checkpoint.
    """
    parts = {"networks": recipe.networks, "averages": recipe.averages, "optimizers": recipe.optimizers}
    try:
        for part, targets in parts.items():
            for key, target in targets.items():
                target.load_state_dict(state[part][key])
    except (RuntimeError, ValueError, KeyError):
        raise ConfigError("the checkpoint's networks have another shape than the settings ask for") from None
