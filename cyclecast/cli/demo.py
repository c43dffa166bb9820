"""The command `demo`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cyclecast.cli.console import (
    DeviceOption,
    EngineOption,
    JsonOption,
    ModelOption,
    OverwriteOption,
    PrecisionOption,
    StrengthOption,
    ThreadsOption,
    WorkHeightOption,
    bars,
    engine_facts,
    open_model,
    print_json,
)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the clip, the styled clip and the image before-after.jpg.")] = Path(
        "cyclecast-demo"
    ),
    model: ModelOption = "monet",
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    work_height: WorkHeightOption = None,
    strength: StrengthOption = 1.0,
    seconds: Annotated[float, typer.Option(min=0.2, max=600, help="Length of the clip in seconds.")] = 4.0,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Render a short clip with sound, convert it with a model, and print how fast this machine is. Needs no footage.

    Example: cyclecast demo --out demo
    """
    from cyclecast.demo import run_demo

    with open_model(model, engine, device, precision, threads) as opened_model, bars() as bar:
        result = run_demo(
            out,
            opened_model,
            seconds=seconds,
            work_height=work_height,
            strength=strength,
            overwrite=overwrite,
            on_render=bar("rendering"),
            on_convert=bar("converting"),
        )
        facts = engine_facts(opened_model)
    report = result.report
    if as_json:
        paths = {"clip": str(result.clip), "before_after": str(result.before_after)}
        return print_json({**dataclasses.asdict(report), **facts, **paths})
    rows = {
        "engine": f"{facts['engine']} {facts['precision']} on {facts['device']}",
        "model": opened_model.name + (f", strength {strength:g}" if strength < 1 else ""),
        "size": f"{report.width}x{report.height}" + (f", model at a height of {work_height}" if work_height else ""),
        "frames": f"{report.frames}, sound {report.audio}",
        "frames per second": f"{report.fps:.1f} (model alone {1000 / report.stages_ms['model']:.1f})",
        "clip": str(result.clip),
        "styled clip": str(result.styled),
        "before and after": str(result.before_after),
    }
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # paths stay whole
    for name, value in rows.items():
        table.add_row(name, value)
    Console(soft_wrap=True, highlight=False).print(table)
