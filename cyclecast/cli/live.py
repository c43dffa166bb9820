"""The command that runs a live source through models: `live`."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

import cyclecast
from cyclecast.cli.console import (
    DeviceOption,
    EngineOption,
    JsonOption,
    OverwriteOption,
    PrecisionOption,
    building,
    engine_facts,
    print_json,
    print_line,
)

if TYPE_CHECKING:
    from cyclecast.runtime.model import Model
    from cyclecast.video.live.session import LiveReport


def live(
    source: Annotated[
        str,
        typer.Argument(
            help="0, /dev/video0, rtsp://..., http://..., csi://0, screen, browser, pattern://1280x720@30, "
            "or a file, played in real time."
        ),
    ] = "0",
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="A bundled name, an ONNX frame model or a plan; several: switched while running."),
    ] = None,
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    sink: Annotated[
        list[str] | None,
        typer.Option(help="window, virtual, web, null, or a file to record into; repeatable. Default: window."),
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="End that long after the first picture.")] = None,
    width: Annotated[int | None, typer.Option(min=16, help="Of the source's pictures.")] = None,
    height: Annotated[int | None, typer.Option(min=16, help="Of the source's pictures.")] = None,
    fps: Annotated[float | None, typer.Option(min=0.1, help="Of the source; more are not taken.")] = None,
    work_height: Annotated[int | None, typer.Option(min=16, help="Run the model at this height, at most.")] = None,
    target_fps: Annotated[float | None, typer.Option(min=0.1, help="Work at fewer lines where that keeps this rate.")] = None,
    steady: Annotated[float, typer.Option(min=0, max=1, help="Take flicker out: 0 not at all, 1 firmly.")] = 0.0,
    split: Annotated[bool, typer.Option("--split", help="The source in the left half.")] = False,
    mirror: Annotated[bool, typer.Option("--mirror", help="As in a mirror.")] = False,
    loop: Annotated[bool, typer.Option(help="Files begin again at their end.")] = True,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="A line a second.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """A camera, stream or file on one side, the styled picture on the other, the newest frame first.

    Example: cyclecast live 0 --model monet --model winter --sink window --sink virtual
    """
    from cyclecast.runtime.model import find_model
    from cyclecast.video.live.options import LiveOptions
    from cyclecast.video.live.session import Session
    from cyclecast.video.live.sinks.registry import open_sink
    from cyclecast.video.live.sources.source import CaptureSettings

    options = LiveOptions(
        seconds=seconds,
        work_height=work_height,
        target_fps=target_fps,
        steady=steady,
        split=0.5 if split else None,
        mirror=mirror,
        verbose=verbose,
    )
    facts: dict[str, str] = {}

    def load(name: str) -> Model:
        opened = cyclecast.load(name, engine, device, precision, building(name))
        if not facts:
            facts.update(engine_facts(opened))
            print_line(f"{opened.name} on {facts['engine']} {facts['precision']}, {facts['device']}")
        return opened

    models = model or ["monet"]
    for name in models[1:]:  # opened when they are chosen, but told now if they are not there
        find_model(name)
    session = Session(
        source,
        models,
        load,
        sink or ["window"],
        partial(open_sink, overwrite=overwrite),
        CaptureSettings(width, height, fps, loop),
        options,
        print_line,
    )
    report = session.run()
    if as_json:
        print_json(dataclasses.asdict(report) | facts)
    else:
        tell(report)
    if any(one.failure for one in report.sinks):
        raise typer.Exit(1)


def tell(report: LiveReport) -> None:
    """What came of it."""
    late = report.latency_ms
    print_line(
        f"{report.seconds:.0f} s: {report.shown} of {report.captured} frames shown, {report.fps:.1f} fps, "
        f"latency {late.p50:.0f} ms (p95 {late.p95:.0f}, p99 {late.p99:.0f}), model {report.model_ms.p50:.1f} ms"
    )
