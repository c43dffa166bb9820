"""The command `models`: lists the bundled models, prints a card, or runs all models on a frame of the user's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import cyclecast
from cyclecast.cli.console import JsonOption, OverwriteOption, ThreadsOption, console, print_json
from cyclecast.errors import ConfigError, EngineError

NO_LICENSE = "see card"


def models(
    name: Annotated[str | None, typer.Argument(help="Print the card of this model. Default: list all.")] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            "--try", help="Image, or video whose first frame is used: write a sheet of it through every model. Default: no sheet."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The image file of that sheet.")] = None,
    no_bench: Annotated[bool, typer.Option("--no-bench", help="Do not time the models on this machine.")] = False,
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the bundled models, print the card of one, or try all on an image.

    The list shows milliseconds per frame at 1280x720 on this machine.

    Example: cyclecast models --try holiday.jpg -o sheet.jpg
    """
    from cyclecast.runtime.model import bundled_models, find_model

    if (image is None) != (output is None):
        raise typer.BadParameter("--try IMAGE and --output SHEET go together: add the other one")
    bundled = bundled_models()
    if name is not None:
        card = find_model(name).with_suffix(".md")
        if name not in bundled or not card.is_file():
            raise ConfigError(f"no card for {name!r}; the bundled models are: {', '.join(bundled)}")
    if image is not None and output is not None:
        from cyclecast.contact_sheet import write_contact_sheet

        chosen = [name] if name else list(bundled)
        write_contact_sheet(image, output, chosen, overwrite, threads)
        return print_json({"output": str(output), "models": chosen}) if as_json else print(f"{output}: {', '.join(chosen)}")
    if name is not None:
        text = card.read_text("utf-8")
        return print_json({"name": name, "path": str(bundled[name]), "card": text}) if as_json else print(text, end="")
    rows = [_facts(key, path, not no_bench, threads) for key, path in bundled.items()]
    return print_json({"models": rows}) if as_json else _print_gallery(rows)


def _facts(name: str, path: Path, timed: bool, threads: int | None) -> dict[str, Any]:
    """Returns the fields of a model in the list; some are empty without its card, or if it cannot be timed."""
    card = path.with_suffix(".md")
    text = card.read_text("utf-8") if card.is_file() else ""
    return {
        "name": name,
        "path": str(path),
        "bytes": path.stat().st_size,
        "description": description_from_card(text),
        "license": license_from_card(text),
        "ms_at_1280x720": _time_model(name, threads) if timed else None,
    }


def _time_model(name: str, threads: int | None) -> float | None:
    """Measures the median milliseconds for a frame of 1280x720; prints a line and returns None if no engine runs the model."""
    from cyclecast.runtime.bench import median_ms
    from cyclecast.video.scene import Scene

    scene = Scene(1280, 720)
    try:
        with cyclecast.load(name, threads=threads) as model:
            return median_ms(model, [scene.draw(0), scene.draw(2)])
    except EngineError as error:
        console.print(f"{name}: not timed: {error}", markup=False)
        return None


def _print_gallery(rows: list[dict[str, Any]]) -> None:
    table = Table("model", "what it does", "ms at 1280x720", "MB", "license")
    for row in rows:
        milliseconds = row["ms_at_1280x720"]
        figures = ("" if milliseconds is None else f"{milliseconds:.1f}", f"{row['bytes'] / 1e6:.2f}")
        table.add_row(row["name"], row["description"], *figures, row["license"] or NO_LICENSE)
    Console(highlight=False, markup=False).print(table)
