"""`cyclecast evaluate` of a run: every direction that it trained, by what its recipe and its data allow."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cyclecast.errors import ConfigError
from cyclecast.training import checkpoint
from cyclecast.training.checkpoint import Translate, latent_generator_from_checkpoint, translators_from_checkpoint
from cyclecast.training.config import data_settings
from cyclecast.training.data import to_bytes
from cyclecast.training.evaluate.classifier import to_unit
from cyclecast.training.evaluate.translation import Places, evaluate_samples, evaluate_translation
from cyclecast.training.recipes import RECIPES


def evaluate_run(
    path: Path, data: Path | None = None, *, inception: Path | None = None, seed: int = 0, device: torch.device | None = None
) -> dict[str, dict[str, Any]]:
    """Direction -> its figures (see `evaluate_translation`); of a latent recipe `sample` alone.

    device: where the generator computes; None: the CPU.
    path: a run's folder, or its checkpoint. data: as `--data` in training; None: what the run was trained on. ModelError for
    no checkpoint, InputError for data that are missing.
    """
    state, place = checkpoint.load(path), device or torch.device("cpu")
    settings, recipe = state["config"], state["recipe"]
    if recipe not in RECIPES:
        raise ConfigError(f"{path}: a run of {recipe!r}, which this version does not know")
    places = settings | data_settings(RECIPES[recipe].Config, data)
    if "domain" in places:
        network, side = latent_generator_from_checkpoint(state, device=place), settings["image_size"]
        figures = evaluate_samples(network, Path(places["domain"]), side=side, inception=inception, seed=seed)
        return {"sample": figures}
    where, side = Places.read(places), settings["crop_size"]
    return {
        way: evaluate_translation(partial(_in_bytes, translate), way, where, side=side, inception=inception, seed=seed)
        for way, translate in translators_from_checkpoint(state, place).items()
    }


def _in_bytes(translate: Translate, images: Tensor) -> Tensor:
    return to_bytes(translate(to_unit(images)))
