"""What the commands share: options of one wording, progress and tables on stderr, JSON on stdout, sizes and settings read."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

import cyclecast
from cyclecast.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from cyclecast.export.agreement import Agreement
    from cyclecast.runtime.model import Model

console = Console(stderr=True, highlight=False, soft_wrap=True)

ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="A bundled name (`cyclecast models`), an ONNX frame model or a plan.")
]
EngineOption = Annotated[str, typer.Option(help="auto, tensorrt, tensorrt-rtx, openvino, onnxruntime or torch.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, gpu, cuda:N; of onnxruntime also tensorrt:N.")]
PrecisionOption = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else there.")]


@contextmanager
def opened(model: str, engine: str, device: str, precision: str) -> Iterator[Model]:
    """The model, open; what runs it is said on stderr, above all what `auto` chose."""
    with cyclecast.load(model, engine, device, precision, building(model)) as loaded:
        facts = engine_facts(loaded)
        console.print(f"{loaded.name} on {facts['engine']} {facts['precision']}, {facts['device']}", markup=False)
        yield loaded


def building(model: str) -> Callable[[float], None]:
    """Tells, a line each fifth, of a plan that an engine builds by itself: the first time that a GPU meets a model and a size."""
    told = -1

    def tell(share: float) -> None:
        nonlocal told
        fifth = int(5 * share)
        if fifth != told:
            console.print(f"{model}: building a plan for this GPU and size, which is kept: {20 * fifth} %", markup=False)
        told = fifth

    return tell


def engine_facts(model: Model) -> dict[str, str]:
    """What every report says of the engine."""
    return {"engine": model.engine.name, "device": model.engine.device, "precision": model.engine.precision}


@contextmanager
def bars(speed: str = "fps") -> Iterator[Callable[..., Callable[..., None]]]:
    """Progress bars on stderr, one for each name: count, rate, time left. All go at the end, a passing one as the next comes."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[more]}", style="dim"),
    )
    others = int(os.environ.get("RANK", "0")) > 0  # of several processes, the first one tells
    with Progress(*columns, console=console, transient=True, disable=others or not console.is_terminal) as progress:
        passing_tasks: list[TaskID] = []

        def bar(name: str, speed: str = speed, passing: bool = False) -> Callable[..., None]:
            while passing and passing_tasks:
                progress.remove_task(passing_tasks.pop())
            task = progress.add_task(name, total=None, rate="", more="")
            passing_tasks.extend([task] if passing else [])

            def update(done: int, total: int | None, more: str = "") -> None:
                now = progress.tasks[progress.task_ids.index(task)].speed
                progress.update(task, completed=done, total=total, rate=f"{now:.1f} {speed}" if now else "", more=more)

            return update

        yield bar


def agreement_table(agreements: Sequence[Agreement], title: str) -> Table:
    """One row for each size that was compared; the differences in gray levels."""
    table = Table("size", "frames", "max", "mean", "PSNR dB", "", title=title)
    for a in agreements:
        verdict = "ok" if a.passed else "differs"
        table.add_row(f"{a.size[0]}x{a.size[1]}", str(a.frames), str(a.max_abs), f"{a.mean_abs:.5f}", f"{a.psnr_db:.1f}", verdict)
    return table


def print_line(line: str) -> None:
    """One line on stderr, above the progress bars."""
    console.print(line, markup=False)


def print_json(value: dict[str, Any]) -> None:
    """One object on stdout; what JSON has no number for, such as the PSNR of equal pictures, is null."""
    print(json.dumps(finite(value), allow_nan=False))


def finite(value: Any) -> Any:
    """The same nested value with None for NaN and infinity."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Imports that an extra brings; without it, the line to type."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("cyclecast"):
            raise
        raise MissingExtraError(f"{error.name} is not installed: pip install 'cyclecast[{name}]'") from error


def pairs(settings: list[str]) -> dict[str, str]:
    """key=value, each."""
    for setting in settings:
        if "=" not in setting:
            raise ConfigError(f"--set takes key=value, got {setting!r}")
    return {key.strip(): value.strip() for key, value in (setting.split("=", 1) for setting in settings)}


def parse_time(text: str) -> Fraction:
    """Seconds of `90`, `1:30` or `0:01:30.5`, exactly."""
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        raise ConfigError(f"a time is seconds, MM:SS or HH:MM:SS, got {text!r}")
    seconds = Fraction(0)
    for part in text.split(":"):
        seconds = seconds * 60 + Fraction(part)
    return seconds


def parse_size(text: str) -> tuple[int, int] | None:
    """WIDTHxHEIGHT, or None for `dynamic`."""
    return None if text == "dynamic" else required_size(text, "WIDTHxHEIGHT or dynamic")


def required_size(text: str, wanted: str = "WIDTHxHEIGHT") -> tuple[int, int]:
    """WIDTHxHEIGHT. wanted: what to ask for instead of something else."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise ConfigError(f"a size is {wanted}, got {text!r}")
    return int(match[1]), int(match[2])
