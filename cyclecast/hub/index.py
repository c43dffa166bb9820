"""Lists of styles: a JSON file that names models, their authors, licenses, hashes and addresses.

The fields are those of OpenModelDB's entries as far as they fit, so that either list can be made from the other.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from cyclecast.card import clean_line
from cyclecast.errors import ConfigError, InputError
from cyclecast.files import read_error
from cyclecast.runtime.remote.address import check_transport, is_remote
from cyclecast.runtime.remote.transfer import transfer

INDEX_NAME = "index.json"
MOST_BYTES = 4 << 20
MOST_ENTRIES = 10_000
EXPECTED = "expected a JSON list of objects with name, author, license, sha256 and urls; see docs/share.md"
ADDRESS = re.compile(r"[\x21-\x7e]{1,500}")  # printable ASCII without spaces


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """A style in a list."""

    name: str
    author: str
    license: str
    sha256: str
    """Of the ONNX file, 64 hexadecimal digits."""
    urls: list[str]
    """Addresses of the ONNX file, as in `--model`, or relative to the list. The first one is used."""
    title: str = ""
    description: str = ""
    tags: list[str] = dataclasses.field(default_factory=list)
    learned_from: str = ""
    height: int | None = None
    """See `StyleCard`."""
    bytes: int | None = None
    """Size of the ONNX file."""
    images: list[str] = dataclasses.field(default_factory=list)
    """Thumbnails, before and after side by side: addresses, or relative to the list."""

    @property
    def address(self) -> str:
        """Returns what to type after `--model`: with the hash, so that only this file is accepted."""
        return f"{self.urls[0]}#sha256={self.sha256}"


def to_json(entries: Sequence[IndexEntry]) -> str:
    """Returns the list as a JSON file."""
    return json.dumps([dataclasses.asdict(entry) for entry in entries], indent=1, ensure_ascii=False) + "\n"


def read_index(location: str) -> list[IndexEntry]:
    """Reads a list from a file, or from an https, file or (on this machine) http address. Its texts are safe to print.

    Addresses that are relative become absolute. Raises FetchError or InputError if it cannot be read, and ConfigError if it is
    not such a list.
    """
    if location.startswith("hf:"):
        raise ConfigError(f"{location}: expected the file or the https:// address of a list of styles")
    if is_remote(location):
        check_transport(location, location)
        content = transfer(location, location, MOST_BYTES, "expected a list of styles")
        base = location
    else:
        path = Path(location)
        try:
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise read_error(error, path) from error
        if len(content) > MOST_BYTES:
            raise InputError(f"{location}: larger than {MOST_BYTES >> 20} MiB; expected a list of styles")
        base = path.resolve().as_uri()
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{location}: not JSON; {EXPECTED}") from error
    if not isinstance(values, list) or len(values) > MOST_ENTRIES:
        raise ConfigError(f"{location}: {EXPECTED}")
    return [_read_entry(f"{location}: entry {number}", base, value) for number, value in enumerate(values, 1)]


def _read_entry(where: str, base: str, value: Any) -> IndexEntry:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: {EXPECTED}")
    for key in ("name", "author", "license"):
        if not clean_line(value.get(key) or ""):
            raise ConfigError(f"{where}: has no {key}; {EXPECTED}")
    sha256 = str(value.get("sha256")).lower()
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ConfigError(f"{where}: has no sha256 of 64 hexadecimal digits; {EXPECTED}")
    urls = [_absolute(base, url) for url in _texts(value.get("urls"))]
    if not urls:
        raise ConfigError(f"{where}: has no urls; {EXPECTED}")
    schemes = ("hf:", "https:") if base.startswith("https:") else ("hf:", "https:", "http:", "file:")
    for url in urls:
        if not ADDRESS.fullmatch(url) or "#" in url or not url.startswith(schemes):
            raise ConfigError(f"{where}: {clean_line(url)!r} is not an address (a space is written %20); {EXPECTED}")
    return IndexEntry(
        name=clean_line(value["name"]),
        author=clean_line(value["author"]),
        license=clean_line(value["license"]),
        sha256=sha256,
        urls=urls,
        title=clean_line(value.get("title") or ""),
        description=clean_line(value.get("description") or ""),
        tags=[clean_line(tag, 40) for tag in _texts(value.get("tags"))[:50]],
        learned_from=clean_line(value.get("learned_from") or ""),
        height=_number(value.get("height")),
        bytes=_number(value.get("bytes")),
        images=[clean_line(_absolute(base, image)) for image in _texts(value.get("images"))[:50]],
    )


def _number(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _absolute(base: str, url: str) -> str:
    if url.startswith("hf:"):
        return url
    try:
        return urljoin(base, url)
    except ValueError:
        return ""
