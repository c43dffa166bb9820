"""Phrases for messages: counts with their nouns, and text from outside that is safe to print. Standard library only."""

from __future__ import annotations

import re

# Control characters, which a terminal obeys; line separators; marks that reverse the direction of writing; invalid UTF-8.
UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def count_noun(count: int, noun: str, verb: str = "") -> str:
    """Returns "1 frame" or "3 frames"; with the verb "are", "1 frame is" or "3 frames are"."""
    number = f"{count} {noun}" if count == 1 else f"{count} {noun}s"
    return f"{number} {'is' if verb == 'are' and count == 1 else verb}".rstrip()


def printable(text: str) -> str:
    """Escapes the characters that would act on a terminal, as in a hostile file name."""
    return UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], text)
