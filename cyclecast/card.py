"""`StyleCard`: what a model's file says about itself to people, beside its `ModelSpec`. Uses the standard library only.

A file from elsewhere may say anything. So what is read is shortened and escaped here, once: it is safe to print, and it is never
used as a path.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cyclecast.errors import InputError
from cyclecast.files import check_source, read_error
from cyclecast.phrases import printable

MOST_THUMBNAIL = 50_000  # bytes
MOST_TEXT = 20_000  # characters of a card
MOST_FILE = 1 << 20  # bytes of a file with a card
MOST_LINE = 300  # characters of the other fields
JPEG = b"\xff\xd8\xff"
# Keys of ONNX (MetadataProps.md and IR.md, "optional metadata") for what people and other programs look for.
AUTHOR, LICENSE = "model_author", "model_license"
IMAGE_FORMAT = {
    "Image.BitmapPixelFormat": "Bgr8",
    "Image.ColorSpaceGamma": "SRGB",
    "Image.NominalPixelRange": "NominalRange_0_255",
}
TITLE, LEARNED_FROM, HEIGHT = "cyclecast.title", "cyclecast.learned_from", "cyclecast.height"
THUMBNAIL, TEXT = "cyclecast.thumbnail", "cyclecast.card"


@dataclass(frozen=True, kw_only=True)
class StyleCard:
    """Facts for people about a model. Everything is optional: older files, and those of other projects, have none."""

    title: str = ""
    author: str = ""
    license: str = ""
    """As an SPDX identifier, such as Apache-2.0, if there is one."""
    learned_from: str = ""
    height: int | None = None
    """Shorter side in pixels of the frames that it was made for: the height of common videos."""
    thumbnail: bytes = b""
    """A frame before and after, side by side, as JPEG of up to 50 kB."""
    text: str = ""
    """The card in Markdown."""

    def to_properties(self) -> dict[str, str]:
        """Returns the metadata of an ONNX file. Empty values remove their keys."""
        return {
            TITLE: self.title,
            AUTHOR: self.author,
            LICENSE: self.license,
            LEARNED_FROM: self.learned_from,
            HEIGHT: str(self.height or ""),
            THUMBNAIL: base64.b64encode(self.thumbnail).decode(),
            TEXT: self.text,
            **IMAGE_FORMAT,
        }

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> StyleCard:
        """Reads the metadata of an ONNX file. Shortens and escapes texts; ignores an invalid height or thumbnail."""
        height = properties.get(HEIGHT, "")
        return cls(
            title=clean_line(properties.get(TITLE, "")),
            author=clean_line(properties.get(AUTHOR, "")),
            license=clean_line(properties.get(LICENSE, "")),
            learned_from=clean_line(properties.get(LEARNED_FROM, "")),
            height=int(height) if re.fullmatch("[1-9][0-9]{0,4}", height) else None,
            thumbnail=_read_thumbnail(properties.get(THUMBNAIL, "")),
            text=clean_text(properties.get(TEXT, "")),
        )


def clean_line(text: object, most: int = MOST_LINE) -> str:
    """Returns untrusted text as one line of at most so many characters that is safe to print."""
    line = printable(" ".join(str(text)[: 2 * most].split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def clean_text(text: str, most: int = MOST_TEXT) -> str:
    """Returns untrusted text with its lines, at most so many characters, safe to print."""
    lines = re.split("\r\n|\r|\n", text[:most])
    cleaned = "\n".join(printable(line.replace("\t", "    ")).rstrip() for line in lines)
    left_out = len(text) - most
    return f"{cleaned}\n… ({left_out:,} more characters left out)\n" if left_out > 0 else cleaned


def read_card_text(path: Path) -> str:
    """Reads a file with a card in Markdown; the text is safe to print. Raises InputError if it cannot be read or is too large."""
    check_source(path)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_FILE + 1)
    except OSError as error:
        raise read_error(error, path) from error
    if len(content) > MOST_FILE:
        raise InputError(f"{path}: larger than {MOST_FILE >> 20} MiB; expected a card in Markdown")
    return clean_text(content.decode("utf-8", "replace"))


def _read_thumbnail(encoded: str) -> bytes:
    if len(encoded) > 4 * MOST_THUMBNAIL // 3 + 4:
        return b""
    try:
        thumbnail = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return thumbnail if thumbnail.startswith(JPEG) and len(thumbnail) <= MOST_THUMBNAIL else b""


def description_from_card(card: str) -> str:
    """Returns the first sentence of a card that is not a heading, image or table; an empty text if there is none."""
    for paragraph in re.split(r"\n\s*\n", card.strip()):
        line = " ".join(paragraph.split())
        if line and line[0] not in "#!|*-`<":
            return re.split(r"(?<=[.!?])\s", line)[0]
    return ""


def license_from_card(card: str) -> str | None:
    """Returns the license that a card names in a row of its table or in a line of its own; None if it names none."""
    return row_from_card(card, "licen[cs]e")


def row_from_card(card: str, name: str) -> str | None:
    """Returns what a card says in a row of its table, or in a line of its own. name: of the row, a regular expression."""
    found = re.search(rf"^[^\w\n]*{name}[^\w\n]*[:|][\s*]*([^|\n]*[^|\s])", card, re.IGNORECASE | re.MULTILINE)
    return found[1] if found else None
