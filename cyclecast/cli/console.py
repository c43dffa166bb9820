"""Shared by the commands: options, progress bars and tables on stderr, JSON on stdout, parsers of sizes, times and settings."""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

import cyclecast
from cyclecast.cli.stderr import MessageStream
from cyclecast.debug import is_debug_enabled
from cyclecast.errors import ConfigError, MissingExtraError
from cyclecast.phrases import printable

if TYPE_CHECKING:
    from cyclecast.export.adopt.sizes import Finding
    from cyclecast.export.agreement import Agreement
    from cyclecast.runtime.model import Model

messages = cast(IO[str], MessageStream())
console = Console(file=messages, highlight=False, soft_wrap=True)

MODEL = (
    "A bundled model (`cyclecast models` lists them), the path of an ONNX frame model or plan, or an address: hf:user/name or "
    "https://…/x.onnx."
)
ModelOption = Annotated[str, typer.Option("--model", "-m", help=MODEL)]
EngineOption = Annotated[
    str, typer.Option(help="Engine that runs the model: auto, tensorrt, tensorrt-rtx, openvino, onnxruntime, webgpu or torch.")
]
DeviceOption = Annotated[
    str,
    typer.Option(
        help="Device: auto (the first one that works of: NVIDIA GPU, Intel GPU, Intel NPU, GPU of a Mac, other GPU, CPU), cpu, "
        "gpu, gpu:N, npu, coreml or cuda:N; with onnxruntime also tensorrt:N."
    ),
]
PrecisionOption = Annotated[str, typer.Option(help="Precision of the arithmetic: auto, int8, bf16, fp16 or fp32.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of CPU threads that the engine computes with, at most the logical cores of this machine. Default: the "
        "engine's choice.",
    ),
]
WorkHeightOption = Annotated[
    int | None,
    typer.Option(
        min=16,
        help="Height in pixels at which the model runs; the output keeps its size. A lower one is faster and paints larger "
        "strokes. Default: the source's height.",
    ),
]
StrengthOption = Annotated[
    float,
    typer.Option(min=0, max=1, help="Share of the styled frame in the output: 0 (the source) to 1 (the model's output)."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout, and messages to stderr.")]


@contextmanager
def open_model(model: str, engine: str, device: str, precision: str, threads: int | None = None) -> Iterator[Model]:
    """Opens a model and prints the engine, precision and device that run it, which `auto` may have chosen."""
    with print_warnings():
        opened = cyclecast.load(model, engine, device, precision, report_build(model), threads)
    with opened as loaded:
        facts = engine_facts(loaded)
        print_line(f"{loaded.name} on {facts['engine']} {facts['precision']}, {facts['device']}")
        yield loaded


@contextmanager
def print_warnings(print_message: Callable[[str], None] | None = None) -> Iterator[None]:
    """Prints the log's warnings as lines on stderr: an engine that `auto` skipped, or unpaired files.

    print_message: prints one line; default: `print_line`. A nested call changes nothing.
    """
    log = logging.getLogger("cyclecast")
    if is_debug_enabled() or any(isinstance(handler, _PrintedLog) for handler in log.handlers):  # which print them, too
        yield
        return
    handler = _PrintedLog(print_message or print_line)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


@contextmanager
def print_fetches() -> Iterator[None]:
    """Prints a line on stderr for the start, the progress and the end of each transfer of a model from an address."""
    log = logging.getLogger("cyclecast.runtime.remote")
    handler, level = _PrintedLog(print_line, logging.INFO), log.level
    handler.addFilter(lambda record: not is_debug_enabled())  # the debug log prints them, too
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


class _PrintedLog(logging.Handler):
    def __init__(self, print_message: Callable[[str], None], level: int = logging.WARNING) -> None:
        super().__init__(level)
        self._print = print_message

    def emit(self, record: logging.LogRecord) -> None:
        self._print(record.getMessage())


def report_build(model: str) -> Callable[[float], None]:
    """Returns a callback that prints a line for each fifth of a plan that an engine builds for a new GPU, model or size."""
    last = -1

    def report(share: float) -> None:
        nonlocal last
        fifth = int(5 * share)
        if fifth != last:
            console.print(f"{model}: building a plan for this GPU and size, to be kept: {20 * fifth} %", markup=False)
        last = fifth

    return report


def engine_facts(model: Model) -> dict[str, str]:
    """Returns the fields about the engine that every report has."""
    return {"engine": model.engine.name, "device": model.engine.device, "precision": model.engine.precision}


@contextmanager
def bars(speed: str = "fps") -> Iterator[Callable[..., Callable[..., None]]]:
    """Shows progress bars on stderr, with count, rate and time left. Yields bar(name, …), which returns update(done, total).

    All bars disappear at the end; a `transient` bar disappears when the next one starts.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[more]}", style="dim"),
    )
    is_worker = int(os.environ.get("RANK", "0")) > 0  # of several processes, only the first one prints
    with Progress(*columns, console=console, transient=True, disable=is_worker or not console.is_terminal) as progress:
        transient_tasks: list[TaskID] = []

        def bar(name: str, speed: str = speed, transient: bool = False) -> Callable[..., None]:
            while transient and transient_tasks:
                progress.remove_task(transient_tasks.pop())
            task = progress.add_task(printable(name), total=None, rate="", more="")
            transient_tasks.extend([task] if transient else [])

            def update(done: int, total: int | None, more: str = "") -> None:
                rate = progress.tasks[progress.task_ids.index(task)].speed
                progress.update(task, completed=done, total=total, rate=f"{rate:.1f} {speed}" if rate else "", more=more)

            return update

        yield bar


@contextmanager
def stage_bars(speed: str = "/s") -> Iterator[Callable[[str, int, int], None]]:
    """Yields update(stage, done, total), which shows a bar for each stage."""
    with bars(speed) as bar:
        stages: dict[str, Callable[..., None]] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bar(stage)
            stages[stage](done, total)

        yield update


def agreement_table(agreements: Sequence[Agreement], title: str) -> Table:
    """Builds a table with a row for each compared size; the differences are in gray levels."""
    table = Table("size", "frames", "max", "mean", "PSNR dB", "", title=title)
    for a in agreements:
        verdict = "ok" if a.passed else "differs"
        table.add_row(f"{a.size[0]}x{a.size[1]}", str(a.frames), str(a.max_abs), f"{a.mean_abs:.5f}", f"{a.psnr_db:.1f}", verdict)
    return table


def findings_table(findings: Sequence[Finding], title: str) -> Table:
    """Builds the table of findings: what was read from a file or assumed, and why."""
    table = Table("setting", "value", "why", title=title)
    for finding in findings:
        table.add_row(Text(finding.what), Text(finding.value), Text(finding.why))
    return table


def print_line(line: str) -> None:
    """Prints one line to stderr, above the progress bars; escapes characters that would act on the terminal. Never raises."""
    console.print(printable(line), markup=False)


def print_json(value: dict[str, Any]) -> None:
    """Prints one object to stdout. NaN and infinity, such as the PSNR of equal images, become null."""
    print(json.dumps(finite(value), allow_nan=False))


def finite(value: Any) -> Any:
    """Returns the same nested value, with None in place of NaN and infinity."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


LARGE_LIBRARY = 200  # modules; PyTorch has more than a thousand


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Wraps imports that need an extra. Raises MissingExtraError with the command that installs it.

    Pauses the garbage collector, and exempts a large library from it: its modules stay, and each walk over them takes time.
    """
    is_enabled, modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("cyclecast"):
            raise
        raise MissingExtraError(f"{error.name} is not installed: pip install 'cyclecast[{name}]'") from error
    finally:
        if len(sys.modules) - modules >= LARGE_LIBRARY:
            gc.freeze()
        if is_enabled:
            gc.enable()


def parse_settings(settings: list[str], option: str = "--set") -> dict[str, str]:
    """Parses `--set key=value`. option: for the error message. Raises ConfigError for other text."""
    for setting in settings:
        if "=" not in setting:
            raise ConfigError(f"{option} expects key=value, got {setting!r}")
    return {key.strip(): value.strip() for key, value in (setting.split("=", 1) for setting in settings)}


def parse_numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Parses `0.5,0.5,0.5`; None stays None. option: for the error message. Raises ConfigError for other text."""
    try:
        return None if text is None else tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option} expects three numbers R,G,B, got {text!r}") from error


def parse_time(text: str) -> Fraction:
    """Parses `90`, `1:30` or `0:01:30.5` to exact seconds. Raises ConfigError for other text."""
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        raise ConfigError(f"a time is seconds, MM:SS or HH:MM:SS, got {text!r}")
    seconds = Fraction(0)
    for part in text.split(":"):
        seconds = seconds * 60 + Fraction(part)
    return seconds


def parse_size(text: str) -> tuple[int, int] | None:
    """Parses WIDTHxHEIGHT to (width, height), and `dynamic` to None. Raises ConfigError for other text."""
    return None if text == "dynamic" else required_size(text, "WIDTHxHEIGHT or dynamic")


def required_size(text: str, expected: str = "WIDTHxHEIGHT") -> tuple[int, int]:
    """Parses WIDTHxHEIGHT to (width, height). expected: for the error message. Raises ConfigError for other text."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise ConfigError(f"a size is {expected}, got {text!r}")
    return int(match[1]), int(match[2])
