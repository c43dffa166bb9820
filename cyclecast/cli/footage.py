"""Commands that run footage through a model: `demo`, `convert`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

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
    bars,
    console,
    engine_facts,
    opened,
    print_json,
)
from cyclecast.errors import CyclecastError


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the three files.")] = Path("cyclecast-demo"),
    model: ModelOption = "monet",
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    work_height: Annotated[
        int | None, typer.Option(min=16, help="Paint at this height: fewer lines, larger strokes, more speed.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.2, max=600, help="Length of the scene.")] = 4.0,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """The main job, on this machine, now: draw a scene with sound, convert it, show the figures.

    Example: cyclecast demo --out demo
    """
    from cyclecast.demo import run_demo

    with opened(model, engine, device, precision) as opened_model, bars() as bar:
        made = run_demo(
            out,
            opened_model,
            seconds=seconds,
            work_height=work_height,
            overwrite=overwrite,
            on_render=bar("drawing"),
            on_convert=bar("converting"),
        )
        facts = engine_facts(opened_model)
    report = made.report
    if as_json:
        return print_json({**dataclasses.asdict(report), **facts, "clip": str(made.clip), "before_after": str(made.before_after)})
    rows = {
        "engine": f"{facts['engine']} {facts['precision']} on {facts['device']}",
        "model": opened_model.name,
        "size": f"{report.width}x{report.height}" + (f", painted at a height of {work_height}" if work_height else ""),
        "frames": f"{report.frames}, sound {report.audio}",
        "frames per second": f"{report.fps:.1f} (model alone {1000 / report.stages_ms['model']:.1f})",
        "clip": str(made.clip),
        "styled clip": str(made.styled),
        "before and after": str(made.before_after),
    }
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # paths stay whole
    for name, value in rows.items():
        table.add_row(name, value)
    Console(soft_wrap=True, highlight=False).print(table)


def convert(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Videos, images, folders, globs.")],
    output: Annotated[str, typer.Argument(help="A file, or a folder for several.")],
    model: ModelOption = "monet",
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    codec: Annotated[str | None, typer.Option(help="h264, hevc, av1 or vp9; default by container.")] = None,
    crf: Annotated[int | None, typer.Option(min=0, max=63, help="Quality, lower is better; default by codec.")] = None,
    preset: Annotated[str | None, typer.Option(help="The encoder's own speed preset; x264: ultrafast ... veryslow.")] = None,
    no_audio: Annotated[bool, typer.Option("--no-audio", help="Leave the sound out.")] = False,
    work_height: Annotated[
        int | None, typer.Option(min=16, help="Run the model at this height, deliver the source's size.")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run videos and images through a model; sound and timestamps are kept.

    Example: cyclecast convert holiday.mp4 painted.mp4 --model monet
    """
    from cyclecast.video.convert import ConvertOptions, convert_file, plan

    options = ConvertOptions(
        codec=codec, crf=crf, preset=preset, audio=not no_audio, work_height=work_height, overwrite=overwrite
    )
    planned = plan(sources, output)
    several = len(planned) > 1 or planned[0][0] != Path(sources[0])  # a folder or glob is several, whatever it holds
    results: list[dict[str, Any]] = []
    with opened(model, engine, device, precision) as opened_model:
        facts = engine_facts(opened_model)
        for source, target in planned:
            try:
                with bars() as bar:
                    report = convert_file(source, target, opened_model, options, bar(source.name))
                results.append(dataclasses.asdict(report))
                console.print(f"{target}: {report.frames} frames, {report.fps:.1f} fps, sound {report.audio}", markup=False)
                for left_out in report.dropped:
                    console.print(f"{target}: without {left_out}", markup=False)
                if report.damage:
                    console.print(f"error: {source}: {report.damage}; what can be decoded is in {target}", markup=False)
            except CyclecastError as error:
                if not several:
                    raise
                results.append({"source": str(source), "error": str(error)})
                console.print(f"error: {error}", markup=False)
    if as_json:
        print_json({**facts, "files": results} if several else {**results[0], **facts})
    if any(result.get("error") or result.get("damage") for result in results):
        raise typer.Exit(1)
