"""Commands about a model as a file: `export`, `bench`, `models`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cyclecast.cli.console import DeviceOption, JsonOption, ModelOption, OverwriteOption, console, extra, parse_size, print_json
from cyclecast.errors import ConfigError


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or the folder of a run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    direction: Annotated[
        str | None, typer.Option(help="a2b or b2a; of a latent model, what it draws.  [default: its first]")
    ] = None,
    size: Annotated[str, typer.Option(help="dynamic, or WIDTHxHEIGHT to fix it.")] = "dynamic",
    opset: Annotated[int, typer.Option(help="18, 19 or 20.")] = 18,
    keep_colours: Annotated[float, typer.Option(min=0, max=1, help="0: the generator's colours; 1: the frame's own.")] = 0.0,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not compare the file with PyTorch.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Freeze a trained generator into one ONNX file that takes and gives raw frames; needs the extra `train`.

    Example: cyclecast export runs/monet -o monet.onnx --direction b2a
    """
    with extra("train"):
        from cyclecast.export.checkpoints import read_generator
        from cyclecast.export.onnx import export_onnx
    trained = read_generator(checkpoint, direction)
    agreements = export_onnx(
        trained,
        output,
        size=parse_size(size),
        opset=opset,
        keep_colours=keep_colours,
        check=not no_verify,
        overwrite=overwrite,
    )
    if as_json:
        return print_json({"output": str(output), "verified": [dataclasses.asdict(a) for a in agreements]})
    table = Table("size", "frames", "max", "mean", "PSNR dB", title=f"{output} in ONNX Runtime against PyTorch, grey levels")
    for a in agreements:
        table.add_row(f"{a.size[0]}x{a.size[1]}", str(a.frames), str(a.max_abs), f"{a.mean_abs:.5f}", f"{a.psnr_db:.1f}")
    console.print(table if agreements else f"{output}: written, not verified")


def bench(
    model: ModelOption = "monet",
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the frames.")] = "1280x720",
    engine: Annotated[
        list[str] | None, typer.Option(help="auto, openvino or onnxruntime; repeatable. All that are here by default.")
    ] = None,
    device: DeviceOption = "auto",
    frames: Annotated[int, typer.Option(min=1, help="Frames to time on each engine, in each precision.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Time a model on this machine, frame in to frame out: each engine in its own choice of precision and in fp32.

    Example: cyclecast bench --model monet --size 1280x720
    """
    from cyclecast.runtime.bench import measure_engines
    from cyclecast.runtime.engine import check_size
    from cyclecast.video.sources.scene import Scene

    wanted = parse_size(size)
    if wanted is None:
        raise ConfigError(f"a size is WIDTHxHEIGHT, got {size!r}")
    check_size(*wanted, None)
    scene = Scene(*wanted)
    pictures = [scene.draw(index / 2) for index in range(8)]  # four seconds of it
    report = measure_engines(model, pictures, engine or (), device, frames, lambda line: console.print(line, markup=False))
    if as_json:
        return print_json(dataclasses.asdict(report))
    table = Table(title=f"{report.model}, {report.size}, {report.frames} frames; {report.machine}")
    table.add_column("engine", no_wrap=True)
    table.add_column("device", min_width=9)
    for name in ("p50 ms", "p95 ms", "p99 ms", "fps", "PSNR dB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        figures = (row.ms.p50, row.ms.p95, row.ms.p99, row.fps, row.psnr_db)
        table.add_row(f"{row.engine} {row.precision}", row.device, *(f"{figure:.1f}" for figure in figures))
    console.print(table)


def models(
    name: Annotated[str | None, typer.Argument(help="Print this one's card.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The bundled models, and their cards.

    Example: cyclecast models monet
    """
    from cyclecast.runtime.model import bundled_models, find_model

    bundled = bundled_models()
    if name is not None:
        card = find_model(name).with_suffix(".md")
        if name not in bundled or not card.is_file():
            raise ConfigError(f"no card for {name!r}; bundled are: {', '.join(bundled)}")
        text = card.read_text("utf-8")
        print_json({"name": name, "path": str(bundled[name]), "card": text}) if as_json else print(text, end="")
    elif as_json:
        print_json({"models": [{"name": key, "path": str(path), "bytes": path.stat().st_size} for key, path in bundled.items()]})
    else:
        for key, path in bundled.items():
            print(f"{key}  {path.stat().st_size / 1e6:.2f} MB  {path}")
