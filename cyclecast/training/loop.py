"""The whole run, read from top to bottom: train(recipe, config) -> report."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cyclecast.errors import ConfigError, EngineUnavailable, Interrupted, OutputError, TrainingDiverged
from cyclecast.training import checkpoint
from cyclecast.training.config import TrainConfig
from cyclecast.training.data import to_bytes
from cyclecast.training.networks import update_average
from cyclecast.training.recipes import RECIPES
from cyclecast.training.report import write_sheets

LOG = "losses.jsonl"


@dataclass(frozen=True)
class TrainReport:
    """What `cyclecast train --json` prints."""

    steps: int
    seconds: float
    pairs_per_second: float
    losses: dict[str, float]
    checkpoint: str


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

    until: the step to stop after, saved, with the schedule of the whole run; None: the last.

    Raises InputError (data), ConfigError, OutputError (a run is there already, or the folder cannot be written),
    Interrupted (Ctrl-C or SIGTERM, after saving) and TrainingDiverged (a loss that is no number).
    """
    device = pick_device(config.device)
    precision, precision_name = pick_precision(config.precision, device)
    torch.manual_seed(config.seed)
    recipe = RECIPES[recipe_name](config, device)  # type: ignore[arg-type]
    saved = config.out / checkpoint.NAME
    step = 0
    if saved.exists() and not resume:
        raise OutputError(f"{config.out}: holds a run already; go on with it by --resume, or choose another folder")
    log = LossLog(config.out / LOG)
    if resume:
        state = checkpoint.load(saved)
        step = restore(recipe, state, recipe_name)
        log.load_state_dict(state["log"])
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        log.rewrite()
    except OSError as error:
        raise OutputError(f"{config.out}: cannot be written ({error.strerror})") from error
    fixed = {name: images.to(device) for name, images in recipe.fixed_set().items()}
    started, first, losses = time.perf_counter(), step, {}

    def save() -> None:
        require_finite(recipe, step)
        checkpoint.save(saved, capture(recipe, recipe_name, step, precision_name, fixed) | {"log": log.state_dict()})

    def sample() -> None:
        for direction, originals in fixed.items():
            write_sheets(config.out, step, direction, originals.cpu(), recipe.translate(originals, direction).cpu())

    last = min(until or recipe.steps, recipe.steps)
    with stop_on_signal() as stopped, ThreadPoolExecutor(1, "batches") as ahead:
        upcoming = ahead.submit(recipe.batch, step)
        while step < last:
            real_a, real_b = (images.to(device) for images in upcoming.result())
            if step + 1 < last:
                upcoming = ahead.submit(recipe.batch, step + 1)
            torch.manual_seed(config.seed * 1_000_003 + step + 1)  # augmentation and pool: a function of seed and step
            for name, optimizer in recipe.optimizers.items():
                for group in optimizer.param_groups:
                    group["lr"] = recipe.rates[name] * rate_factor(step, recipe.steps)
            losses = {name: float(value) for name, value in recipe.step((real_a, real_b), precision).items()}
            bad = [name for name, value in losses.items() if not math.isfinite(value)]
            if bad:
                raise TrainingDiverged(f"step {step + 1}: {', '.join(bad)} is no number; the checkpoint before it is kept")
            for name, average in recipe.averages.items():
                update_average(average, recipe.networks[name], average_decay(step, config.ema_decay))
            step += 1
            log.add(step, losses, config.log_every)
            if on_progress:
                speed = (step - first) * config.batch_size / (time.perf_counter() - started)
                on_progress(Progress(step, recipe.steps, speed, losses))
            if step % config.sample_every == 0 or step == last:
                sample()
            if step % config.save_every == 0 or step == last:
                save()
            if stopped.is_set() and step < last:
                save()
                raise Interrupted(f"stopped at step {step} of {recipe.steps}, saved; go on with --resume")
    seconds = time.perf_counter() - started
    return TrainReport(step, seconds, (step - first) * config.batch_size / max(seconds, 1e-9), losses, str(saved))


def pick_device(name: str) -> torch.device:
    """The torch device for `--device`; EngineUnavailable if it was asked for and is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device({"gpu": "cuda"}.get(name, name))
    except RuntimeError:
        raise ConfigError(f"no device named {name!r}: auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EngineUnavailable(f"{name} was asked for and is not on this machine; torch sees {torch.cuda.device_count()} GPUs")
    return device


def pick_precision(name: str, device: torch.device) -> tuple[AbstractContextManager[Any], str]:
    """The autocast to compute in, and its name. `auto` takes bf16 where the hardware has it."""
    if name == "auto":
        name = "bf16" if has_native_bf16(device) else "fp32"
    if name == "bf16":
        return torch.autocast(device.type, torch.bfloat16), name
    return nullcontext(), name


def has_native_bf16(device: torch.device) -> bool:
    """Whether bf16 is computed rather than emulated: Ampere and later GPUs, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def rate_factor(step: int, steps: int) -> float:
    """1 for the first half, then linearly to 0 (CycleGAN, appendix 7.1)."""
    return min(1.0, 2.0 * (1.0 - step / steps))


def average_decay(step: int, decay: float) -> float:
    """Short memory at the start, so that the average is not of the first, random weights; `decay` 0: no average at all."""
    return min(decay, (1 + step) / (10 + step))


def capture(recipe: Any, name: str, step: int, precision: str, fixed: dict[str, Tensor]) -> dict[str, Any]:
    """Everything that the next step depends on, as plain data."""
    return {
        "recipe": name,
        "config": recipe.config.to_dict(),
        "step": step,
        "precision": precision,
        "networks": {key: network.state_dict() for key, network in recipe.networks.items()},
        "averages": {key: network.state_dict() for key, network in recipe.averages.items()},
        "optimizers": {key: optimizer.state_dict() for key, optimizer in recipe.optimizers.items()},
        "pools": {key: pool.state_dict() for key, pool in recipe.pools.items()},
        "fixed": {key: to_bytes(images) for key, images in fixed.items()},
    }


def require_finite(recipe: Any, step: int) -> None:
    """TrainingDiverged if a weight is no number: finite losses of a step say nothing of the update that followed them."""
    for name, network in recipe.networks.items():
        if not all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters()):
            raise TrainingDiverged(f"step {step}: weights of {name} are no numbers; the checkpoint before it is kept")


def restore(recipe: Any, state: dict[str, Any], name: str) -> int:
    """Loads what `capture` gave into a fresh recipe; returns the step. ConfigError if it is another recipe or another net."""
    if state["recipe"] != name:
        raise ConfigError(f"the checkpoint is a run of {state['recipe']!r}, not of {name!r}")
    saved_crop, crop = state["config"].get("crop_size"), recipe.config.to_dict().get("crop_size")
    if saved_crop != crop:
        raise ConfigError(f"the checkpoint was trained at crop_size {saved_crop}, which a resumed run keeps; got {crop}")
    try:
        for part in ("networks", "averages", "optimizers", "pools"):
            for key, target in getattr(recipe, part).items():
                target.load_state_dict(state[part][key])
    except (RuntimeError, ValueError, KeyError):
        raise ConfigError("the checkpoint's networks have another shape than the settings ask for") from None
    return int(state["step"])


class LossLog:
    """One JSON line for every `every` steps with the means over them; sums that are not full yet go into the checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[str] = []
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, step: int, losses: dict[str, float], every: int) -> None:
        """Counts one step in, and writes a line when `every` of them are full."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if step % every == 0:
            means = {name: round(total / self._count, 5) for name, total in self._sums.items()}
            self._lines.append(json.dumps({"step": step, **means}) + "\n")
            self._sums, self._count = {}, 0
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(self._lines[-1])
            except OSError as error:
                raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from error

    def rewrite(self) -> None:
        """The file as it is known here: empty for a new run, without the lines after the checkpoint for a resumed one."""
        self.path.write_text("".join(self._lines), "utf-8")

    def state_dict(self) -> dict[str, Any]:
        """Lines and sums, so that neither a torn last line nor a stop between two lines loses anything."""
        return {"lines": list(self._lines), "sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._lines, self._sums, self._count = list(state["lines"]), dict(state["sums"]), int(state["count"])


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
