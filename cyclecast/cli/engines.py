"""The commands about engines: `build`, `verify`."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import cyclecast
from cyclecast.cli.console import (
    JsonOption,
    OverwriteOption,
    ThreadsOption,
    agreement_table,
    bars,
    console,
    extra,
    print_json,
    required_size,
)
from cyclecast.errors import ConfigError, EngineUnavailable, ModelError

if TYPE_CHECKING:
    from cyclecast.export.agreement import Agreement
    from cyclecast.runtime.engine import Engine
    from cyclecast.video.frame import Image


def build(
    model: Annotated[str, typer.Argument(help="A bundled model, or the path of an ONNX frame model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The plan file to write.")],
    engine: Annotated[str, typer.Option(help="Engine to build for: tensorrt or tensorrt-rtx.")] = "tensorrt",
    size: Annotated[
        str | None, typer.Option(help="Frame size in pixels, WIDTHxHEIGHT. Not needed for a model with a fixed size.")
    ] = None,
    smallest: Annotated[
        str | None,
        typer.Option(help="Minimum frame size in pixels, WIDTHxHEIGHT; needs --largest. Default: only --size."),
    ] = None,
    largest: Annotated[
        str | None,
        typer.Option(help="Maximum frame size in pixels, WIDTHxHEIGHT; needs --smallest. Default: only --size."),
    ] = None,
    sm: Annotated[
        list[int] | None,
        typer.Option(
            help="Compute capability to build for, such as 89 for 8.9. Repeatable; tensorrt-rtx only. Default: this GPU's."
        ),
    ] = None,
    workspace_mib: Annotated[
        int | None, typer.Option(min=1, help="Limit of TensorRT's workspace memory in MiB. Default: no limit.")
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not check the model for NaN, and do not compare the plan with ONNX Runtime.")
    ] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build a TensorRT plan ahead of time. An fp16 plan needs a model exported with --precision fp16.

    Example: cyclecast build monet -o monet.plan --engine tensorrt-rtx --sm 89 --size 1280x720
    """
    from cyclecast.files import atomic_write
    from cyclecast.runtime.model import find_model
    from cyclecast.runtime.plan_builder import build_plan
    from cyclecast.runtime.tensorrt_library import LIBRARIES

    if engine not in LIBRARIES:
        raise ConfigError(f"expected --engine {' or '.join(LIBRARIES)}, got {engine!r}")
    if (smallest is None) != (largest is None):
        raise ConfigError("--smallest and --largest go together: add the other one")
    between = (required_size(smallest), required_size(largest)) if smallest and largest else None
    frame_size = required_size(size) if size else None
    path = find_model(model)
    with atomic_write(output, overwrite) as unfinished:
        if not no_verify:
            _check_finite(path, frame_size)
        with bars() as bar:
            update = bar(f"building {output.name}")
            plan, facts = build_plan(
                path,
                engine,
                frame_size,
                between=between,
                sm=sm or (),
                workspace_mib=workspace_mib,
                on_build=lambda share: update(round(100 * share), 100),
            )
        unfinished.write_bytes(plan)
        report, why_not = ([], "--no-verify") if no_verify else _compare_with_model(unfinished, path, facts.sizes[1])
    targets = ", ".join(map(str, facts.sm))
    if as_json:
        verified = [dataclasses.asdict(agreement) for agreement in report]
        return print_json({"output": str(output), **dataclasses.asdict(facts), "verified": verified, "not_verified": why_not})
    console.print(f"{output}: {facts.engine} {facts.version}, {facts.precision}, for SM {targets}", markup=False)
    title = f"{output} against ONNX Runtime, gray levels"
    console.print(agreement_table(report, title) if report else f"not verified: {why_not}", markup=False)


def _check_finite(model: Path, size: tuple[int, int] | None) -> None:
    """Raises ModelError if the model's output has NaN; does nothing without onnx and onnxruntime.

    size: (width, height) of the frame; None: the model's fixed size.
    """
    from cyclecast.runtime.engine import spec_from_metadata
    from cyclecast.runtime.onnx_file import describe, read_metadata
    from cyclecast.runtime.plan import engine_of_plan

    try:
        from cyclecast.export.agreement import check_finite
    except ModuleNotFoundError:
        return
    if engine_of_plan(model) is not None:
        return  # `build_plan` refuses it
    if spec_from_metadata(model, read_metadata(model)).model_type == "latent":
        return  # export has checked it
    fixed, metadata = describe(model)
    if size := fixed or (size and (min(size[0], 256), min(size[1], 256))):  # a small board has no memory for larger frames
        check_finite(model, scene_frames()[:1], [size], spec_from_metadata(model, metadata).precision)


def _compare_with_model(plan: Path, model: Path, size: tuple[int, int]) -> tuple[list[Agreement], str | None]:
    """Compares the plan with ONNX Runtime on the CPU, or returns why it cannot. Raises ModelError if they differ."""
    from cyclecast.runtime.engine import spec_from_metadata
    from cyclecast.runtime.onnx_file import read_metadata

    if spec_from_metadata(model, read_metadata(model)).model_type == "latent":
        return [], "a latent model (noise in, images out), which other programs run"
    try:
        from cyclecast.export.agreement import compare_engines
    except ModuleNotFoundError as error:
        return [], f"{error.name} is not installed: pip install 'cyclecast[adopt]'"
    try:
        with closing(cyclecast.open_engine(plan)) as built, closing(cyclecast.open_engine(model, "onnxruntime", "cpu")) as exact:
            report = compare_engines(built, exact, scene_frames(), [size])
    except EngineUnavailable as error:  # the plan is for another machine
        return [], str(error)
    if not all(agreement.passed for agreement in report):
        raise ModelError(f"the plan differs from the model by {report[0].psnr_db:.1f} dB PSNR, so it was not kept")
    return report, None


def scene_frames() -> list[Image]:
    """Draws three frames of the demo's scene, 1280x720: the default test images."""
    from cyclecast.video.scene import Scene

    return [frame.image for frame in Scene(1280, 720, seconds=3, rate=1)]


def verify(
    model: Annotated[str, typer.Argument(help="A bundled model, or the path of an ONNX frame model or plan.")],
    against: Annotated[
        Path | None,
        typer.Option(
            help="Reference: the checkpoint it was exported from, or another ONNX model. Default: the same model in ONNX Runtime."
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="Generator of an --against that holds several, as in `export`. Default: the only one, or the direction's."
        ),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            help="Engine that runs the model, as in `convert`. If given twice, the second one is the reference. Default: auto."
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="Device of the first engine: auto (the best one present), cpu, gpu, gpu:N, npu, coreml or cuda:N; with "
            "onnxruntime also tensorrt:N."
        ),
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="Precision of the first engine's arithmetic: auto, int8, bf16, fp16 or fp32.")
    ] = "auto",
    threads: ThreadsOption = None,
    frames: Annotated[
        list[Path] | None, typer.Option(help="Image file to compare on. Repeatable. Default: three frames of the demo's scene.")
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(help="Frame size in pixels, WIDTHxHEIGHT. Repeatable. Default: 131x97, 256x256 and 640x360."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare an engine's output with PyTorch's or another engine's: maximum and mean difference, PSNR, NaN.

    The reference is ONNX Runtime on the CPU unless --against or a second --engine names another. The exit code is 1 if the
    outputs differ by more than one gray level (fp32), or if their PSNR is below 45 dB (bf16, fp16) or 44 dB (int8). Needs the
    extra `adopt`; with a checkpoint, the extra `train`.

    Example: cyclecast verify monet --engine openvino --engine onnxruntime
    """
    from cyclecast.runtime.engine import spec_from_metadata
    from cyclecast.runtime.model import find_model
    from cyclecast.runtime.onnx_file import read_metadata
    from cyclecast.runtime.plan import engine_of_plan
    from cyclecast.video.files.images import read_image

    with extra("adopt"):
        from cyclecast.export.agreement import SIZES, compare_engines, count_nan
    names = engine or []
    if len(names) + (against is not None) > 2:
        raise ConfigError("expected two sides to compare: --engine twice, or once with --against")
    if key is not None and (against is None or against.suffix.lower() == ".onnx"):
        raise ConfigError("--key is for an --against that is a checkpoint: leave --key out")
    path = find_model(model)
    if against is None and engine_of_plan(path) is not None:
        raise ConfigError(f"{model}: a plan runs on its own engine only: add --against and the model it was built from")
    images = [read_image(frame) for frame in frames or []] or scene_frames()
    sizes = [required_size(one) for one in size or []] or SIZES
    with ExitStack() as stack:
        subject = stack.enter_context(
            closing(cyclecast.open_engine(path, names[0] if names else "auto", device, precision, threads))
        )
        if against is not None and against.suffix.lower() == ".onnx":
            other: Engine = cyclecast.open_engine(against, "onnxruntime", "cpu", threads=threads)
        elif against is not None:
            with extra("train"):
                from cyclecast.export.verify import reference_from_checkpoint
            other = reference_from_checkpoint(against, subject.metadata, key)
        else:
            named = names[1] if len(names) > 1 else "onnxruntime"
            stored = spec_from_metadata(path, read_metadata(path)).precision if named == "openvino" else ""
            own = "fp32" if named == "openvino" and stored == "fp32" else "auto"  # not a bundled model's int8 file
            other = cyclecast.open_engine(path, named, "auto" if len(names) > 1 else "cpu", own, threads)
        stack.enter_context(closing(other))
        report = compare_engines(subject, other, images, sizes)
        sides = [f"{side.name} {side.precision}" for side in (subject, other)]
        devices = [side.device for side in (subject, other)]
    nan = count_nan(path, images, subject.size or sizes[-1]) if engine_of_plan(path) is None else None
    passed = all(agreement.passed for agreement in report) and not nan
    if as_json:
        print_json(
            {
                "sides": sides,
                "devices": devices,
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
        for side, where in zip(sides, devices, strict=True):
            console.print(f"{path.stem} on {side}, {where}", markup=False)
        console.print(agreement_table(report, f"{model}: {' against '.join(sides)}, gray levels"))
        console.print("NaN: " + ("not counted for a plan" if nan is None else str(nan)))
    if not passed:
        raise typer.Exit(1)
