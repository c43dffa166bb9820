"""The command `share`."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from cyclecast.cli.console import JsonOption, OverwriteOption, extra, print_json, print_line
from cyclecast.errors import ConfigError


def share(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A bundled model (`cyclecast models` lists them), or the path or address of an ONNX frame model.",
        ),
    ],
    to: Annotated[str, typer.Option("--to", help="The folder to write, or hf:user/name, a repository on Hugging Face's hub.")],
    author: Annotated[
        str, typer.Option(help="Your name or pseudonym. Default: the author in the model's metadata.", show_default=False)
    ] = "",
    license: Annotated[
        str,
        typer.Option(
            help="License of the model, such as CC-BY-4.0 or Apache-2.0. Default: the one in the model's metadata or card.",
            show_default=False,
        ),
    ] = "",
    title: Annotated[str, typer.Option(help="Title to show. Default: the model's.", show_default=False)] = "",
    learned_from: Annotated[
        str, typer.Option(help="What it learned from. Default: what the model's metadata or card say.", show_default=False)
    ] = "",
    height: Annotated[
        int | None,
        typer.Option(
            min=16,
            max=16_384,
            help="Shorter side in pixels of the frames that it was made for. Default: the one in its metadata.",
        ),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(help="File with a card in Markdown. Default: the card in the metadata, or the .md beside the model."),
    ] = None,
    thumbnail: Annotated[
        Path | None,
        typer.Option(help="Image that shows the style. Default: the one in the metadata, or the demo's scene before and after."),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag for searches, such as watercolor. Repeatable.")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Name of a data set on the hub that it learned from. Repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be written or uploaded, and do neither.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Upload without asking.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Publish a style: the model with its card, a README, a thumbnail and the SHA-256, in a folder or on Hugging Face's hub.

    An upload needs the extra `hub`, and a token: run `hf auth login` once, or set HF_TOKEN.

    Example: cyclecast share monet --to monet-style --author "A. Painter"
    """
    from cyclecast.hub.share import ShareOptions, check_folder, collect_style, write_folder

    repository = _repository(to)
    if repository is not None and not dry_run:
        with extra("hub"):
            from cyclecast.hub.upload import upload_style
    options = ShareOptions(
        title=title,
        author=author,
        license=license,
        learned_from=learned_from,
        height=height,
        card=card,
        thumbnail=thumbnail,
        tags=tag or [],
        datasets=dataset or [],
    )
    style = collect_style(model, options, repository)
    if repository is None:
        check_folder(style, Path(to), overwrite)
    for name, content in style.files.items():
        print_line(f"{name}: {len(content):,} bytes")
    print_line(f"{style.card.title} by {style.card.author}, license {style.card.license}, SHA-256 {style.entry.sha256}")
    address = f"hf:{repository}" if repository else str(Path(to) / f"{style.name}.onnx")
    if dry_run:
        print_line(f"nothing was {'uploaded' if repository else 'written'}: --dry-run")
    elif repository is None:
        write_folder(style, Path(to), overwrite)
    else:
        _confirm(f"upload these files to {address}, where everybody may see them?", yes)
        page = upload_style(style, repository, overwrite)
        print_line(f"uploaded: {page}")
    if as_json:
        files = {name: len(content) for name, content in style.files.items()}
        return print_json({"address": address, "sha256": style.entry.sha256, "files": files, "dry_run": dry_run})
    if not dry_run:
        print_line(f"next: cyclecast live 0 --model {shlex.quote(address)}")


def _repository(to: str) -> str | None:
    """Returns user/name of hf:user/name; None for a folder. Raises ConfigError for another address."""
    found = re.fullmatch(r"hf:([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})", to, re.ASCII)
    if found is not None:
        return found[1]
    if not to.strip() or to.startswith("hf:") or "://" in to:
        raise ConfigError(f"--to expects a folder or hf:user/name, got {to!r}")
    return None


def _confirm(question: str, is_confirmed: bool) -> None:
    """Asks on the terminal. Raises ConfigError without a terminal, and ends the command if the answer is no."""
    if is_confirmed:
        return
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask before the upload; add --yes to upload without asking")
    if not typer.confirm(question, err=True):
        print_line("nothing was uploaded")
        raise typer.Exit(1)
