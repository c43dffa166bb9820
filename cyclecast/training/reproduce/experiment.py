"""What the experiments share: an output folder that keeps finished work, so that an interrupted experiment resumes."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cyclecast.errors import ConfigError, Interrupted
from cyclecast.files import atomic_write
from cyclecast.training import checkpoint
from cyclecast.training.config import load_config
from cyclecast.training.evaluate.classifier import to_unit
from cyclecast.training.log import LossLog
from cyclecast.training.loop import Progress, train
from cyclecast.training.machine import pick_device
from cyclecast.training.recipes import RECIPES
from cyclecast.training.report import Page, add_caption, load_strips, strip

NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True)
class Experiment:
    """The output folder and the settings of one experiment."""

    out: Path
    """Folder of the page, the runs and the trained classifiers."""
    seed: int = 0
    """Of every training."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    effort: float = 1.0
    """Share of the full number of steps; below 0.5, smaller images too where there is a choice."""
    on_progress: Callable[[str, int, int], None] = lambda stage, step, steps: None
    """Called with a stage's name, its finished steps and all of its steps."""
    precision: str = "auto"
    """auto, fp32, bf16 or fp16."""

    def __post_init__(self) -> None:
        pick_device(self.device)  # an unknown device is an error before anything is trained
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed must be from 0 to 4294967295, got {self.seed}")

    def steps(self, full: int) -> int:
        """Returns the steps of a stage that has `full` steps at effort 1."""
        return max(2, round(full * self.effort))

    def train_run(self, name: str, recipe: str, settings: dict[str, Any]) -> Path:
        """Trains a run of `recipe`, resumes it, or finds it finished; returns its folder.

        Raises ConfigError if it was started with another seed or number of steps, because the page would not show that.
        Raises Interrupted after Ctrl-C or SIGTERM, also during the run's last step.
        """
        folder = self.out / name
        common = {"seed": self.seed, "device": self.device, "precision": self.precision, "tensorboard": False}
        config = load_config(RECIPES[recipe].Config, settings=common | settings | {"out": folder})
        resumes = (folder / checkpoint.NAME).exists()
        for key, saved in load_state(folder)["config"].items() if resumes else ():
            if key in ("seed", "steps") and saved != (requested := getattr(config, key)):
                raise ConfigError(f"{folder}: started with {key} {saved}, not {requested}; choose another folder")

        def report_progress(progress: Progress) -> None:
            self.on_progress(name, progress.step, progress.steps)

        if train(recipe, config, resume=resumes, on_progress=report_progress).stop_requested:
            raise Interrupted(f"stopped after {name}, which is complete; the same command continues with the rest")
        return folder

    def load_or_train(
        self, name: str, network: NetworkT, train_network: Callable[[Callable[[int, int], None]], NetworkT]
    ) -> NetworkT:
        """Loads saved weights into `network`, a classifier of generated images; or calls `train_network(on_progress)` and saves.

        Raises ConfigError if the saved file holds another network, or was trained with another seed or effort.
        """
        path, settings = self.out / f"{name}.pt", {"seed": self.seed, "effort": self.effort}
        if path.exists():
            try:
                saved = torch.load(path, weights_only=True)
                network.load_state_dict(saved.pop("weights"))
            except (RuntimeError, UnpicklingError, KeyError) as error:
                raise ConfigError(
                    f"{path}: not a classifier of this experiment; choose another folder, or delete this file"
                ) from error
            for key, value in settings.items():
                if saved.get(key) != value:
                    raise ConfigError(f"{path}: started with {key} {saved.get(key)}, not {value}; choose another folder")
            return network.eval().requires_grad_(False)
        network = train_network(lambda step, steps: self.on_progress(name, step, steps))
        with atomic_write(path, overwrite=True) as partial:
            torch.save({**settings, "weights": network.state_dict()}, partial)
        return network

    def finish(self, page: Page, results: dict[str, Any]) -> Path:
        """Writes results.json and the page; returns the page's path."""
        with atomic_write(self.out / "results.json", overwrite=True) as partial:
            partial.write_text(json.dumps(results, indent=1), "utf-8")
        page.write(self.out / "index.html")
        return self.out / "index.html"


def load_state(run: Path) -> dict[str, Any]:
    """Loads the state in a run's checkpoint. Keeps the last one that was read, because several functions ask for it in turn."""
    path = run / checkpoint.NAME
    return _load_version(path, path.stat().st_mtime_ns if path.exists() else 0)


@functools.lru_cache(maxsize=1)
def _load_version(path: Path, modified: int) -> dict[str, Any]:
    """Loads the checkpoint that was written at this time."""
    return checkpoint.load(path)


def training_seconds(run: Path) -> float:
    """Returns the seconds of training, over all sessions of the run."""
    return float(load_state(run)["seconds"])


def loss_curves(run: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Returns the run's losses: name -> (steps, means)."""
    log = LossLog(run, every=1, tensorboard=False)
    log.load_state_dict(load_state(run)["log"])
    return log.curves()


def training_sheet(run: Path, name: str, rows: int = 6) -> NDArray[np.uint8]:
    """Draws samples of the fixed set `name` through training, as one BGR image; inputs that are images are the first row."""
    fixed = load_state(run)["fixed"][name]
    originals = [add_caption(strip(to_unit(fixed)), "original")] if fixed.ndim == 4 else []
    return np.concatenate(originals + [add_caption(image, f"step {step}") for step, image in load_strips(run, name, rows)])
