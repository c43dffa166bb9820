"""Plans a run of `cyclecast style`: its recipe, its settings and its time. The plan is saved, so that a run can resume."""

from __future__ import annotations

import dataclasses
import json
import shutil
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyclecast.errors import ConfigError, Interrupted, ModelError, OutputExistsError
from cyclecast.files import atomic_write
from cyclecast.style.looks import Look, StyleImages
from cyclecast.training.config import TrainConfig, load_config
from cyclecast.training.loop import Progress, train
from cyclecast.training.recipes import RECIPES

MINUTES = 20.0
"""Default time for everything."""
FEWEST_STEPS, MOST_STEPS = 200, 8000
PAIRS_SHARE = 0.35  # of the time, at most, to run a teacher
FEWEST_PAIRS, MOST_PAIRS = 60, 1200
FINISHING_SECONDS = 40.0  # export, check, sheet
WARM_UP_STEPS, MEASURED_STEPS = 3, 9  # the first ones are slower
REPLANNED_STEPS = 30  # at least, by whose time the rest is planned again
OVERHEAD = 1.08  # checkpoints and samples


@dataclass
class Plan:
    """What a run of `style` has decided so far. A resumed run keeps it."""

    request: dict[str, Any]
    """What the user requested. Another request in the same folder is refused."""
    frames: int = 0
    """Frames extracted from the footage. 0: not yet."""
    pairs: int = 0
    """Pairs to learn from. 0: not decided yet."""
    steps: int = 0
    """Training steps. 0: not decided yet."""
    is_replanned: bool = False
    """Whether the steps are final: given, or planned again by the time that the first of them took."""
    step_seconds: float = 0.0
    """Measured seconds of a step. 0: not measured."""
    owns_outputs: bool = False
    """Whether this run wrote the files beside the folder, complete or not, so that it may replace them."""
    is_finished: bool = False
    """Whether they are complete."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> seconds that it took, over all calls."""

    @property
    def is_costly(self) -> bool:
        """Returns whether deleting the folder would lose more than extracted frames."""
        return self.pairs > 0 or self.steps > 0

    def save(self, path: Path) -> None:
        """Writes the plan, completely or not at all."""
        with atomic_write(path, overwrite=True) as partial:
            partial.write_text(json.dumps(dataclasses.asdict(self), indent=1), "utf-8")


def read_plan(path: Path) -> Plan | None:
    """Reads the plan at `path`; None if there is none. Raises ModelError if it is damaged."""
    try:
        plan = Plan(**json.loads(path.read_text("utf-8")))
        for each in dataclasses.fields(Plan):
            expected: Any = type(getattr(Plan({}), each.name))
            if not isinstance(getattr(plan, each.name), (int, float) if expected is float else expected):
                raise TypeError(f"{each.name} has another type than {expected.__name__}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        reason = f"{path}: damaged ({error})"
        raise ModelError(f"{reason}; --overwrite starts anew, without what is in {path.parent}") from error
    return plan


def require_same_request(plan: Plan, request: Mapping[str, Any], folder: Path) -> None:
    """Raises OutputExistsError if the plan in `folder` belongs to another request."""
    changes = []
    for name, value in request.items():
        before = plan.request.get(name)
        if before != value:
            is_short = all(isinstance(each, int | float | str) for each in (before, value))
            changes.append(f"{name} {before} in place of {value}" if is_short else f"other {name}")
    if changes:
        raise OutputExistsError(
            f"{folder}: holds another style ({', '.join(changes)}); --overwrite starts anew, the earlier command "
            "resumes it, or choose another --output"
        )


def recipe_of(look: Look) -> str:
    """Returns the name of the recipe that learns this look."""
    return "style_transfer" if isinstance(look, StyleImages) else "supervised"


def training_config(
    look: Look, folder: Path, data: tuple[Path, Path], preset: str, seed: int, steps: int, **settings: Any
) -> TrainConfig:
    """Returns the settings of the run in `folder`. data: the folders of domains A and B: frames and style images, or pairs."""
    recipe = recipe_of(look)
    settings |= {
        "out": folder,
        "domain_a": data[0],
        "domain_b": data[1],
        "preset": preset,
        "seed": seed,
        "steps": steps,
        "save_every": 100,
        "sample_every": 500,
        "tensorboard": False,
    }
    if isinstance(look, StyleImages) and look.is_collection:
        settings |= COLLECTION_SETTINGS
    config: TrainConfig = load_config(RECIPES[recipe].Config, settings=settings)
    return config


COLLECTION_SETTINGS: dict[str, Any] = {"adversarial_weight": 1.0}


def measure_step_seconds(look: Look, data: tuple[Path, Path], preset: str, seed: int, folder: Path) -> float:
    """Measures the median seconds of a training step on this machine, by a few steps of a run in `folder`, which is deleted.

    Raises Interrupted after Ctrl-C or SIGTERM.
    """
    times: list[float] = []

    def on_progress(progress: Progress) -> None:
        times.append(time.perf_counter())

    typical: dict[str, Any] = {"copy_steps": 0} if isinstance(look, StyleImages) else {}  # copying is faster than the other steps
    config = training_config(look, folder, data, preset, seed, MEASURED_STEPS, **typical)
    shutil.rmtree(folder, ignore_errors=True)  # left by a call that was killed
    try:
        if train(recipe_of(look), config, on_progress=on_progress).stop_requested:
            raise Interrupted("stopped while the time of a step was measured")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    intervals = [after - before for before, after in zip(times[WARM_UP_STEPS - 1 :], times[WARM_UP_STEPS:], strict=False)]
    return statistics.median(intervals)


def steps_in(seconds: float, step_seconds: float, done: int = 0) -> int:
    """Returns how many steps fit into this time after those that are done, within sensible bounds, rounded to 50."""
    steps = (done + int(seconds / (step_seconds * OVERHEAD))) // 50 * 50
    return max(FEWEST_STEPS, done, min(MOST_STEPS, steps))


def first_steps(config: TrainConfig, steps: int) -> int:
    """Returns the steps after which the rest of `steps` is planned again; those that only copy are too fast to count."""
    return int(getattr(config, "copy_steps", 0)) + max(REPLANNED_STEPS, steps // 10)


def format_minutes(seconds: float) -> str:
    """Rounds a time for people: "about 5 minutes"."""
    minutes = round(seconds / 60)
    return "less than a minute" if seconds < 45 else f"about {max(1, minutes)} minute{'' if minutes <= 1 else 's'}"


def pairs_in(seconds: float, pair_seconds: float) -> int:
    """Returns how many pairs a teacher can generate in its share of this time, from FEWEST_PAIRS to MOST_PAIRS."""
    return max(FEWEST_PAIRS, min(MOST_PAIRS, int(PAIRS_SHARE * seconds / pair_seconds)))


def require_time(minutes: float | None, steps: int | None) -> None:
    """Raises ConfigError if both are given, or if one is out of its range."""
    if minutes is not None and steps is not None:
        raise ConfigError("expected --minutes or --steps, got both")
    if minutes is not None and not 1 <= minutes <= 10_000:
        raise ConfigError(f"--minutes must be from 1 to 10000, got {minutes:g}")
    if steps is not None and steps < 1:
        raise ConfigError(f"--steps must be at least 1, got {steps}")
