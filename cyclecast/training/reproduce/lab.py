"""What the experiments share: a folder where finished work is kept, so that one that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cyclecast.errors import ConfigError
from cyclecast.files import atomic_write
from cyclecast.training import checkpoint
from cyclecast.training.config import load_config
from cyclecast.training.evaluate.classifier import to_unit
from cyclecast.training.log import LossLog
from cyclecast.training.loop import Progress, train
from cyclecast.training.machine import pick_device
from cyclecast.training.recipes import RECIPES
from cyclecast.training.report import Page, labelled, strip, through_time


@dataclass(frozen=True)
class Lab:
    """Where an experiment works, and how it tells of it."""

    out: Path
    """Folder of the page, the runs and the judges."""
    seed: int = 0
    """Of everything that is trained."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    effort: float = 1.0
    """Share of the full number of steps; below a half, smaller pictures too where there is a choice."""
    tell: Callable[[str, int, int], None] = lambda stage, done, total: None
    """Called with a stage's name, what is done of it and all of it."""
    precision: str = "auto"
    """auto, fp32, bf16 or fp16."""

    def __post_init__(self) -> None:
        pick_device(self.device)  # before the judges are trained, not after
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed must be from 0 to 4294967295, got {self.seed}")

    def steps(self, full: int) -> int:
        """What a stage of `full` steps is given."""
        return max(2, round(full * self.effort))

    def run(self, name: str, recipe: str, settings: dict[str, Any]) -> Path:
        """The folder of a finished run of `recipe`: trained now, gone on with, or found finished.

        ConfigError if it was begun with another seed or number of steps, which the page would not tell.
        """
        folder = self.out / name
        own = {"seed": self.seed, "device": self.device, "precision": self.precision, "tensorboard": False}
        config = load_config(RECIPES[recipe].Config, settings=own | settings | {"out": folder})
        submit_frame = (folder / checkpoint.NAME).exists()
        for key, saved in state(folder)["config"].items() if submit_frame else ():
            if key in ("seed", "steps") and saved != (asked := getattr(config, key)):
                raise ConfigError(f"{folder}: begun with {key} {saved}, not {asked}; choose another folder")

        def progress(now: Progress) -> None:
            self.tell(name, now.step, now.steps)

        train(recipe, config, resume=submit_frame, on_progress=progress)
        return folder

    def judge(self, name: str, fresh: nn.Module, make: Callable[[Callable[[int, int], None]], nn.Module]) -> nn.Module:
        """A network that judges: `make(on_progress)` the first time, its weights kept for the next; `fresh`: one of its shape.

        ConfigError if the file that is kept holds something else, or was begun with another seed or effort.
        """
        path, mine = self.out / f"{name}.pt", {"seed": self.seed, "effort": self.effort}
        if path.exists():
            try:
                kept = torch.load(path, weights_only=True)
                fresh.load_state_dict(kept.pop("weights"))
            except (RuntimeError, UnpicklingError, KeyError) as error:
                raise ConfigError(f"{path}: no judge of this experiment; choose another folder, or delete it") from error
            for key, value in mine.items():
                if kept.get(key) != value:
                    raise ConfigError(f"{path}: begun with {key} {kept.get(key)}, not {value}; choose another folder")
            return fresh.eval().requires_grad_(False)
        network = make(lambda done, total: self.tell(name, done, total))
        with atomic_write(path, overwrite=True) as partial:
            torch.save({**mine, "weights": network.state_dict()}, partial)
        return network

    def finish(self, page: Page, results: dict[str, Any]) -> Path:
        """Writes the figures, as JSON, and the page; returns the page's path."""
        with atomic_write(self.out / "results.json", overwrite=True) as partial:
            partial.write_text(json.dumps(results, indent=1), "utf-8")
        page.write(self.out / "index.html")
        return self.out / "index.html"


def state(run: Path) -> dict[str, Any]:
    """The checkpoint of a finished run."""
    return checkpoint.load(run / checkpoint.NAME)


def seconds(run: Path) -> float:
    """How long the run trained, over all its sessions."""
    return float(state(run)["seconds"])


def curves(run: Path) -> dict[str, tuple[list[int], list[float]]]:
    """The run's losses: name -> (steps, means)."""
    log = LossLog(run, every=1, tensorboard=False)
    log.load_state_dict(state(run)["log"])
    return log.curves()


def sheet(run: Path, name: str, rows: int = 6) -> NDArray[np.uint8]:
    """The fixed set `name` through training, as one BGR picture; on top, where it is of images, what it was made of."""
    fixed = state(run)["fixed"][name]
    originals = [labelled(strip(to_unit(fixed)), "original")] if fixed.ndim == 4 else []
    return np.concatenate(originals + [labelled(picture, f"step {step}") for step, picture in through_time(run, name, rows)])
