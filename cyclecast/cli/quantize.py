"""The command `quantize`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cyclecast.cli.console import JsonOption, OverwriteOption, agreement_table, console, extra, print_json, print_line
from cyclecast.errors import CyclecastError, InputError, MissingInputError

if TYPE_CHECKING:
    from cyclecast.export.quantize import QuantizationResult
    from cyclecast.video.frame import Image

MOST_PHOTOS = 54  # of which three quarters set the ranges


def quantize(
    model: Annotated[str, typer.Argument(help="A bundled model, or the path of an ONNX frame model in fp32.")],
    photos: Annotated[
        Path, typer.Option(help="Folder of photos like the footage that will be styled: at least 8, better 50. No labels needed.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Quantize a model to int8, which CPUs compute faster than bf16 and fp32. Needs the extra `quantize`.

    Three of four photos set the ranges of the values; the others measure the difference from the fp32 model. Parts that change
    the image too much stay in floating point. A file is only written if its output has at least 44 dB PSNR.

    Example: cyclecast quantize mine.onnx --photos holiday/ -o mine-int8.onnx
    """
    with extra("quantize"):
        from cyclecast.export.quantize import quantize as quantize_model
    from cyclecast.runtime.model import find_model

    path, read = find_model(model), read_photos(photos)
    print_line(f"{model}: quantizing to int8 with the photos in {photos}; this takes a minute or two")
    written = quantize_model(path, output, read, overwrite=overwrite, on_message=print_line)
    if as_json:
        return print_json({"output": str(output), **dataclasses.asdict(written)})
    print_quantized(written, output)


def print_quantized(written: QuantizationResult, output: Path) -> None:
    """Prints what stays in floating point, and the table of the difference from fp32."""
    kept = ", ".join(written.kept) or "nothing"
    console.print(f"{output}: int8; in floating point: {kept}; ranges from {written.calibrated} photos", markup=False)
    console.print(agreement_table([written.agreement], f"{output} in int8 against fp32, gray levels"))


def read_photos(folder: Path) -> Iterator[Image]:
    """Reads evenly spaced photos of a folder, at most `MOST_PHOTOS`, one after the other: (H, W, 3) uint8 BGR.

    Unreadable ones are reported and skipped. Raises InputError, before the first is read, if there is no folder or none of its
    files is an image.
    """
    from cyclecast.files import is_hidden
    from cyclecast.video.files.images import SUFFIXES

    if not folder.is_dir():
        raise MissingInputError(f"{folder}: no such folder; --photos expects a folder of photos")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    found = [path for path in found if path.is_file() and not is_hidden(path.relative_to(folder))]
    if not found:
        raise InputError(f"{folder}: no photos in it; --photos expects photos like the footage that will be styled")
    step = max(1, len(found) / MOST_PHOTOS)
    return _read_each([found[int(index * step)] for index in range(min(len(found), MOST_PHOTOS))])


def _read_each(paths: Sequence[Path]) -> Iterator[Image]:
    from cyclecast.video.files.images import read_image

    for path in paths:
        try:
            yield read_image(path)
        except CyclecastError as error:
            print_line(f"skipped {error}")
