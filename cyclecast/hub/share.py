"""Puts together what is published of a style: the model with its card inside, a README, a thumbnail, a hash, a list entry."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import cyclecast
from cyclecast.card import (
    MOST_THUMBNAIL,
    StyleCard,
    clean_line,
    description_from_card,
    license_from_card,
    read_card_text,
    row_from_card,
)
from cyclecast.errors import ConfigError, ModelError, OutputError
from cyclecast.files import atomic_write, check_output
from cyclecast.hub.index import INDEX_NAME, IndexEntry, to_json
from cyclecast.hub.readme import write_readme
from cyclecast.runtime.model import find_model
from cyclecast.runtime.model_file import ModelFile, read_model_file
from cyclecast.runtime.onnx_file import describe
from cyclecast.runtime.onnx_properties import add_card, read_card
from cyclecast.runtime.plan import engine_of_plan
from cyclecast.runtime.remote import inspect_model
from cyclecast.runtime.remote.address import HUB
from cyclecast.video.files.images import read_image
from cyclecast.video.scene import Scene
from cyclecast.video.thumbnail import encode_thumbnail

SHOWN_SECOND = 2.0  # of the demo's scene, in a thumbnail


@dataclass(frozen=True, kw_only=True)
class ShareOptions:
    """What is published about a style. An empty value: what the model's metadata say, or the card beside the file (.md)."""

    title: str = ""
    author: str = ""
    license: str = ""
    learned_from: str = ""
    height: int | None = None
    card: Path | None = None
    """A file with the card, in Markdown."""
    thumbnail: Path | None = None
    """An image. None: the one in the metadata, or a frame of the demo's scene before and after."""
    tags: Sequence[str] = field(default_factory=list)
    datasets: Sequence[str] = field(default_factory=list)
    """Names of data sets on the hub."""


@dataclass(frozen=True)
class SharedStyle:
    """The files to publish, and the facts in them."""

    name: str
    card: StyleCard
    entry: IndexEntry
    files: dict[str, bytes]
    """Name -> content."""


def collect_style(model: str, options: ShareOptions, repository: str | None = None) -> SharedStyle:
    """Reads a model and returns the files to publish. Writes nothing.

    model: as in `cyclecast.load`, but no plan. repository: user/name of the hub's, whose name the files get; None: they get the
    model's name, for a folder. Raises ConfigError if the license or the author is unknown or the name is not printable,
    ModelError if it is not a frame model that `inspect_model` accepts, and InputError if the card or thumbnail cannot be read.
    """
    path = find_model(model)
    if engine_of_plan(path) is not None:
        raise ModelError(f"{model}: a plan, which runs on one type of GPU; share the ONNX model that it was built from")
    file = read_model_file(path)
    describe(path)  # raises if it is not a frame model
    name = repository.partition("/")[2] if repository else path.stem
    if not name.isprintable():  # line breaks, and bytes that are not UTF-8
        raise ConfigError(f"{model}: its name has characters that cannot be published; rename the file")
    typed = f"hf:{repository}" if repository else f"{name}.onnx"  # after --model
    card = _complete_card(read_card(model, file.content), path, name, options)
    if not card.license:
        raise ConfigError(f"{model}: has no license, so nobody could use it; add --license, such as --license CC-BY-4.0")
    if not card.author:
        raise ConfigError(f"{model}: has no author; add --author and your name or pseudonym")
    if options.thumbnail is not None:
        card = dataclasses.replace(card, thumbnail=encode_thumbnail([read_image(options.thumbnail)], MOST_THUMBNAIL))
    elif not card.thumbnail:
        card = dataclasses.replace(card, thumbnail=draw_thumbnail(file))
    content = add_card(model, file.content, card)
    inspect_model(model, content)  # what nobody could fetch is not shared
    sha256 = hashlib.sha256(content).hexdigest()
    entry = IndexEntry(
        name=name,
        title=card.title,
        description=description_from_card(card.text),
        author=card.author,
        license=card.license,
        tags=[clean_line(tag, 40) for tag in options.tags],
        learned_from=card.learned_from,
        height=card.height,
        sha256=sha256,
        bytes=len(content),
        urls=[typed if repository else quote(typed)],
        images=[quote(f"{name}.jpg")],
    )
    thumbnail = f"{HUB}/{repository}/resolve/main/{name}.jpg" if repository else entry.images[0]
    readme = write_readme(entry, card, typed, thumbnail, [clean_line(each, 100) for each in options.datasets])
    files = {
        f"{name}.onnx": content,
        f"{name}.jpg": card.thumbnail,
        "README.md": readme.encode(),
        "SHA256SUMS": f"{sha256}  {name}.onnx\n".encode(),
        INDEX_NAME: to_json([entry]).encode(),
    }
    return SharedStyle(name, card, entry, files)


def read_style_card(path: Path, content: bytes) -> StyleCard:
    """Reads what an ONNX file says about itself, and for what it does not say, the card beside it (.md)."""
    return _complete_card(read_card(str(path), content), path, path.stem, ShareOptions())


def _complete_card(card: StyleCard, path: Path, name: str, options: ShareOptions) -> StyleCard:
    """Returns the card of the file. The options replace its facts; the text beside the file fills those that it lacks."""
    beside = path.with_suffix(".md")
    source = options.card or (beside if not card.text and beside.is_file() else None)
    text = card.text
    if source is not None:
        text = read_card_text(source)
    license_name = (license_from_card(text) or "").partition(",")[0]
    return dataclasses.replace(
        card,
        title=clean_line(options.title) or card.title or name,
        author=clean_line(options.author) or card.author or clean_line(row_from_card(text, "author") or ""),
        license=clean_line(options.license, 60) or card.license or clean_line(license_name, 60),
        learned_from=clean_line(options.learned_from)
        or card.learned_from
        or clean_line(row_from_card(text, "learned from") or ""),
        height=options.height or card.height,
        text=text,
    )


def draw_thumbnail(file: ModelFile) -> bytes:
    """Returns a JPEG of a frame of the demo's scene, before and after the model, side by side."""
    with cyclecast.load(file) as model:
        sizes = model.frame_sizes
        frame = Scene(*(sizes[1] if sizes else (480, 270))).draw(SHOWN_SECOND)
        return encode_thumbnail([frame, model(frame)], MOST_THUMBNAIL)


def check_folder(style: SharedStyle, folder: Path, overwrite: bool = False) -> None:
    """Raises OutputExistsError if one of the files exists (unless `overwrite`), and OutputError if `folder` is a file."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; expected --to FOLDER or --to hf:user/name")
    for name in style.files:
        check_output(folder / name, overwrite)


def write_folder(style: SharedStyle, folder: Path, overwrite: bool = False) -> None:
    """Writes the files to a folder, the model last. Raises as `check_folder` does, before any is written."""
    check_folder(style, folder, overwrite)
    for name, content in reversed(style.files.items()):
        with atomic_write(folder / name, overwrite) as partial:
            partial.write_bytes(content)
