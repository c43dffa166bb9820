"""What `live` and `ui` share: the address of a source, models, options, and the summary of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import cyclecast
from cyclecast.cli.console import engine_facts, print_line, print_warnings, report_build
from cyclecast.errors import ConfigError
from cyclecast.files import read_error

if TYPE_CHECKING:
    from cyclecast.runtime.model import Model
    from cyclecast.video.live.session import LiveReport
    from cyclecast.video.live.sinks.web_options import WebOptions

AudioOption = Annotated[
    str,
    typer.Option(
        help="Sound of recordings and network outputs: auto (that of a file or a stream, never a microphone), none, or a "
        "microphone: default or hw:1 (Linux), 0 (macOS), the name of a device (Windows)."
    ),
]


def open_models(
    names: Sequence[str], engine: str, device: str, precision: str, threads: int | None = None
) -> tuple[Callable[[str], Model], dict[str, str]]:
    """Reads all models into memory: a file that is replaced or deleted during the run changes nothing.

    Returns the function that opens one, and a dict for the facts about the engine of the first. Raises ModelError if one is
    missing.
    """
    from cyclecast.runtime.model import find_model
    from cyclecast.runtime.model_file import read_model_file

    files = {name: read_model_file(find_model(name)) for name in names}
    facts: dict[str, str] = {}

    def load(name: str) -> Model:
        with print_warnings():
            loaded = cyclecast.load(files[name], engine, device, precision, report_build(name), threads)
        if not facts:
            facts.update(engine_facts(loaded))
            print_line(f"{loaded.name} on {facts['engine']} {facts['precision']}, {facts['device']}")
        return loaded

    return load, facts


def source_address(source: str | None, source_file: Path | None) -> str:
    """Returns the address of the source: as typed, from the first line of a file, or the first camera.

    Raises ConfigError if both are given or the file is empty, and InputError if the file cannot be read.
    """
    if source_file is None:
        return source or "0"
    if source is not None:
        raise ConfigError("expected SOURCE or --source-file, got both")
    try:
        address = source_file.read_text("utf-8", "replace").partition("\n")[0].strip()
    except OSError as error:
        raise read_error(error, source_file) from error
    if not address:
        raise ConfigError(f"{source_file}: expected the address of a source in the first line")
    return address


def check_web_options(options: WebOptions, sinks: Sequence[str]) -> None:
    """Raises ConfigError if options of the web page are given, and no sink is one. A TURN server may be in the environment."""
    from cyclecast.video.live.sinks.sink import sink_name

    is_default = dataclasses.replace(options, turn=None) == type(options)()
    if not is_default and not any(sink_name(sink) == "web" for sink in sinks):
        raise ConfigError("--max-viewers, --viewer-mbps, --stun and --web-app are for the web page: add --sink web")


def print_summary(report: LiveReport) -> None:
    """Prints frames, frame rate and latencies of the run in one line."""
    latency = report.latency_ms
    print_line(
        f"{report.seconds:.0f} s: {report.shown} of {report.captured} frames shown, {report.fps:.1f} fps, "
        f"latency {latency.p50:.0f} ms (p95 {latency.p95:.0f}, p99 {latency.p99:.0f}), model {report.model_ms.p50:.1f} ms"
    )
