"""The command `bench`."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

import cyclecast
from cyclecast.cli.console import (
    DeviceOption,
    JsonOption,
    ModelOption,
    ThreadsOption,
    console,
    print_json,
    print_warnings,
    report_build,
    required_size,
)

if TYPE_CHECKING:
    from cyclecast.runtime.bench import Bench


def bench(
    model: ModelOption = "monet",
    size: Annotated[str, typer.Option(help="Frame size in pixels, WIDTHxHEIGHT.")] = "1280x720",
    engine: Annotated[
        list[str] | None,
        typer.Option(help="Engine to time, as in `convert`. Repeatable. Default: all on this machine except torch."),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    frames: Annotated[int, typer.Option(min=1, help="Number of frames to time for each engine and precision.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Time a model on this machine, from frame in to frame out: each engine in its own precision, int8, bf16 and fp32.

    Example: cyclecast bench --model monet --size 1280x720
    """
    from cyclecast.runtime.bench import measure_engines
    from cyclecast.runtime.engine import check_size
    from cyclecast.video.scene import Scene

    frame_size = required_size(size)
    check_size(*frame_size, None)
    on_message = partial(console.print, markup=False)
    scene = Scene(*frame_size)
    images = [scene.draw(index / 2) for index in range(8)]  # four seconds of the scene
    with print_warnings():
        report = measure_engines(
            model, images, engine or (), device, frames, on_message, report_build(model), cyclecast.open_engine, threads
        )
    if as_json:
        return print_json(dataclasses.asdict(report))
    console.print(bench_table(report))


def bench_table(report: Bench) -> Table:
    """Returns the table of results: one row for each engine and precision."""
    table = Table(title=f"{report.model}, {report.size}, {report.frames} frames; {report.machine}")
    table.add_column("engine", no_wrap=True)
    table.add_column("device", min_width=9)
    for name in ("p50 ms", "p95 ms", "p99 ms", "fps", "PSNR dB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        figures = (row.ms.p50, row.ms.p95, row.ms.p99, row.fps, row.psnr_db)
        words = ("no fp32" if math.isnan(figure) else f"{figure:.1f}" for figure in figures)
        table.add_row(f"{row.engine} {row.precision}", row.device, *words)
    return table
