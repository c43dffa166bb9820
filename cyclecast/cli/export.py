"""The commands that write model files: `export`, `adopt`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cyclecast.cli.console import (
    JsonOption,
    OverwriteOption,
    StrengthOption,
    agreement_table,
    console,
    extra,
    findings_table,
    parse_numbers,
    parse_settings,
    parse_size,
    print_json,
    print_line,
)

if TYPE_CHECKING:
    from cyclecast.export.checkpoints import TrainedGenerator


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
        str, typer.Option(help="Precision of the weights: fp32, or fp16 for GPUs, which halves the file size.")
    ] = "fp32",
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
        of_file = (direction, key, norm, batch_norm, gray, upsample, border, skip or None)
        if (*of_file, precision, size, opset, keep_colors, strength) != (*[None] * 8, "fp32", "dynamic", 18, 0.0, 1.0):
            raise typer.BadParameter("the export options need --output: without it, a finished model is added unchanged")
        config = _add_to_repository(str(checkpoint), triton, overwrite)
        return print_json({"output": str(config), "verified": []}) if as_json else None
    assert output is not None
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
    agreements = export_onnx(
        trained,
        output,
        size=parse_size(size),
        precision=precision,
        opset=opset,
        keep_colors=keep_colors,
        strength=strength,
        check=not no_verify,
        overwrite=overwrite,
        on_message=print_line,
    )
    if triton is not None:
        _add_to_repository(str(output), triton, overwrite)
    if as_json:
        found, verified = ([dataclasses.asdict(part) for part in parts] for parts in (trained.findings, agreements))
        return print_json({"output": str(output), "direction": trained.direction, "found": found, "verified": verified})
    title = f"{output} in ONNX Runtime against PyTorch, gray levels"
    console.print(agreement_table(agreements, title) if agreements else f"{output}: written, not verified")


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


def adopt(
    foreign: Annotated[Path, typer.Argument(help="An image-to-image ONNX model from another project.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX frame model to write.")],
    layout: Annotated[str | None, typer.Option(help="Layout of its input: nchw or nhwc. Default: detected.")] = None,
    range: Annotated[
        str | None, typer.Option(help="Value range of its input: 0..255, 0..1, -1..1 or imagenet. Default: detected.")
    ] = None,
    output_range: Annotated[
        str | None, typer.Option(help="Value range of its output: 0..255, 0..1, -1..1 or imagenet. Default: detected.")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            help="Mean R,G,B that its input is normalized with: (x - mean) / std, for x from 0 to 1, or from 0 to 255 if one of "
            "the six numbers is greater than 1. Needs --std. Default: --range."
        ),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(help="Standard deviation R,G,B that its input is normalized with. Needs --mean. Default: --range."),
    ] = None,
    color: Annotated[
        str | None,
        typer.Option("--color", "--colour", help="Color order of its input and output: bgr or rgb. Default: detected."),
    ] = None,
    multiple: Annotated[
        int | None, typer.Option(help="Pad width and height to multiples of this many pixels. Default: detected.")
    ] = None,
    gray: Annotated[
        str, typer.Option(help="Conversion of frames for a gray input: luma (BT.601) or mean (of the colors).")
    ] = "luma",
    keep_size: Annotated[
        bool, typer.Option("--keep-size", help="Keep the fixed size of a model, even if it works at any size.")
    ] = False,
    output_name: Annotated[
        str | None, typer.Option(help="Name of the output that is the image. Required if it has several outputs.")
    ] = None,
    set_input: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE of an input that is not the image: a number, or numbers with commas between them. Repeatable."
        ),
    ] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not compare the frame model with the original.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn another project's ONNX model into a frame model: raw frames in, raw frames out. Needs the extra `adopt`.

    Layout, range, color order and size are read from the file or found by trial, and printed with the reason. If one of them
    cannot be found, the error names the option to add.

    Example: cyclecast adopt candy.onnx -o candy-frames.onnx --color rgb
    """
    with extra("adopt"):
        from cyclecast.export.adopt import adopt as adopt_model
        from cyclecast.export.adopt.overrides import Overrides
    from cyclecast.video.scene import Scene

    adopted = adopt_model(
        foreign,
        output,
        [Scene(640, 360).draw(0.0)],
        Overrides(
            layout=layout,
            range=range,
            output_range=output_range,
            color=color,
            multiple=multiple,
            mean=parse_numbers("--mean", mean),
            std=parse_numbers("--std", std),
            gray=gray,
            keep_size=keep_size,
            output_name=output_name,
            set_inputs=parse_settings(set_input or [], "--set-input"),
        ),
        check=not no_verify,
        overwrite=overwrite,
        on_finding=lambda finding: print_line(str(finding)),
        on_message=print_line,
    )
    if as_json:
        found, verified = ([dataclasses.asdict(part) for part in parts] for parts in (adopted.findings, adopted.agreements))
        return print_json({"output": str(output), "found": found, "verified": verified})
    title = f"{output} against {foreign}, gray levels"
    console.print(agreement_table(adopted.agreements, title) if adopted.agreements else f"{output}: written, not verified")
