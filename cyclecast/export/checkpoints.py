"""Reads the generator to export from a checkpoint."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cyclecast.errors import ConfigError, MissingExtraError, ModelError
from cyclecast.export import state_dicts
from cyclecast.export.adopt.sizes import Finding
from cyclecast.export.state_dicts import Overrides
from cyclecast.export.state_dicts.names import direction_from_name
from cyclecast.runtime.file_type import describe_wrong_type, file_type
from cyclecast.spec import ModelSpec
from cyclecast.training import checkpoint
from cyclecast.training.networks import ImageGenerator, LatentGenerator

SCALAR = np.float64().__reduce__()[0]  # builds a number of numpy
HARMLESS: list[Any] = [  # classes of plain data that training scripts save beside the weights
    argparse.Namespace,
    pathlib.PosixPath,
    *((SCALAR, f"numpy.{module}.multiarray.scalar") for module in ("core", "_core")),
    *(np.dtype, *(type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64", "bool"))),
    *(
        (dict, f"{module}.AttributeDict")
        for module in (
            "pytorch_lightning.utilities.parsing",
            "lightning_fabric.utilities.data",
            "lightning.fabric.utilities.data",
        )
    ),
]


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
    domains: tuple[str, str] | None = None
    """Folders of the source and of the target domain in the run's settings; None if they are not known."""
    directions: tuple[str, ...] = ()
    """The directions that can be exported from a run."""
    findings: list[Finding] = field(default_factory=list)
    """What was inferred from another project's file, with the reasons."""


def read_generator(path: Path, direction: str | None = None, overrides: Overrides | None = None) -> TrainedGenerator:
    """Reads a generator from a checkpoint, a run folder, or a state dict of another project (`state_dicts`) or of ours.

    From a checkpoint, or from the run folder with one, it reads the averaged generator of `direction`; None: the first one. Any
    other file holds a generator's state dict, or a training script's checkpoint around it; it may be a safetensors file. Its
    direction is that of the generator's name in the file, or else of the file's name, or else a2b. overrides: what
    such a file does not show.

    Raises ModelError if the file is neither, ConfigError for a direction or an override that does not fit it, and
    MissingExtraError if safetensors is not installed.
    """
    return _generator_from_state(path, _read_file(path), direction, overrides or Overrides())


def read_generator_of(path: Path, spec: ModelSpec, key: str | None = None) -> TrainedGenerator:
    """Reads the generator that a model with this spec was exported from. key, errors: as in `read_generator`."""
    state = _read_file(path)
    is_ours = isinstance(state, dict) and "format" in state
    overrides = Overrides(key=key) if is_ours else Overrides.from_architecture(spec.architecture, key)
    return _generator_from_state(path, state, spec.direction or None, overrides)


def _generator_from_state(path: Path, state: Any, direction: str | None, overrides: Overrides) -> TrainedGenerator:
    if not isinstance(state, dict) or "format" not in state:
        return _generator_from_state_dict(path, state, direction, overrides)
    if overrides.names():
        names = " and ".join(overrides.names())
        raise ConfigError(f"{path}: a cyclecast checkpoint records its generators: leave {names} out")
    state = checkpoint.require_format(path, state)
    missing = [name for name in ("recipe", "step", "fixed") if name not in state]
    if missing:
        raise ModelError(f"{path}: cannot be exported: no {', '.join(missing)} in it; expected a checkpoint of `cyclecast train`")
    direction, network = checkpoint.generator_from_checkpoint(state, direction)
    fixed = state["fixed"].get(direction)
    images = [] if fixed is None or fixed.ndim != 4 else list(fixed.permute(0, 2, 3, 1).flip(3).contiguous().numpy())
    architecture = state["exports"][direction]["architecture"]
    domains = _domains(state.get("config", {}), direction)
    return TrainedGenerator(
        network, state["recipe"], direction, architecture, state["step"], images, domains, tuple(state["exports"])
    )


def _read_file(path: Path) -> Any:
    """Reads what torch.save wrote into a file or a run's checkpoint, or the tensors of a safetensors file.

    Raises ModelError, with the file's type, if it is neither.
    """
    if path.is_file():
        try:
            wrong, found = describe_wrong_type(path, "checkpoint"), file_type(path)
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
        if wrong is not None:
            raise ModelError(f"{path}: {wrong}")
        if found == "safetensors":
            return _read_safetensors(path)
    with torch.serialization.safe_globals(HARMLESS):
        return checkpoint.read_file(path)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{path}: safetensors is not installed: pip install 'cyclecast[train]'") from error
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors ({error})") from error
    return tensors


def _domains(settings: Mapping[str, Any], direction: str) -> tuple[str, str] | None:
    """Returns the folders of source and target from the run's settings; None for a recipe without two domains."""
    folders = {domain: settings.get(f"domain_{domain}") for domain in "ab"}
    if direction not in ("a2b", "b2a") or None in folders.values():
        return None
    return str(folders[direction[0]]), str(folders[direction[2]])


def _generator_from_state_dict(path: Path, state: object, direction: str | None, overrides: Overrides) -> TrainedGenerator:
    if direction not in (None, "a2b", "b2a"):
        raise ConfigError(f"{path}: direction must be a2b or b2a, got {direction!r}")
    by_file = direction_from_name(path.stem)
    try:
        foreign = state_dicts.read_state_dict(state, overrides, direction or by_file)
    except (ConfigError, ModelError) as error:
        raise type(error)(f"{path}: {error}") from error
    by_key = direction_from_name(foreign.key)
    if direction:
        why = "as requested"
    elif by_key or by_file:
        why = f"the name {foreign.key if by_key else path.name}"
    else:
        why = "the default, since no name shows it; the alternative is --direction b2a"
    direction = direction or by_key or by_file or "a2b"
    return TrainedGenerator(
        foreign.network,
        state_dicts.REPOSITORY,
        direction,
        foreign.architecture,
        0,
        [],
        findings=[*foreign.findings, Finding("direction", direction, why)],
    )
