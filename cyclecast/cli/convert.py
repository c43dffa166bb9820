"""Commands that run footage through a model: `demo`, `convert`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    extra,
    opened,
    parse_time,
    print_json,
)

if TYPE_CHECKING:
    from cyclecast.video.convert.batch import Outcome
    from cyclecast.video.convert.convert import ConversionReport, PartsMaker


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
    pix_fmt: Annotated[str | None, typer.Option(help="Pixel format, as FFmpeg names it; default yuv420p.")] = None,
    encoder: Annotated[
        str, typer.Option(help="auto (hardware that works here, else software), software, nvenc, qsv, vaapi, videotoolbox ...")
    ] = "auto",
    decoder: Annotated[str, typer.Option(help="auto, software, cuda, vaapi, videotoolbox ...")] = "auto",
    no_audio: Annotated[bool, typer.Option("--no-audio", help="Leave the sound out.")] = False,
    start: Annotated[str, typer.Option(help="Where to begin: seconds, or [HH:]MM:SS.")] = "0",
    duration: Annotated[str | None, typer.Option(help="How much to convert from there; default: to the end.")] = None,
    work_height: Annotated[
        int | None, typer.Option(min=16, help="Run the model at this height, deliver the source's size.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on where an earlier run was cut short; or start anew.")] = True,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Passed-over damage is no failure.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Images that are read and written at a time.")] = 2,
    cluster: Annotated[str | None, typer.Option(help="Spread videos over a Ray cluster: its address, or auto.")] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run videos and images through a model; sound and timestamps are kept.

    Example: cyclecast convert holiday.mp4 painted.mp4 --model monet
    """
    from cyclecast.video.convert.batch import Ledger, convert_all, plan
    from cyclecast.video.convert.convert import ConvertOptions, convert_file

    options = ConvertOptions(
        codec=codec,
        crf=crf,
        preset=preset,
        pix_fmt=pix_fmt,
        encoder=encoder,
        decoder=decoder,
        audio=not no_audio,
        start=parse_time(start),
        duration=None if duration is None else parse_time(duration),
        work_height=work_height,
        resume=resume,
        overwrite=overwrite,
    )
    planned = plan(sources, output)
    several = len(planned) > 1 or planned[0][0] != Path(sources[0])  # a folder or glob is several, whatever it holds
    results: list[dict[str, Any]] = []
    with (
        opened(model, engine, device, precision) as opened_model,
        spread(cluster, model, engine, device, precision) as maker,
        bars() as bar,
    ):
        facts = engine_facts(opened_model)
        if not several:
            ((source, target),) = planned
            report = convert_file(source, target, opened_model, options, bar(source.name), say, maker)
            tell(report)
            results.append(dataclasses.asdict(report))
        else:
            ledger, whole = Ledger(Path(output), resume), bar("files", speed="files/s")
            whole(0, len(planned))
            outcomes = convert_all(
                planned,
                opened_model,
                options,
                ledger,
                jobs=jobs,
                bucketed=opened_model.engine.size is None,
                bar=lambda name: bar(name, passing=True),
                on_message=say,
                maker=maker,
            )
            for number, outcome in enumerate(outcomes, 1):
                whole(number, len(planned))
                results.append(told(outcome))
            ledger.close(all_done=not any("error" in result for result in results))
    failed = any("error" in result for result in results)
    if as_json:
        print_json({**facts, "files": results} if several else {**results[0], **facts})
    if failed or (not keep_going and any(result.get("damage") for result in results)):
        raise typer.Exit(1)


@contextmanager
def spread(address: str | None, model: str, engine: str, device: str, precision: str) -> Iterator[PartsMaker | None]:
    """The cluster, if one is asked for; what it is is said."""
    if address is None:
        yield None
        return
    from cyclecast.runtime.model import find_model

    with extra("cluster"):
        from cyclecast.cluster import Cluster
    with Cluster(address, find_model(model), engine, device, precision) as maker:
        say(maker.described)
        yield maker


def say(line: str) -> None:
    """One line on stderr, above the bars."""
    console.print(line, markup=False)


def told(outcome: Outcome) -> dict[str, Any]:
    """The JSON of one file of a batch, once people have been told."""
    names = {"source": str(outcome.source), "output": str(outcome.output)}
    if outcome.error is not None:
        say(f"error: {outcome.error}")
        return names | {"error": outcome.error}
    if outcome.report is None:
        say(f"{outcome.output}: done by an earlier run")
        return names | {"skipped": "done by an earlier run"}
    tell(outcome.report)
    return dataclasses.asdict(outcome.report)


def tell(report: ConversionReport) -> None:
    """What became of a file, and all that is not as it was."""
    if report.frames == 1 and report.audio == "none":
        say(f"{report.output}: a picture of {report.width}x{report.height}")
    else:
        resumed = f", {report.resumed_frames} of them by an earlier run" if report.resumed_frames else ""
        say(f"{report.output}: {report.frames} frames{resumed}, {report.fps:.1f} fps, sound {report.audio}")
    for left_out in report.dropped:
        say(f"{report.output}: without {left_out}")
    for notice in report.notices:
        say(f"{report.output}: {notice}")
    if report.damage:
        say(f"error: {report.source}: {report.damage}; what can be decoded is in {report.output}")
