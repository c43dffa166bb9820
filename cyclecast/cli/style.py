"""The command `style`."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cyclecast.card import clean_line
from cyclecast.cli.console import (
    JsonOption,
    OverwriteOption,
    StrengthOption,
    console,
    extra,
    print_json,
    print_line,
    print_warnings,
    stage_bars,
)


def style(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The ONNX frame model to write; a card (.md) and a sheet (.jpg) go beside it.")
    ],
    looks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[LOOK]...",
            help="One image or a few, a folder of images, or a generator: a .pth, the folder of a run, an ONNX model.",
            show_default=False,
        ),
    ] = None,
    footage: Annotated[
        list[Path] | None,
        typer.Option(help="What you want to style, or similar: a video, an image, or a folder of them. Repeatable."),
    ] = None,
    pairs: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="BEFORE AFTER",
            help="In place of LOOK: two folders with images of the same names and sizes. Up to five pairs are keyframes.",
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Minutes that everything may take. More minutes give better strokes. Default: 20.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Number of training steps, instead of --minutes. Default: as many as fit.")
    ] = None,
    preset: Annotated[
        Literal["nano", "small", "base"], typer.Option(help="Size of the generator. base is as fast as the bundled models.")
    ] = "base",
    strength: StrengthOption = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and crops: the same seed gives the same model.")] = 0,
    teacher_height: Annotated[
        int | None,
        typer.Option(
            min=32,
            help="Height in pixels to which frames are resized before a generator sees crops of them. Default: the footage's, "
            "at most 720.",
        ),
    ] = None,
    teacher_scale: Annotated[
        float,
        typer.Option(
            min=0.1, max=1, help="Scale at which a generator sees crops, 0.1 to 1: 0.5 doubles the size of its strokes."
        ),
    ] = 1.0,
    teacher_shifts: Annotated[
        int,
        typer.Option(
            min=1, max=4, help="Average a generator over this many shifts in each direction, 1 to 4. 2 removes its grid."
        ),
    ] = 1,
    color: Annotated[
        Literal["bgr", "rgb"] | None,
        typer.Option("--color", "--colour", help="Color order of another project's ONNX model: bgr or rgb. Default: detected."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Generator to imitate of a .pth that holds several, such as G_BA. Default: the only one in it."),
    ] = None,
    author: Annotated[str, typer.Option(help="Your name or pseudonym, for the model's metadata. Default: none.")] = "",
    license: Annotated[
        str, typer.Option(help="License of the model, for its metadata, such as CC-BY-4.0 or Apache-2.0. Default: none.")
    ] = "",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn any look into a frame model for live video, in one command. Needs the extra `train`.

    The same command typed again resumes. Everything in progress is in the folder OUTPUT.style.

    Example: cyclecast style starry-night.jpg --footage holiday.mp4 -o starry.onnx
    """
    with extra("train"):
        from cyclecast.style import StyleOptions, TeacherView, make_style
    options = StyleOptions(
        minutes=minutes,
        steps=steps,
        preset=preset,
        strength=strength,
        seed=seed,
        overwrite=overwrite,
        view=TeacherView(teacher_height, teacher_scale, teacher_shifts),
        color=color,
        key=key,
        author=clean_line(author),
        license=clean_line(license),
    )
    with stage_bars() as update, print_warnings():
        report = make_style(
            looks or [],
            output,
            footage=footage or [],
            pairs=pairs,
            options=options,
            on_message=print_line,
            on_progress=update if console.is_terminal else log_progress(print_line),
        )
    if as_json:
        return print_json(dataclasses.asdict(report))
    lines: dict[str, Any] = {"card": report.card, "before and after": report.sheet, "page of the run": report.page}
    for name, value in lines.items():
        console.print(f"{name}: {value}", markup=False)
    figures = report.figures
    console.print(f"{report.output}: {figures['ms_per_frame']} ms for a frame of 1280x720 here", markup=False)
    if "psnr_db" in figures:
        console.print(
            f"on pairs not learned from: {figures['psnr_db']:.1f} dB, SSIM {figures['ssim']:.2f} "
            f"(the source itself: {figures['psnr_db_of_the_source']:.1f} dB, SSIM {figures['ssim_of_the_source']:.2f})",
            markup=False,
        )
    console.print(f"next: cyclecast live 0 --model {shlex.quote(report.output)}", markup=False)


def log_progress(on_line: Callable[[str], None], seconds: float = 60.0) -> Callable[[str, int, int], None]:
    """Returns update(stage, done, total), which prints a line at most once in so many seconds: progress for a log."""
    last = time.monotonic()

    def update(stage: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            on_line(f"{stage}: {done} of {total}")

    return update
