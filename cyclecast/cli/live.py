"""The command `live`: styles a camera, a stream or a file in real time."""

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
    engine_facts,
    print_json,
    print_line,
    report_build,
)

if TYPE_CHECKING:
    from cyclecast.runtime.model import Model
    from cyclecast.video.live.session import LiveReport


def live(
    source: Annotated[
        str,
        typer.Argument(
            help="0 or /dev/video0 (camera), rtsp://... or http://... (stream), - (pipe), csi://0 (camera on a Jetson), screen, "
            "browser (camera of the browser that opens --sink web), pattern://1280x720@30 (test pattern), "
            "or a file, played in real time."
        ),
    ] = "0",
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A bundled name (`cyclecast models`), an ONNX frame model or a plan. Repeat it to switch between several while "
            "the video runs. Default: monet.",
        ),
    ] = None,
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    sink: Annotated[
        list[str] | None,
        typer.Option(
            help="Where the video goes: window, virtual (a camera for video calls), web (a page), null (nowhere), or a file to "
            "record. Repeatable. Default: window."
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="End this many seconds after the first frame. Default: run until Ctrl-C.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=16, help="Capture at most this width, in pixels. Default: the source's.")
    ] = None,
    height: Annotated[
        int | None, typer.Option(min=16, help="Capture at most this height, in pixels. Default: the source's.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.1, help="Capture at most this many frames per second. Default: the source's rate.")
    ] = None,
    work_height: Annotated[
        int | None,
        typer.Option(
            min=16,
            help="Run the model at this height at most, in pixels; the output keeps its size. Default: full height.",
        ),
    ] = None,
    target_fps: Annotated[
        float | None,
        typer.Option(min=0.1, help="Lower the processing resolution to hold this frame rate. Default: keep the resolution."),
    ] = None,
    steady: Annotated[float, typer.Option(min=0, max=1, help="Temporal smoothing, from 0 (off) to 1 (strong).")] = 0.0,
    split: Annotated[bool, typer.Option("--split", help="Show the source in the left half, for comparison.")] = False,
    mirror: Annotated[bool, typer.Option("--mirror", help="Flip the video horizontally, like a mirror.")] = False,
    loop: Annotated[bool, typer.Option(help="Play a file again when it ends, or end the run.")] = True,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print frame rate and latency to stderr once a second.")
    ] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Style a camera, a stream or a file in real time, always the newest frame first.

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
        loaded = cyclecast.load(name, engine, device, precision, report_build(name))
        if not facts:
            facts.update(engine_facts(loaded))
            print_line(f"{loaded.name} on {facts['engine']} {facts['precision']}, {facts['device']}")
        return loaded

    models = model or ["monet"]
    for name in models[1:]:  # they are opened on request, but a missing one is an error now
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
        print_summary(report)
    if any(sink_report.failure for sink_report in report.sinks):
        raise typer.Exit(1)


def print_summary(report: LiveReport) -> None:
    """Prints frames, frame rate and latencies of the run in one line."""
    latency = report.latency_ms
    print_line(
        f"{report.seconds:.0f} s: {report.shown} of {report.captured} frames shown, {report.fps:.1f} fps, "
        f"latency {latency.p50:.0f} ms (p95 {latency.p95:.0f}, p99 {latency.p99:.0f}), model {report.model_ms.p50:.1f} ms"
    )
