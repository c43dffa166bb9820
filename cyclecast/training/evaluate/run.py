"""Evaluates every direction of a run (`cyclecast evaluate RUN`), by what its recipe and its data allow."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cyclecast.errors import ConfigError, InputError, ModelError
from cyclecast.training import checkpoint
from cyclecast.training.checkpoint import Translate, latent_generator_from_checkpoint, translators_from_checkpoint
from cyclecast.training.config import data_settings, settings_of
from cyclecast.training.data import to_bytes
from cyclecast.training.evaluate.classifier import to_unit
from cyclecast.training.evaluate.domains import DomainPaths, replace_domains
from cyclecast.training.evaluate.translation import evaluate_samples, evaluate_translation
from cyclecast.training.recipes import RECIPES


def evaluate_run(
    path: Path,
    data: Path | None = None,
    *,
    domain_a: Path | None = None,
    domain_b: Path | None = None,
    inception: Path | None = None,
    seed: int = 0,
    device: torch.device | None = None,
) -> dict[str, dict[str, Any]]:
    """Returns direction -> figures (see `evaluate_translation`); for a latent recipe, `sample` alone.

    path: a run's folder, or its checkpoint. data: as `--data` in training; None: what the run was trained on. domain_a,
    domain_b: other images of these domains. device: where the generator computes, and on CUDA also the networks that evaluate
    it; None: the CPU. Raises ModelError if there is no checkpoint, or one that this version cannot evaluate; raises InputError
    if data are missing; raises ConfigError if a domain is named that the recipe does not have.
    """
    state, device = checkpoint.load(path), device or checkpoint.CPU
    # On MPS and XPU, PyTorch may lack operations that the classifiers and features need.
    evaluation_device = device if device.type == "cuda" else checkpoint.CPU
    options: dict[str, Any] = {"inception": inception, "seed": seed, "device": evaluation_device}
    recipe, settings = _recipe_and_settings(path, state)
    translates = "domain" not in settings_of(RECIPES[recipe].Config)
    if translates and data is not None and data.is_file():
        raise InputError(
            f"{data}: a file; expected a folder with trainA and trainB, with train and train_labels, or with train of pairs "
            "(for files of digits: --domain-a and --domain-b)"
        )
    if not translates and (domain_a or domain_b):
        raise ConfigError(f"{recipe} has one domain: name its images with --data, not with --domain-a or --domain-b")
    settings = replace_domains(settings | data_settings(RECIPES[recipe].Config, data), domain_a, domain_b)
    side = settings.get("crop_size" if translates else "image_size")
    if not isinstance(side, int) or isinstance(side, bool) or side < 1:
        raise _unknown_checkpoint(path, f"its settings hold no size of images, got {side!r}")
    if not translates:
        domain = settings.get("domain")
        if not isinstance(domain, str | Path):
            raise _unknown_checkpoint(path, f"its settings hold no path of the domain, got {domain!r}")
        network = latent_generator_from_checkpoint(state, device=device)
        return {"sample": evaluate_samples(network, Path(domain), side=side, **options)}
    paths = DomainPaths.from_settings(settings)
    return {
        direction: evaluate_translation(partial(_translate_bytes, translate), direction, paths, side=side, **options)
        for direction, translate in translators_from_checkpoint(state, device).items()
    }


def _recipe_and_settings(path: Path, state: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns the recipe's name and the settings of a checkpoint; raises an error if this version cannot evaluate it."""
    recipe, settings, exports = state.get("recipe"), state.get("config"), state.get("exports")
    if not isinstance(recipe, str) or not isinstance(settings, dict):
        raise _unknown_checkpoint(path, "it names no recipe or holds no settings")
    if recipe not in RECIPES:
        raise ConfigError(
            f"{path}: a run of {recipe!r}, a recipe that this version does not know; there are: {', '.join(RECIPES)}"
        )
    if not isinstance(exports, dict) or not exports:
        raise _unknown_checkpoint(path, "it holds no generator to export")
    return recipe, dict(settings)


def _unknown_checkpoint(path: Path, reason: str) -> ModelError:
    return ModelError(
        f"{path}: not a checkpoint of this version of cyclecast: {reason}; use the version that wrote it, or train again"
    )


def _translate_bytes(translate: Translate, images: Tensor) -> Tensor:
    return to_bytes(translate(to_unit(images)))
