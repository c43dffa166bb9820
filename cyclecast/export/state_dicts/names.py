"""Names in checkpoints: of modules and tensors, and the direction that a file's or a generator's name shows."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor

TOKENS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
GENERATOR_TOKENS = ("g", "gen", "generator", "netg")


def module_name(key: str) -> str:
    """`model.2.weight` -> `model.2`."""
    return key.rpartition(".")[0]


def last_name(key: str) -> str:
    """`model.2.weight` -> `weight`."""
    return key.rpartition(".")[2]


def first_names(names: Iterable[str]) -> str:
    """The first three names, and the number of the others."""
    all_names = list(names)
    return (", ".join(all_names[:3]) or "nothing") + (f" and {len(all_names) - 3} more" if len(all_names) > 3 else "")


def shape_text(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def direction_from_name(name: str) -> str | None:
    """a2b or b2a, as names such as `netG_B2A`, `G_BA_100`, `latest_net_G_B` and `genA2B` show; None if it shows neither.

    G_A is the generator a2b, as in pytorch-CycleGAN-and-pix2pix. The last hint counts.
    """
    tokens = [token.lower() for token in TOKENS.findall(name)]
    found = None
    for at, token in enumerate(tokens):
        before = tokens[at - 1] if at else ""
        if token in ("a", "b") and tokens[at + 1 : at + 2] in (["2"], ["to"]) and tokens[at + 2 : at + 3] == ["ba"[token == "b"]]:
            found = "a2b" if token == "a" else "b2a"
        elif token in ("ab", "ba") and (before in GENERATOR_TOKENS or token.upper() in name):
            found = "a2b" if token == "ab" else "b2a"
        elif token in ("a", "b") and before in GENERATOR_TOKENS:
            found = "a2b" if token == "a" else "b2a"
    return found
