"""The command `export`."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyclecast.cli.console import (
    JsonOption,
    OverwriteOption,
    StrengthOption,
    agreement_table,
    console,
    extra,
    findings_table,
    parse_size,
    print_json,
    print_line,
)
from cyclecast.cli.quantize import print_quantized, read_photos
from cyclecast.errors import ConfigError

if TYPE_CHECKING:
    from cyclecast.export.agreement import Agreement
    from cyclecast.export.checkpoints import TrainedGenerator
    from cyclecast.export.quantize import QuantizationResult


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="The folder of a run, a checkpoint, or a .pth or .safetensors of pytorch-CycleGAN-and-pix2pix, CUT, PyTorch-GAN "
            "or pix2pixHD: a generator's state dict, or a training script's whole checkpoint."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The ONNX file to write. Required unless --triton is given.")
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(
            help="Add the model to this model repository of Triton Inference Server. Without --output, CHECKPOINT is a frame "
            "model or a plan. Default: no repository."
        ),
    ] = None,
    direction: Annotated[
        str | None,
        typer.Option(
            help="Direction: a2b or b2a (cogan: a or b; gan, dcgan, wgan: sample). Default: the first one of the run; for a "
            ".pth, the one in its name."
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="Generator to read from a .pth that holds several, such as G_BA. Default: the only one, or the direction's."
        ),
    ] = None,
    norm: Annotated[
        str | None, typer.Option(help="Norm layers of a .pth: instance, batch or none. Default: what its keys show.")
    ] = None,
    batch_norm: Annotated[
        str | None,
        typer.Option(
            help="Statistics of a .pth's batch norms: image (of each frame, as that project's test.py) or running (of the "
            "training images, as test.py --eval). Default: image."
        ),
    ] = None,
    gray: Annotated[
        str | None,
        typer.Option(
            "--gray",
            "--grey",
            help="Conversion of frames for a .pth of gray images: luma (BT.601) or mean (of the colors). Default: luma.",
        ),
    ] = None,
    upsample: Annotated[
        str | None,
        typer.Option(
            help="Interpolation of a .pth's resize-convolutions: bilinear or nearest. Default: bilinear; nearest for PyTorch-GAN."
        ),
    ] = None,
    border: Annotated[
        str | None,
        typer.Option(help="Padding where a .pth's ResNet without norms halves the resolution: zeros or reflect. Default: zeros."),
    ] = None,
    skip: Annotated[
        bool, typer.Option("--skip", help="For a .pth of a run of `train` with skip = true: add the output to the input.")
    ] = False,
    precision: Annotated[
        str,
        typer.Option(
            help="Precision of the weights: fp32, fp16 for GPUs (half the file size), or int8 for CPUs (as `cyclecast quantize`)."
        ),
    ] = "fp32",
    photos: Annotated[
        Path | None, typer.Option(help="Folder of at least 8 photos that set the ranges of int8. Required for --precision int8.")
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            help="any, or web: a file that browsers run on WebGPU, and beside it FILE.fp16.onnx, in fp16, if that has at least "
            "40 dB PSNR."
        ),
    ] = "any",
    size: Annotated[str, typer.Option(help="Frame size in pixels: dynamic (any size), or WIDTHxHEIGHT (fixed).")] = "dynamic",
    opset: Annotated[int, typer.Option(help="ONNX opset: 18, 19 or 20.")] = 18,
    keep_colors: Annotated[
        float,
        typer.Option(
            "--keep-colors",
            "--keep-colours",
            min=0,
            max=1,
            help="Share of the source's colors in the output: 0 (none) to 1 (all).",
        ),
    ] = 0.0,
    strength: StrengthOption = 1.0,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not compare the model with PyTorch, and do not check it for NaN.")
    ] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export a trained generator as one ONNX file: raw frames in, raw frames out. Needs the extra `train`.

    Example: cyclecast export runs/monet -o monet.onnx --direction b2a
    """
    if output is None and triton is None:
        raise typer.BadParameter("expected --output FILE.onnx, or --triton FOLDER for a model repository")
    if triton is not None and output is None:
        of_file = (direction, key, norm, batch_norm, gray, upsample, border, skip or None, photos)
        settings = (precision, target, size, opset, keep_colors, strength)
        if (*of_file, *settings) != (*[None] * 9, "fp32", "any", "dynamic", 18, 0.0, 1.0):
            raise typer.BadParameter("the export options need --output: without it, a finished model is added unchanged")
        config = _add_to_repository(str(checkpoint), triton, overwrite)
        return print_json({"output": str(config), "verified": []}) if as_json else None
    assert output is not None
    if photos is not None and precision != "int8":
        raise typer.BadParameter("--photos sets the ranges of int8: add --precision int8, or leave it out")
    if precision == "int8" and photos is None:
        raise typer.BadParameter("--precision int8 needs photos that set its ranges: add --photos FOLDER")
    if precision not in ("fp32", "fp16", "int8"):
        raise typer.BadParameter(f"--precision: expected fp32, fp16 or int8, got {precision}")
    if target not in ("any", "web"):
        raise typer.BadParameter(f"--target: expected any or web, got {target}")
    if target == "web" and precision != "fp32":
        raise typer.BadParameter("--target web writes fp32 and fp16: leave --precision out")
    with extra("train"):
        from cyclecast.export.checkpoints import read_generator
        from cyclecast.export.onnx import export_onnx
        from cyclecast.export.state_dicts import REPOSITORY, Overrides, describe_architecture
    if triton is not None:
        _check_repository(triton, output.stem, overwrite)
    overrides = Overrides(
        key=key, norm=norm, batch_norm=batch_norm, upsample=upsample, gray=gray, border=border, skip=skip or None
    )
    trained = read_generator(checkpoint, direction, overrides)
    _print_direction(checkpoint, trained, direction)
    if trained.recipe == REPOSITORY:  # a state dict holds no images to check the export with
        from cyclecast.video.scene import Scene

        print_line(f"{checkpoint}: {trained.direction}, {describe_architecture(trained.architecture)}")
        console.print(findings_table(trained.findings, checkpoint.name))
        trained = dataclasses.replace(trained, frames=[frame.image for frame in Scene(640, 360, seconds=3, rate=1)])
    write = partial(
        export_onnx,
        trained,
        size=parse_size(size),
        opset=opset,
        keep_colors=keep_colors,
        strength=strength,
        check=not no_verify,
        on_message=print_line,
    )
    quantized, web = None, None
    if precision == "int8":
        assert photos is not None
        agreements, quantized = _export_int8(write, output, photos, overwrite)
    elif target == "web":
        agreements, web = _export_for_web(write, output, trained, overwrite)
    else:
        agreements = write(output, precision=precision, overwrite=overwrite)
    if triton is not None:
        _add_to_repository(str(output), triton, overwrite)
    if as_json:
        found, verified = ([dataclasses.asdict(part) for part in parts] for parts in (trained.findings, agreements))
        report = {"output": str(output), "direction": trained.direction, "found": found, "verified": verified}
        return print_json(report | ({"quantized": dataclasses.asdict(quantized)} if quantized else {}) | (web or {}))
    title = f"{output} in ONNX Runtime against PyTorch, gray levels"
    console.print(agreement_table(agreements, title) if agreements else f"{output}: written, not verified")
    if quantized:
        print_quantized(quantized, output)
    if web and web["fp16"]:
        print_line(f"{web['fp16']}: the same in fp16, {web['psnr_db']:.1f} dB PSNR against fp32")


def _export_int8(
    write: Callable[[Path], list[Agreement]], output: Path, photos: Path, overwrite: bool
) -> tuple[list[Agreement], QuantizationResult]:
    """Writes the model in fp32 to a folder of its own, and quantizes that file to `output`.

    Returns the comparisons of the fp32 file with PyTorch, and what `quantize` wrote.
    """
    with extra("quantize"):
        from cyclecast.export.quantize import quantize
    from cyclecast.files import check_output

    check_output(output, overwrite)
    read = read_photos(photos)
    with tempfile.TemporaryDirectory(prefix="cyclecast-") as folder:
        exact = Path(folder) / output.name
        agreements = write(exact)
        return agreements, quantize(exact, output, read, overwrite=overwrite, on_message=print_line)


def _export_for_web(
    write: Callable[[Path], list[Agreement]], output: Path, trained: TrainedGenerator, overwrite: bool
) -> tuple[list[Agreement], dict[str, Any]]:
    """Writes the model for browsers to `output`, and in fp16 beside it.

    Returns the comparisons of the fp32 file with PyTorch, and the fields of the report: the path of the fp16 file (None if fp16
    was left out) and its PSNR against fp32.
    """
    from cyclecast.export.web import adapt_for_web
    from cyclecast.files import atomic_write, check_output

    half = output.with_suffix(".fp16.onnx")
    check_output(output, overwrite)
    check_output(half, overwrite)
    if not trained.frames:
        raise ConfigError(f"{trained.recipe} trains a latent model, which has no input frame: leave --target web out")
    with tempfile.TemporaryDirectory(prefix="cyclecast-") as folder:
        exact = Path(folder) / output.name
        agreements = write(exact)
        web = adapt_for_web(exact, trained.frames, on_message=lambda line: print_line(line.replace(str(exact), str(output))))
    for path, precision in ((half, "fp16"), (output, "fp32")):
        if precision in web.files:
            with atomic_write(path, overwrite) as new:
                new.write_bytes(web.files[precision])
        else:
            path.unlink(missing_ok=True)  # of an earlier export
    return agreements, {"fp16": str(half) if "fp16" in web.files else None, "psnr_db": web.psnr_db}


def _print_direction(checkpoint: Path, trained: TrainedGenerator, requested: str | None) -> None:
    """Prints the direction of a run's model, with the names of the run's folders, and the alternatives."""
    if not trained.directions:
        return
    folders = f", from {trained.domains[0]} to {trained.domains[1]}" if trained.domains else ""
    others = [name for name in trained.directions if name != trained.direction]
    more = f"; the alternative is --direction {' or '.join(others)}" if others and not requested else ""
    print_line(f"{checkpoint}: direction {trained.direction}{folders}{more}")


def _check_repository(folder: Path, name: str, overwrite: bool) -> None:
    """Raises the errors of `_add_to_repository` before a model is written."""
    with extra("adopt"):
        from cyclecast.export.triton import config_path
    from cyclecast.files import check_output

    check_output(config_path(folder, name), overwrite)


def _add_to_repository(model: str, folder: Path, overwrite: bool) -> Path:
    with extra("adopt"):
        from cyclecast.export.triton import write_repository
    from cyclecast.runtime.model import find_model

    if Path(model).is_dir() or Path(model).suffix in (".pt", ".pth"):
        raise typer.BadParameter("export the checkpoint first: add --output FILE.onnx")
    path = find_model(model)
    config = write_repository(path, path.stem, folder, overwrite)
    console.print(f"{config}: tritonserver --model-repository {folder} serves it as {path.stem}", markup=False)
    return config
