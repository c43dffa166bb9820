"""Reads the facts in the card of a model, the Markdown file beside it. Standard library only."""

from __future__ import annotations

import re


def description_from_card(card: str) -> str:
    """Returns the first sentence of a card that is no heading, image or table; an empty text if there is none."""
    for paragraph in re.split(r"\n\s*\n", card.strip()):
        line = " ".join(paragraph.split())
        if line and line[0] not in "#!|*-`<":
            return re.split(r"(?<=[.!?])\s", line)[0]
    return ""


def license_from_card(card: str) -> str | None:
    """Returns the license that a card names in a row of its table or in a line of its own; None if it names none."""
    return _row(card, "licen[cs]e")


def author_from_card(card: str) -> str | None:
    """Returns the author that a card names, as `license_from_card` finds the license; None if it names none."""
    return _row(card, "author")


def _row(card: str, name: str) -> str | None:
    found = re.search(rf"^\W*{name}\W*[:|][\s*]*([^|\n]*[^|\s])", card, re.IGNORECASE | re.MULTILINE)
    return found[1] if found else None
