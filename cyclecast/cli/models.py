"""The command `models`: lists the bundled models, shows a model's card, tries models on a frame, or reads a list of styles."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import cyclecast
from cyclecast.card import description_from_card, license_from_card, read_card_text
from cyclecast.cli.console import JsonOption, OverwriteOption, ThreadsOption, console, print_json
from cyclecast.errors import ConfigError, EngineError
from cyclecast.phrases import printable

NO_LICENSE = "see card"


def models(
    name: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[show] [MODEL]",
            help="Print what this model says about itself: a bundled one, a file or an address. Default: list the bundled ones.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            "--try", help="Image, or video whose first frame is used: write a sheet of it through every model. Default: no sheet."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The image file of that sheet.")] = None,
    index: Annotated[
        str | None,
        typer.Option(help="List the styles in this file or at this address instead. Default: the bundled models."),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Fetch the model at an address again, and accept it if it has changed.")
    ] = False,
    no_bench: Annotated[bool, typer.Option("--no-bench", help="Do not time the models on this machine.")] = False,
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the bundled models, print the card of one, try all on an image, or list the styles that others share.

    The list shows milliseconds per frame at 1280x720 on this machine.

    Example: cyclecast models --try holiday.jpg -o sheet.jpg
    """
    from cyclecast.runtime.model import bundled_models
    from cyclecast.runtime.remote import fetch_model, is_remote

    chosen = _chosen(name or [])
    if (image is None) != (output is None):
        raise typer.BadParameter("--try IMAGE and --output SHEET go together: add the other one")
    if index is not None and (chosen, image) != (None, None):
        raise typer.BadParameter("--index lists styles: leave MODEL and --try out")
    if update and (chosen is None or not is_remote(chosen)):
        raise typer.BadParameter("--update expects the address of a model, such as hf:user/name")
    if index is not None:
        return _list_index(index, as_json)
    if update and chosen is not None:
        fetch_model(chosen, update=True)
    if image is not None and output is not None:
        from cyclecast.contact_sheet import write_contact_sheet

        tried = [chosen] if chosen else list(bundled_models())
        write_contact_sheet(image, output, tried, overwrite, threads)
        return print_json({"output": str(output), "models": tried}) if as_json else print(f"{output}: {', '.join(tried)}")
    if chosen is not None:
        return _show(chosen, as_json)
    rows = [_facts(key, path, not no_bench, threads) for key, path in bundled_models().items()]
    return print_json({"models": rows}) if as_json else _print_gallery(rows)


def _chosen(words: list[str]) -> str | None:
    """Returns the model of `models M` or `models show M`; None if there is none."""
    if words == ["show"]:
        raise typer.BadParameter("expected a model after show, such as: cyclecast models show monet")
    model = words[1:] if words[:1] == ["show"] else words
    if len(model) > 1:
        raise typer.BadParameter(f"expected one model, got {len(model)}")
    return model[0] if model else None


def _show(name: str, as_json: bool) -> None:
    """Prints what a model says about itself: its metadata or, if they say nothing, the card beside the file."""
    from cyclecast.card import StyleCard
    from cyclecast.runtime.model import find_model
    from cyclecast.runtime.model_file import read_model_file
    from cyclecast.runtime.onnx_properties import read_card
    from cyclecast.runtime.plan import engine_of_plan

    path = find_model(name)
    if engine_of_plan(path) is not None:
        raise ConfigError(f"{name}: a plan has no card; expected the ONNX model that it was built from")
    card, beside = read_card(name, read_model_file(path).content), path.with_suffix(".md")
    if card == StyleCard() and beside.is_file():
        text = read_card_text(beside)
        return print_json({"name": name, "path": str(path), "card": text}) if as_json else print(text, end="")
    facts = dataclasses.asdict(dataclasses.replace(card, thumbnail=b"", text=""))
    facts = {key: value for key, value in facts.items() if key not in ("thumbnail", "text")}
    if as_json:
        return print_json({"name": name, "path": str(path), "card": card.text, **facts, "thumbnail_bytes": len(card.thumbnail)})
    print(f"file: {printable(str(path))}, {path.stat().st_size:,} bytes")
    for key, value in facts.items():
        print(f"{key.replace('_', ' ')}: {value or 'not stated'}")
    print(f"thumbnail: {f'JPEG of {len(card.thumbnail):,} bytes' if card.thumbnail else 'none'}")
    print(f"\n{card.text}" if card.text else "card: none")


def _list_index(location: str, as_json: bool) -> None:
    from cyclecast.hub.index import read_index

    entries = read_index(location)
    if as_json:
        return print_json({"styles": [dataclasses.asdict(entry) | {"address": entry.address} for entry in entries]})
    for entry in entries:
        about = [entry.description.rstrip("."), f"by {entry.author}", entry.license, ", ".join(entry.tags)]
        print(f"{entry.title or entry.name}: {'; '.join(part for part in about if part)}")
        print(f"  --model {shlex.quote(entry.address)}")
    if not entries:
        print("no styles in this list")


def _facts(name: str, path: Path, timed: bool, threads: int | None) -> dict[str, Any]:
    """Returns the fields of a model in the list; some are empty without its card, or if it cannot be timed."""
    card = path.with_suffix(".md")
    text = read_card_text(card) if card.is_file() else ""
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
