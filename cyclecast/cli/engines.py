"""Commands about a model on this machine's engines: `build`, `verify`, `bench`."""

from __future__ import annotations

import dataclasses
import math
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

import cyclecast
from cyclecast.cli.console import (
    DeviceOption,
    JsonOption,
    ModelOption,
    OverwriteOption,
    agreement_table,
    bars,
    console,
    extra,
    print_json,
    report_build,
    required_size,
)
from cyclecast.errors import ConfigError, EngineUnavailable, ModelError

if TYPE_CHECKING:
    from cyclecast.export.agreement import Agreement
    from cyclecast.runtime.bench import Bench
    from cyclecast.runtime.engine import Engine
    from cyclecast.video.frame import Image


def build(
    model: Annotated[str, typer.Argument(help="A bundled name or an ONNX frame model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The plan to write.")],
    engine: Annotated[str, typer.Option(help="tensorrt or tensorrt-rtx.")] = "tensorrt",
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT of the frames; not of a model that is fixed to one.")] = None,
    smallest: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT that it takes too; with --largest.")] = None,
    largest: Annotated[str | None, typer.Option(help="The same, above --size.")] = None,
    sm: Annotated[
        list[int] | None,
        typer.Option(help="Compute capability to build for, 89 for 8.9; repeatable; tensorrt-rtx, without a GPU."),
    ] = None,
    workspace_mib: Annotated[int | None, typer.Option(min=1, help="Most memory that a layer may work in.")] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Neither look for NaN before nor run the plan against ONNX Runtime after.")
    ] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build a TensorRT plan ahead of time; an fp16 plan comes of a model exported with --precision fp16.

    Example: cyclecast build monet -o monet.plan --engine tensorrt-rtx --sm 89 --size 1280x720
    """
    from cyclecast.files import atomic_write
    from cyclecast.runtime.model import find_model
    from cyclecast.runtime.plan import LIBRARIES, build_plan

    if engine not in LIBRARIES:
        raise ConfigError(f"plans are built by {' or '.join(LIBRARIES)}, not by {engine!r}")
    if (smallest is None) != (largest is None):
        raise ConfigError("--smallest and --largest go together")
    between = (required_size(smallest), required_size(largest)) if smallest and largest else None
    wanted = required_size(size) if size else None
    path = find_model(model)
    with atomic_write(output, overwrite) as unfinished:
        if not no_verify:
            _refuse_nan(path, wanted)
        with bars() as bar:
            update = bar(f"building {output.name}")
            plan, facts = build_plan(
                path,
                engine,
                wanted,
                between=between,
                sm=sm or (),
                workspace_mib=workspace_mib,
                on_build=lambda share: update(round(100 * share), 100),
            )
        unfinished.write_bytes(plan)
        report, why_not = ([], "as asked") if no_verify else _against_the_model(unfinished, path, facts.sizes[1])
    targets = ", ".join(map(str, facts.sm))
    if as_json:
        verified = [dataclasses.asdict(agreement) for agreement in report]
        return print_json({"output": str(output), **dataclasses.asdict(facts), "verified": verified, "not_verified": why_not})
    console.print(f"{output}: {facts.engine} {facts.version}, {facts.precision}, for SM {targets}", markup=False)
    title = f"{output} against ONNX Runtime, gray levels"
    console.print(agreement_table(report, title) if report else f"not verified: {why_not}", markup=False)


def _refuse_nan(model: Path, size: tuple[int, int] | None) -> None:
    """ModelError if its picture of this size has values that are no numbers; without onnx and onnxruntime nothing is looked at.

    size: of the frame; None: the one that the model is fixed to.
    """
    from cyclecast.runtime.engine import spec_from_metadata
    from cyclecast.runtime.onnx_file import describe, read_metadata
    from cyclecast.runtime.plan import engine_of_plan

    try:
        from cyclecast.export.agreement import check_finite
    except ModuleNotFoundError:
        return
    if engine_of_plan(model) is not None:
        return  # of a plan no other is built
    if spec_from_metadata(model, read_metadata(model)).model_type == "latent":
        return  # export has looked
    fixed, metadata = describe(model)
    if size := fixed or (size and (min(size[0], 256), min(size[1], 256))):  # a board has not the memory for more
        check_finite(model, scene_frames()[:1], [size], spec_from_metadata(model, metadata).precision)


def _against_the_model(plan: Path, model: Path, size: tuple[int, int]) -> tuple[list[Agreement], str | None]:
    """The plan's pictures against ONNX Runtime's on the CPU, or why they could not be compared; ModelError if they differ."""
    from cyclecast.runtime.engine import spec_from_metadata
    from cyclecast.runtime.onnx_file import read_metadata

    if spec_from_metadata(model, read_metadata(model)).model_type == "latent":
        return [], "it makes pictures of noise, for other programs"
    try:
        from cyclecast.export.agreement import compare_engines
    except ModuleNotFoundError as error:
        return [], f"{error.name} is not installed: pip install 'cyclecast[adopt]'"
    try:
        with closing(cyclecast.open_engine(plan)) as built, closing(cyclecast.open_engine(model, "onnxruntime", "cpu")) as exact:
            report = compare_engines(built, exact, scene_frames(), [size])
    except EngineUnavailable as error:  # built ahead of time, for another machine
        return [], str(error)
    if not all(agreement.passed for agreement in report):
        raise ModelError(f"not kept: the plan differs from the model, {report[0].psnr_db:.1f} dB")
    return report, None


def scene_frames() -> list[Image]:
    """Three moments of the demo's scene, 1280x720: what models are tried on where nobody brings pictures."""
    from cyclecast.video.scene import Scene

    return [frame.image for frame in Scene(1280, 720, seconds=3, rate=1)]


def verify(
    model: Annotated[str, typer.Argument(help="A bundled name, an ONNX frame model or a plan.")],
    against: Annotated[Path | None, typer.Option(help="The checkpoint that it was exported of, or another ONNX model.")] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="What runs the model, and, named a second time, what it is held against.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Of the first engine: auto, cpu, gpu, cuda:N; of onnxruntime also tensorrt:N.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="Of the first engine: auto, fp32, bf16 or fp16.")] = "auto",
    frames: Annotated[list[Path] | None, typer.Option(help="Pictures to compare on; repeatable. By default drawn ones.")] = None,
    size: Annotated[
        list[str] | None, typer.Option(help="WIDTHxHEIGHT; repeatable. By default an odd, a square, a wide one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hold an engine's pictures against PyTorch's, or another engine's: largest and mean difference, PSNR, NaN.

    Without --against and a second engine the other side is ONNX Runtime on the CPU. Exit code 1 if they differ by more than
    the precision explains: fp32 one gray level, bf16 and fp16 45 dB. Needs the extra `adopt`; for a checkpoint `train`.

    Example: cyclecast verify monet --engine openvino --engine onnxruntime
    """
    from cyclecast.runtime.model import find_model
    from cyclecast.runtime.plan import engine_of_plan
    from cyclecast.video.files.images import read_image

    with extra("adopt"):
        from cyclecast.export.agreement import SIZES, compare_engines, count_nan
    names = engine or []
    if len(names) + (against is not None) > 2:
        raise ConfigError("two sides can be compared, not more: --engine twice, or once with --against")
    path = find_model(model)
    if against is None and engine_of_plan(path) is not None:
        raise ConfigError(f"{model}: a plan runs on its own engine only: name the model it was built of with --against")
    pictures = [read_image(frame) for frame in frames or []] or scene_frames()
    sizes = [required_size(one) for one in size or []] or SIZES
    with ExitStack() as open_now:
        subject = open_now.enter_context(closing(cyclecast.open_engine(path, names[0] if names else "auto", device, precision)))
        if against is not None and against.suffix.lower() == ".onnx":
            other: Engine = cyclecast.open_engine(against, "onnxruntime", "cpu")
        elif against is not None:
            with extra("train"):
                from cyclecast.export.verify import of_checkpoint
            other = of_checkpoint(against, subject.metadata)
        else:
            named = names[1] if len(names) > 1 else "onnxruntime"
            other = cyclecast.open_engine(path, named, "auto" if len(names) > 1 else "cpu")
        open_now.enter_context(closing(other))
        report = compare_engines(subject, other, pictures, sizes)
        sides = [f"{side.name} {side.precision}" for side in (subject, other)]
    nan = count_nan(path, pictures, subject.size or sizes[-1]) if engine_of_plan(path) is None else None
    passed = all(agreement.passed for agreement in report) and not nan
    if as_json:
        print_json(
            {
                "sides": sides,
                "max_abs": max(a.max_abs for a in report),
                "mean_abs": max(a.mean_abs for a in report),
                "psnr_db": min(a.psnr_db for a in report),
                "nan": nan,
                "frames": sum(a.frames for a in report),
                "passed": passed,
                "sizes": [dataclasses.asdict(a) for a in report],
            }
        )
    else:
        console.print(agreement_table(report, f"{model}: {' against '.join(sides)}, gray levels"))
        console.print("NaN: " + ("not counted in a plan" if nan is None else str(nan)))
    if not passed:
        raise typer.Exit(1)


def bench(
    model: ModelOption = "monet",
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the frames.")] = "1280x720",
    engine: Annotated[
        list[str] | None, typer.Option(help="As in `convert`; repeatable. All that are here by default, but for torch.")
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
    from cyclecast.video.scene import Scene

    wanted = required_size(size)
    check_size(*wanted, None)
    say = partial(console.print, markup=False)
    scene = Scene(*wanted)
    pictures = [scene.draw(index / 2) for index in range(8)]  # four seconds of it
    report = measure_engines(model, pictures, engine or (), device, frames, say, report_build(model), cyclecast.open_engine)
    if as_json:
        return print_json(dataclasses.asdict(report))
    console.print(bench_table(report))


def bench_table(report: Bench) -> Table:
    """One row for each engine in each precision."""
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
