"""Writes the README of a published style, with the metadata that Hugging Face's hub reads (YAML)."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cyclecast.card import StyleCard

if TYPE_CHECKING:
    from cyclecast.hub.index import IndexEntry

# The hub's identifiers of licenses, of those that are common for models and images. Others are `other` with a name.
LICENSES = frozenset(
    [
        "afl-3.0",
        "agpl-3.0",
        "apache-2.0",
        "artistic-2.0",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsl-1.0",
        "cc",
        "cc-by-2.0",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-nc-2.0",
        "cc-by-nc-3.0",
        "cc-by-nc-4.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-nd-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
        "cc0-1.0",
        "epl-2.0",
        "gpl-2.0",
        "gpl-3.0",
        "isc",
        "lgpl-2.1",
        "lgpl-3.0",
        "mit",
        "mpl-2.0",
        "openrail",
        "pddl",
        "unlicense",
        "wtfpl",
        "zlib",
    ]
)
SPDX_SUFFIXES = ("-only", "-or-later")
TAGS = ("cyclecast", "onnx", "style-transfer", "video")


def write_readme(entry: IndexEntry, card: StyleCard, model: str, thumbnail: str, datasets: Sequence[str]) -> str:
    """Returns the README in Markdown.

    model: what to type after `--model`. thumbnail: its address, for the hub's metadata. datasets: names on the hub.
    """
    facts = {
        "author": card.author,
        "license": card.license,
        "learned from": card.learned_from,
        "made for frames of": f"{card.height} pixels on the shorter side" if card.height else "",
        "SHA-256": f"`{entry.sha256}`",
    }
    table = "\n".join(f"| {key} | {value.replace('|', '&#124;')} |" for key, value in facts.items() if value)
    model = shlex.quote(model)
    parts = [
        f"---\n{_metadata(entry, card, thumbnail, datasets)}---",
        f"# {card.title}",
        f"![Before and after]({entry.images[0]})",
        "Restyles videos, photos and live cameras with cyclecast:",
        f"```\ncyclecast live 0 --model {model}\ncyclecast convert holiday.mp4 painted.mp4 --model {model}\n```",
        f"| | |\n|---|---|\n{table}",
        _body(card.text),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _metadata(entry: IndexEntry, card: StyleCard, thumbnail: str, datasets: Sequence[str]) -> str:
    """Returns the lines of YAML. JSON's texts and lists are also YAML's, so nothing in them can start another key."""
    license_id = hub_license(card.license)
    values: dict[str, object] = {"license": license_id}
    if license_id == "other":
        values["license_name"] = re.sub(r"[^a-z0-9.-]+", "-", card.license.lower()).strip("-") or "custom"
    values |= {"library_name": "cyclecast", "pipeline_tag": "image-to-image", "tags": list(dict.fromkeys([*TAGS, *entry.tags]))}
    if datasets:
        values["datasets"] = list(datasets)
    values["thumbnail"] = thumbnail
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())


def hub_license(name: str) -> str:
    """Returns the hub's identifier of a license: `apache-2.0` for Apache-2.0, `other` for one that it does not know."""
    identifier = name.lower()
    for suffix in SPDX_SUFFIXES:
        identifier = identifier.removesuffix(suffix)
    return identifier if identifier in LICENSES else "other"


def _body(card: str) -> str:
    """Returns a card without its title and its images, which stand above."""
    text = re.sub(r"\A\s*#[^\n]*\n", "", card)
    text = re.sub(r"!\[[^\]\n]*\]\([^)\n]*\)", "", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
