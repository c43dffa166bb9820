"""Messages count correctly, and names from outside do not act on the terminal."""

from __future__ import annotations

import pytest

from cyclecast.phrases import count_noun, printable


def test_counts_and_nouns_agree() -> None:
    assert [count_noun(n, "frame") for n in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]
    assert [count_noun(n, "frame", "are") for n in (0, 1, 2)] == ["0 frames are", "1 frame is", "2 frames are"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Größe 日本 \N{FAMILY}.mp4", "Größe 日本 \N{FAMILY}.mp4"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("one\ntwo\r", "one\\ntwo\\r"),
        ("\x9b2J", "\\x9b2J"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("no UTF-8: \udcff", "no UTF-8: \\udcff"),
    ],
)
def test_characters_that_act_on_a_terminal_are_escaped(text: str, expected: str) -> None:
    assert printable(text) == expected
