"""The command `adopt`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from cyclecast.cli.console import (
    JsonOption,
    OverwriteOption,
    agreement_table,
    console,
    extra,
    parse_numbers,
    parse_settings,
    print_json,
    print_line,
)


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
