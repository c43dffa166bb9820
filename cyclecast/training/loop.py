"""The whole run, read from top to bottom: train(recipe, config) -> report."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cyclecast.errors import ConfigError, Interrupted, OutputExistsError, TrainingDiverged
from cyclecast.files import write_error
from cyclecast.training import checkpoint
from cyclecast.training.config import TrainConfig
from cyclecast.training.data import to_bytes
from cyclecast.training.learner import Learner, pick_device, pick_memory_format, pick_precision
from cyclecast.training.log import LossLog
from cyclecast.training.networks.layers import update_average
from cyclecast.training.processes import Processes, joined
from cyclecast.training.recipes import RECIPES, Recipe
from cyclecast.training.report import write_page, write_sheet

DIVERGED = 1e6  # a loss beyond this is past recovery


@dataclass(frozen=True)
class TrainReport:
    """What `cyclecast train --json` prints."""

    steps: int
    seconds: float
    pairs_per_second: float
    losses: dict[str, float]
    checkpoint: str
    page: str


@dataclass(frozen=True)
class Progress:
    """Handed to the caller's callback after each step."""

    step: int
    steps: int
    pairs_per_second: float
    losses: dict[str, float]


def train(
    recipe_name: str,
    config: TrainConfig,
    *,
    resume: bool = False,
    until: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> TrainReport:
    """Trains until `steps`, saving into `config.out`; with `resume`, goes on from its checkpoint exactly as if never stopped.

    until: the step to stop after, saved, with the schedule of the whole run; None: the last. Under `torchrun` each process
    takes its share of a batch of batch_size x processes, and process 0 writes.

    Raises InputError (data), ConfigError, OutputError (a run is there already, or the folder cannot be written),
    Interrupted (Ctrl-C or SIGTERM, after saving) and TrainingDiverged (a loss that is no number).
    """
    device = pick_device(config.device, int(os.environ.get("LOCAL_RANK", "0")))
    precision = pick_precision(config.precision, device)
    with joined(device) as processes:
        return _train(recipe_name, config, device, precision, processes, resume, until, on_progress)


def _train(
    recipe_name: str,
    config: TrainConfig,
    device: torch.device,
    precision: str,
    processes: Processes,
    resume: bool,
    until: int | None,
    on_progress: Callable[[Progress], None] | None,
) -> TrainReport:
    torch.manual_seed(config.seed)
    side = max(getattr(config, name, 0) for name in ("crop_size", "image_size"))
    layout = pick_memory_format(config.memory_format, device, side)
    recipe: Recipe = RECIPES[recipe_name](config)
    for network in (*recipe.networks.values(), *recipe.averages.values()):
        network.to(device)
        network.to(memory_format=layout)  # type: ignore[call-overload]
    learner = Learner(recipe.networks, recipe.optimizers, device, precision, config.accumulate, processes)
    saved, first_process = config.out / checkpoint.NAME, processes.rank == 0
    log = LossLog(config.out, config.log_every, config.tensorboard)
    if saved.exists() and not resume:
        raise OutputExistsError(f"{config.out}: holds a run already; go on with it by --resume, or choose another folder")
    step, seconds_before = 0, 0.0
    if resume:
        state = checkpoint.load(saved)
        step, seconds_before = restore(recipe, learner, state, recipe_name), state["seconds"]
        log.load_state_dict(state["log"])
    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, config.out) from error
    for network in recipe.networks.values():
        processes.share(network.state_dict().values())
        if config.compile:
            network.compile()
    fixed = {name: inputs.to(device) for name, inputs in recipe.fixed_set().items()}
    started, first, losses = time.perf_counter(), step, dict[str, float]()
    last = min(until or recipe.steps, recipe.steps)
    batch = config.batch_size * processes.count

    def seconds() -> float:
        return max(time.perf_counter() - started, 1e-9)

    def save() -> None:
        require_finite(recipe, step, saved)
        state = capture(recipe, learner, recipe_name, step, fixed)
        if first_process:
            checkpoint.save(saved, state | {"log": log.state_dict(), "seconds": seconds_before + seconds()})

    def sample() -> None:
        if first_process:
            for name, inputs in fixed.items():
                write_sheet(config.out, step, name, inputs.cpu() if inputs.ndim == 4 else None, recipe.sample(name, inputs).cpu())
            speed = (step - first) * batch / seconds()
            numbers = {"steps": f"{step} of {recipe.steps}", "seconds": seconds_before + seconds(), "pairs per second": speed}
            write_page(config, recipe_name, numbers | {"device": str(device), "precision": precision}, recipe.data_facts(), log)

    if first_process:
        log.open(step)
    with closing(log), stop_on_signal() as stopped, ThreadPoolExecutor(1, "batches") as ahead:

        def fetch(step: int) -> tuple[Tensor, ...]:
            batch: tuple[Tensor, ...] = recipe.batch(step, processes)
            return batch

        upcoming = ahead.submit(fetch, step)
        while step < last:
            tensors = tuple(tensor.to(device, memory_format=layout) for tensor in upcoming.result())
            if step + 1 < last:
                upcoming = ahead.submit(fetch, step + 1)
            # Noise, augmentation and pool: a function of seed, step and process.
            torch.manual_seed((config.seed * 1_000_003 + step + 1) * 1_009 + processes.rank)
            for name, optimizer in recipe.optimizers.items():
                for group in optimizer.param_groups:
                    group["lr"] = recipe.rates[name] * rate_factor(step, recipe.steps, config.schedule)
            losses, stop = agreed(recipe.step(tensors, learner, step), stopped.is_set(), processes)
            bad = [name for name, value in losses.items() if not abs(value) < DIVERGED]
            if bad:
                found = ", ".join(f"{name} is {losses[name]:.3g}" for name in bad)
                raise diverged(step + 1, f"{found}: no number, or beyond all bounds", saved)
            for name, average in recipe.averages.items():
                decay, before = recipe.decays[name]
                update_average(average, recipe.networks[name], average_decay(before + step, decay))
            step += 1
            if first_process:
                log.add(step, losses)
                if on_progress:
                    on_progress(Progress(step, recipe.steps, (step - first) * batch / seconds(), losses))
            if step % config.save_every == 0 or step == last:
                save()
            if step % config.sample_every == 0 or step == last:
                sample()
            if stop:
                save()
                raise Interrupted(f"stopped at step {step} of {recipe.steps}, saved; go on with --resume")
    speed = (step - first) * batch / seconds()
    return TrainReport(step, seconds(), speed, losses, str(saved), str(config.out / "index.html"))


def agreed(losses: dict[str, Tensor], stop: bool, processes: Processes) -> tuple[dict[str, float], bool]:
    """The losses averaged over the processes, as numbers, and whether one of them was told to stop; one wait for the device."""
    values = torch.stack([value.detach().float() for value in losses.values()])
    values = torch.cat([values, values.new_tensor([float(stop)])])
    processes.average([values])
    *numbers, asked = values.tolist()
    return dict(zip(losses, numbers, strict=True)), asked > 0


def rate_factor(step: int, steps: int, schedule: str = "linear") -> float:
    """What the learning rate is multiplied by. linear: 1 for the first half, then to 0 (CycleGAN, appendix 7.1)."""
    done = step / steps
    if schedule == "linear":
        return min(1.0, 2.0 * (1.0 - done))
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 0.1 ** int(4 * done) if schedule == "step" else 1.0


def average_decay(step: int, decay: float) -> float:
    """Short memory at the start, so that the average is not of the first, random weights; `decay` 0: no average at all."""
    return min(decay, (1 + step) / (10 + step))


def capture(recipe: Recipe, learner: Learner, name: str, step: int, fixed: dict[str, Tensor]) -> dict[str, Any]:
    """Everything that the next step depends on, as plain data; pools of every process."""
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
    }


def require_finite(recipe: Recipe, step: int, saved: Path) -> None:
    """TrainingDiverged if a weight is no number: finite losses of a step say nothing of the update that followed them."""
    for name, network in recipe.networks.items():
        if not all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters()):
            raise diverged(step, f"weights of {name} are no numbers", saved)


def diverged(step: int, found: str, saved: Path) -> TrainingDiverged:
    """The error that says what was found, and whether `saved` holds a checkpoint from before."""
    kept = "the checkpoint before it is kept" if saved.exists() else "nothing was saved before it"
    return TrainingDiverged(f"step {step}: {found}; {kept}")


KEPT = ("crop_size", "image_size", "latent", "variant", "direction", "teacher")  # settings that a resumed run cannot change


def restore(recipe: Recipe, learner: Learner, state: dict[str, Any], name: str) -> int:
    """Loads what `capture` gave into a fresh recipe; returns the step. ConfigError if it is another recipe or another net."""
    if state["recipe"] != name:
        raise ConfigError(f"the checkpoint is a run of {state['recipe']!r}, not of {name!r}")
    asked = recipe.config.to_dict()
    for key in KEPT:
        saved = state["config"].get(key)
        if saved != asked.get(key):
            raise ConfigError(f"the checkpoint was trained at {key} {saved}, which a resumed run keeps; got {asked.get(key)}")
    if state["precision"] != learner.precision and "fp16" in (state["precision"], learner.precision):
        raise ConfigError(
            f"the checkpoint was trained in {state['precision']}, which a resumed run keeps; got {learner.precision}"
        )
    checkpoint.fill(state, recipe)
    pools = state["pools"][learner.processes.rank % len(state["pools"])]
    for key, pool in recipe.pools.items():
        pool.load_state_dict(pools[key])
    for key, scaler in learner.scalers.items():
        scaler.load_state_dict(state["scalers"][key])
    return int(state["step"])


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event instead of ending the process; only in the main thread, where Python allows it."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
