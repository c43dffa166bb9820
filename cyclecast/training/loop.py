"""The training loop, to be read from top to bottom: train(recipe_name, config) -> report."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cyclecast.errors import ConfigError, Interrupted, ModelError, OutputExistsError, TrainingDiverged
from cyclecast.files import write_error
from cyclecast.training import checkpoint
from cyclecast.training.config import TrainConfig
from cyclecast.training.data import to_bytes
from cyclecast.training.learner import Learner
from cyclecast.training.log import LossLog
from cyclecast.training.machine import own_random_state, pick_device, pick_memory_format, pick_precision, stop_on_signal
from cyclecast.training.networks.layers import update_average
from cyclecast.training.processes import Processes, process_group
from cyclecast.training.recipes import RECIPES, Recipe
from cyclecast.training.report import SheetSchedule, write_page, write_sheet

MAX_LOSS = 1e6  # a run does not recover from a larger loss
# Settings that a resumed run keeps.
FIXED_SETTINGS = ("crop_size", "image_size", "latent", "variant", "direction")


@dataclass(frozen=True)
class TrainReport:
    """What `cyclecast train --json` prints."""

    steps: int
    seconds: float
    pairs_per_second: float
    losses: dict[str, float]
    checkpoint: str
    page: str
    stop_requested: bool
    """Whether Ctrl-C or SIGTERM came during the last step: the run is complete, but the caller should stop now."""


@dataclass(frozen=True)
class Progress:
    """What the caller's callback gets after each step."""

    step: int
    steps: int
    pairs_per_second: float
    seconds_left: float
    """Estimated time until this call ends."""
    losses: dict[str, float]


def train(
    recipe_name: str,
    config: TrainConfig,
    *,
    resume: bool = False,
    until: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_message: Callable[[str], None] | None = None,
) -> TrainReport:
    """Trains until `steps` and saves into `config.out`; `resume` continues from its checkpoint as if it had never stopped.

    until: stops after this step and saves, with the schedule of the whole run; None: trains to the end. Under `torchrun` each
    process takes its share of a batch of batch_size x processes, and process 0 writes. The first Ctrl-C or SIGTERM stops after
    the current step and saves; a second one ends at once. If that step is the last one, the run is complete and `train` returns.
    on_message: called with each line for the user. Does not change torch's global random state.

    Raises InputError (data), ConfigError, OutputError (the folder holds a run already, or cannot be written), ModelError (a
    checkpoint that cannot be resumed), Interrupted (after saving) and TrainingDiverged (a loss or weight that is not finite).
    """
    # Device, data, networks.
    call_start = time.perf_counter()
    device = pick_device(config.compute.device, int(os.environ.get("LOCAL_RANK", "0")))
    precision = pick_precision(config.compute.precision, device)
    saved, page = config.out / checkpoint.NAME, config.out / "index.html"
    with process_group(device) as processes, own_random_state(device, config.seed):
        if saved.exists() and not resume:
            raise OutputExistsError(f"{config.out}: holds a run already; continue it with --resume, or choose another folder")
        state = load_state(saved, recipe_name, config, precision) if resume else None
        recipe: Recipe = RECIPES[recipe_name](config) if state is None else RECIPES[recipe_name].from_checkpoint(config, state)
        memory_format = pick_memory_format(config.compute.memory_format, device, image_side(config))
        for network in (*recipe.networks.values(), *recipe.averages.values()):
            network.to(device)
            network.to(memory_format=memory_format)  # type: ignore[call-overload]
        learner = Learner(recipe.networks, recipe.optimizers, device, precision, config.optim.accumulate, processes)
        log = LossLog(config.out, config.log_every, config.tensorboard)

        # Resume.
        first_step, seconds_before = 0, 0.0
        if state is not None:
            restore_run(recipe, learner, state)
            log.load_state_dict(state["log"])
            first_step, seconds_before = int(state["step"]), float(state["seconds"])
        try:
            config.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(error, config.out) from error
        for network in recipe.networks.values():
            processes.share(network.state_dict().values())
            if config.compute.compile:
                network.compile()
        fixed = {name: inputs.to(device) for name, inputs in recipe.fixed_set().items()}
        is_writer = processes.rank == 0
        if is_writer:
            log.open(first_step)

        # Train.
        step, last_step, start = first_step, min(until or recipe.steps, recipe.steps), time.perf_counter()
        batch_size, losses = config.optim.batch_size * processes.count, dict[str, float]()
        seconds, pairs_per_second, sheets, is_stopping = 1e-9, 0.0, SheetSchedule(config.sample_every), False
        with stop_on_signal(on_message) as stopped, closing(log), ThreadPoolExecutor(1, "batches") as loader:
            next_batch = loader.submit(recipe.batch, step, processes)
            while step < last_step:
                # Batches, noise, augmentation and pool are functions of seed, step and process.
                batch = tuple(tensor.to(device, memory_format=memory_format) for tensor in next_batch.result())
                if step + 1 < last_step:
                    next_batch = loader.submit(recipe.batch, step + 1, processes)
                torch.manual_seed((config.seed * 1_000_003 + step + 1) * 1_009 + processes.rank)

                # Update the weights and their averages.
                set_rates(recipe, rate_factor(step, recipe.steps, config.optim.schedule))
                terms = recipe.step(batch, learner, step)
                losses, is_stopping = average_losses(terms, stopped.is_set(), processes)
                require_finite_losses(losses, step + 1, saved)
                for name, average in recipe.averages.items():
                    decay, steps_before = recipe.decays[name]
                    update_average(average, recipe.networks[name], average_decay(steps_before + step, decay))
                step += 1

                # Log, save, sample.
                seconds = max(time.perf_counter() - start, 1e-9)
                pairs_per_second = (step - first_step) * batch_size / seconds
                is_last = step == last_step
                if is_writer:
                    log.add(step, losses)
                    if on_progress:
                        seconds_left = seconds / (step - first_step) * (last_step - step)
                        on_progress(Progress(step, recipe.steps, pairs_per_second, seconds_left, losses))
                if step % config.save_every == 0 or is_last or is_stopping:
                    require_finite_weights(recipe, step, saved)
                    state = run_state(recipe, learner, recipe_name, step, fixed)  # with the pools of every process
                    if is_writer:
                        checkpoint.save(saved, state | {"log": log.state_dict(), "seconds": seconds_before + seconds})
                if is_writer and (sheets.is_due(step, time.perf_counter() - call_start) or is_last or is_stopping):
                    write_sheets(recipe, step, fixed)
                    facts = {
                        "steps": f"{step} of {recipe.steps}",
                        "seconds": seconds_before + seconds,
                        "pairs per second": pairs_per_second,
                        "device": str(device),
                        "precision": precision,
                    }
                    write_page(page, config, recipe_name, facts, recipe.data_facts(), log)
                if is_stopping and not is_last:
                    raise Interrupted(f"stopped at step {step} of {recipe.steps}, saved; continue with --resume")
    stop_requested = is_stopping or stopped.is_set()
    if stop_requested and on_message:
        is_complete = step == recipe.steps
        on_message(f"step {step} of {recipe.steps} was the last one: {'training is complete' if is_complete else 'all is saved'}")
    return TrainReport(step, seconds, pairs_per_second, losses, str(saved), str(page), stop_requested)


def write_sheets(recipe: Recipe, step: int, fixed: dict[str, Tensor]) -> None:
    """Writes a sample sheet for each input of the fixed set.

    The next step does not depend on it: averages are in evaluation mode, and each step seeds torch's generators anew.
    """
    for name, inputs in fixed.items():
        originals = inputs.cpu() if inputs.ndim == 4 else None
        write_sheet(recipe.config.out, step, name, originals, recipe.sample(name, inputs).cpu())


def image_side(config: TrainConfig) -> int:
    """Returns the side of the images that the recipe trains on, pixels."""
    flat = config.to_dict()
    return max(int(flat.get(name, 0)) for name in ("crop_size", "image_size"))


def set_rates(recipe: Recipe, factor: float) -> None:
    """Sets every optimizer's learning rate to `factor` times its rate at the first step."""
    for name, optimizer in recipe.optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = recipe.rates[name] * factor


def rate_factor(step: int, steps: int, schedule: str = "linear") -> float:
    """Returns the factor of the learning rate. linear: 1 for the first half, then down to 0 (CycleGAN, appendix 7.1)."""
    done = step / steps
    if schedule == "linear":
        return min(1.0, 2.0 * (1.0 - done))
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 0.1 ** int(4 * done) if schedule == "step" else 1.0


def average_decay(step: int, decay: float) -> float:
    """Returns the decay at a step: smaller at the start, to forget the first, random weights soon; at most `decay`."""
    return min(decay, (1 + step) / (10 + step))


def average_losses(losses: dict[str, Tensor], is_stopping: bool, processes: Processes) -> tuple[dict[str, float], bool]:
    """Averages the losses over the processes; returns numbers, and whether any process is stopping. Waits for the device once."""
    values = torch.stack([value.detach().float() for value in losses.values()])
    values = torch.cat([values, values.new_tensor([float(is_stopping)])])
    processes.average([values])
    *numbers, stopping = values.tolist()
    return dict(zip(losses, numbers, strict=True)), stopping > 0


def require_finite_losses(losses: dict[str, float], step: int, saved: Path) -> None:
    """Raises TrainingDiverged if a loss is not a number, or larger than MAX_LOSS."""
    bad = [f"{name} is {value:.3g}" for name, value in losses.items() if not abs(value) < MAX_LOSS]
    if bad:
        raise diverged(step, f"{', '.join(bad)}: not a number, or beyond {MAX_LOSS:.0g}", saved)


def require_finite_weights(recipe: Recipe, step: int, saved: Path) -> None:
    """Raises TrainingDiverged if a weight is not a number: a step's losses do not show the update that follows them."""
    for name, network in recipe.networks.items():
        if not all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters()):
            raise diverged(step, f"weights of {name} are not numbers", saved)


def diverged(step: int, reason: str, saved: Path) -> TrainingDiverged:
    """Builds the error, which says whether `saved` holds an earlier checkpoint."""
    kept = "the checkpoint before it is kept" if saved.exists() else "nothing was saved before it"
    return TrainingDiverged(f"step {step}: {reason}; {kept}")


def run_state(recipe: Recipe, learner: Learner, name: str, step: int, fixed: dict[str, Tensor]) -> dict[str, Any]:
    """Collects everything that the next step depends on, as plain data, with the pools of every process."""
    pools = learner.processes.gather({key: pool.state_dict() for key, pool in recipe.pools.items()})
    return {
        "recipe": name,
        "config": recipe.config.to_dict(),
        "step": step,
        "precision": learner.precision,
        "networks": {key: network.state_dict() for key, network in recipe.networks.items()},
        "averages": {key: network.state_dict() for key, network in recipe.averages.items()},
        "optimizers": {key: optimizer.state_dict() for key, optimizer in recipe.optimizers.items()},
        "scalers": {key: scaler.state_dict() for key, scaler in learner.scalers.items()},
        "pools": pools,
        "exports": recipe.exports,
        "fixed": {key: to_bytes(inputs) if inputs.ndim == 4 else inputs.cpu() for key, inputs in fixed.items()},
        "extra": recipe.extra_state(),
    }


def load_state(path: Path, name: str, config: TrainConfig, precision: str) -> dict[str, Any]:
    """Loads the state of a run to resume.

    Raises ConfigError if it is another recipe's, or a setting changed that must not change.
    """
    state = checkpoint.load(path)
    checkpoint.require_complete(path, state)
    if state["recipe"] != name:
        raise ConfigError(f"{path}: a run of {state['recipe']!r}, not of {name!r}")
    asked = config.to_dict()
    for key in FIXED_SETTINGS:
        saved = state["config"].get(key)
        if saved != asked.get(key):
            raise ConfigError(f"the checkpoint was trained at {key} {saved}, which a resumed run keeps; got {asked.get(key)}")
    if state["precision"] != precision and "fp16" in (state["precision"], precision):
        raise ConfigError(f"the checkpoint was trained in {state['precision']}, which a resumed run keeps; got {precision}")
    return state


def restore_run(recipe: Recipe, learner: Learner, state: dict[str, Any]) -> None:
    """Loads what `run_state` saved into a new recipe.

    Raises ConfigError if its networks have other shapes, ModelError if a part of the state is damaged.
    """
    checkpoint.restore_weights(state, recipe)
    try:
        pools = state["pools"][learner.processes.rank % len(state["pools"])]
        for key, pool in recipe.pools.items():
            pool.load_state_dict(pools[key])
        for key, scaler in learner.scalers.items():
            scaler.load_state_dict(state["scalers"][key])
    except (LookupError, ZeroDivisionError, TypeError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(f"the checkpoint's pools or scalers are damaged ({reason}); restore an earlier copy") from error
