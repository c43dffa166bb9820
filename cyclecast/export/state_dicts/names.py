"""Names in checkpoints: of modules and tensors, and the direction that a file's or a generator's name shows."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor

TOKENS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
PAIR = re.compile(r"(?P<source>(?<![A-Za-z])[ab]|[AB])(2|to|To|TO|_to_)(?P<target>[AB]|[ab](?![A-Za-z]))")
DIRECTIONS = {"a": "a2b", "ab": "a2b", "b": "b2a", "ba": "b2a"}
GENERATOR_TOKENS = ("g", "gen", "generator", "netg")


def module_name(key: str) -> str:
    """Returns the module's name: `model.2` of `model.2.weight`."""
    return key.rpartition(".")[0]


def last_name(key: str) -> str:
    """Returns the last part of a name: `weight` of `model.2.weight`."""
    return key.rpartition(".")[2]


def first_names(names: Iterable[str]) -> str:
    """Returns the first three names and the number of the others, as text."""
    all_names = list(names)
    return (", ".join(all_names[:3]) or "nothing") + (f" and {len(all_names) - 3} more" if len(all_names) > 3 else "")


def shape_text(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def direction_from_name(name: str) -> str | None:
    """Returns a2b or b2a, which names such as `netG_B2A`, `BtoA`, `G_BA_100` and `latest_net_G_B` show; None for other names.

    G_A is the generator a2b, as in pytorch-CycleGAN-and-pix2pix. A pair such as B2A takes precedence; otherwise the last hint
    decides.
    """
    pairs = [
        match["source"] + match["target"] for match in PAIR.finditer(name) if match["source"].lower() != match["target"].lower()
    ]
    if pairs:
        return DIRECTIONS[pairs[-1].lower()]
    tokens, found = TOKENS.findall(name), None
    for before, token in zip(["", *tokens], tokens, strict=False):
        is_hint = before.lower() in GENERATOR_TOKENS or token in ("AB", "BA")
        found = DIRECTIONS.get(token.lower(), found) if is_hint else found
    return found
