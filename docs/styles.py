"""Writes docs/styles.json, the list of the bundled styles: run it again when a bundled model has changed.

python docs/styles.py
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cyclecast.card import description_from_card, license_from_card, row_from_card
from cyclecast.hub.index import IndexEntry, to_json
from cyclecast.runtime.model import bundled_models

FOLDER = Path(__file__).parent
MODELS = "../cyclecast/models"


def bundled_entries() -> list[IndexEntry]:
    """Returns an entry for each bundled style, with what its card says."""
    entries = []
    for name, path in bundled_models().items():
        content, card = path.read_bytes(), path.with_suffix(".md").read_text("utf-8")
        entries.append(
            IndexEntry(
                name=name,
                title=name.replace("-", " ").capitalize(),
                description=description_from_card(card),
                author="cyclecast",
                license=(license_from_card(card) or "").partition(",")[0],
                tags=["bundled"],
                learned_from=row_from_card(card, "learned from") or "",
                height=720,
                sha256=hashlib.sha256(content).hexdigest(),
                bytes=len(content),
                urls=[f"{MODELS}/{path.name}"],
                images=[f"{MODELS}/{name}.jpg"],
            )
        )
    return entries


if __name__ == "__main__":
    (FOLDER / "styles.json").write_text(to_json(bundled_entries()), "utf-8")
