"""Commands about a model as a file: `export`, `adopt`, `models`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cyclecast.cli.console import JsonOption, OverwriteOption, agreement_table, console, extra, parse_size, print_json
from cyclecast.errors import ConfigError

if TYPE_CHECKING:
    from cyclecast.video.frame import Image


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint, the folder of a run, or a latest_net_G.pth of pytorch-CycleGAN-and-pix2pix.")
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The ONNX file to write.")] = None,
    triton: Annotated[
        Path | None,
        typer.Option(
            help="Add it to a model repository of Triton Inference Server; then CHECKPOINT may be a finished model, too."
        ),
    ] = None,
    direction: Annotated[
        str | None,
        typer.Option(help="a2b or b2a; of a latent model, what it draws.  [default: its first; of a .pth, its name's]"),
    ] = None,
    upsample: Annotated[
        str | None, typer.Option(help="Of a .pth's resize-convolutions: bilinear or nearest.  [default: bilinear]")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, or fp16: half the bytes, for GPUs.")] = "fp32",
    size: Annotated[str, typer.Option(help="dynamic, or WIDTHxHEIGHT to fix it.")] = "dynamic",
    opset: Annotated[int, typer.Option(help="18, 19 or 20.")] = 18,
    keep_colors: Annotated[float, typer.Option(min=0, max=1, help="0: the generator's colors; 1: the frame's own.")] = 0.0,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not compare the file with PyTorch.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Freeze a trained generator into one ONNX file that takes and gives raw frames; needs the extra `train`.

    Example: cyclecast export runs/monet -o monet.onnx --direction b2a
    """
    if output is None and triton is None:
        raise typer.BadParameter("name the ONNX file to write with --output, or a model repository with --triton")
    if triton is not None and output is None:
        if (direction, upsample, precision, size, opset, keep_colors) != (None, None, "fp32", "dynamic", 18, 0.0):
            raise typer.BadParameter("without --output a finished model is added as it is; these options make another one")
        config = _add_to_repository(str(checkpoint), triton, overwrite)
        return print_json({"output": str(config), "verified": []}) if as_json else None
    assert output is not None
    with extra("train"):
        from cyclecast.export.checkpoints import read_generator
        from cyclecast.export.onnx import export_onnx
        from cyclecast.export.state_dicts import REPOSITORY, described
    trained = read_generator(checkpoint, direction, upsample)
    if trained.recipe == REPOSITORY:  # no run of ours, so it brings no pictures to be checked on
        from cyclecast.video.scene import Scene

        console.print(f"{checkpoint}: {trained.direction}, {described(trained.architecture)}", markup=False)
        if upsample is None and trained.architecture["upsample"] == "resize":
            console.print("its keys do not say how it enlarges: taken for bilinear; --upsample nearest is the other way")
        trained = dataclasses.replace(trained, frames=[frame.image for frame in Scene(640, 360, seconds=3, rate=1)])
    agreements = export_onnx(
        trained,
        output,
        size=parse_size(size),
        precision=precision,
        opset=opset,
        keep_colors=keep_colors,
        check=not no_verify,
        overwrite=overwrite,
    )
    if triton is not None:
        _add_to_repository(str(output), triton, overwrite)
    if agreements and trained.frames:
        _warn_of_auto(output, trained.frames)
    if as_json:
        return print_json({"output": str(output), "verified": [dataclasses.asdict(a) for a in agreements]})
    title = f"{output} in ONNX Runtime against PyTorch, gray levels"
    console.print(agreement_table(agreements, title) if agreements else f"{output}: written, not verified")


def _warn_of_auto(model: Path, frames: Sequence[Image]) -> None:
    from cyclecast.export.agreement import warning_of_auto

    if warning := warning_of_auto(model, frames):
        console.print(f"{model}: {warning}", markup=False)


def _add_to_repository(model: str, folder: Path, overwrite: bool) -> Path:
    with extra("adopt"):
        from cyclecast.export.triton import write_repository
    from cyclecast.runtime.model import find_model

    if Path(model).is_dir() or Path(model).suffix in (".pt", ".pth"):
        raise typer.BadParameter("a checkpoint becomes an ONNX file first: name it with --output")
    path = find_model(model)
    config = write_repository(path, path.stem, folder, overwrite)
    console.print(f"{config}: tritonserver --model-repository {folder} serves it as {path.stem}", markup=False)
    return config


def adopt(
    foreign: Annotated[Path, typer.Argument(help="Somebody's image-to-image ONNX model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The frame model to write.")],
    layout: Annotated[str | None, typer.Option(help="nchw or nhwc.  [default: found]")] = None,
    range: Annotated[str | None, typer.Option(help="0..255, 0..1 or -1..1, of what it takes.  [default: found]")] = None,
    output_range: Annotated[str | None, typer.Option(help="The same of what it gives.  [default: found]")] = None,
    color: Annotated[str | None, typer.Option(help="bgr or rgb.  [default: found]")] = None,
    multiple: Annotated[int | None, typer.Option(help="Pad sides to multiples of this.  [default: found]")] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not compare it with the original.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a frame model of somebody's ONNX model: raw frames of any size in and out; needs the extra `adopt`, not torch.

    What its file does not tell is tried out or asked for; what was found is printed, and why.

    Example: cyclecast adopt candy.onnx -o candy-frames.onnx --color rgb
    """
    with extra("adopt"):
        from cyclecast.export.adopt import adopt as adopt_model
        from cyclecast.export.adopt.evidence import Overrides
    from cyclecast.video.scene import Scene

    frames = [Scene(640, 360).draw(0.0)]
    adopted = adopt_model(
        foreign,
        output,
        frames,
        Overrides(layout=layout, range=range, output_range=output_range, color=color, multiple=multiple),
        check=not no_verify,
        overwrite=overwrite,
        tell=lambda finding: console.print(str(finding), markup=False),
    )
    if adopted.agreements:
        _warn_of_auto(output, frames)
    if as_json:
        found, verified = ([dataclasses.asdict(part) for part in parts] for parts in (adopted.findings, adopted.agreements))
        return print_json({"output": str(output), "found": found, "verified": verified})
    title = f"{output} against {foreign}, gray levels"
    console.print(agreement_table(adopted.agreements, title) if adopted.agreements else f"{output}: written, not verified")


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
