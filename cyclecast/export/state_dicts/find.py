"""Finds the generators in a checkpoint: a state dict itself, or whatever a training script saved around it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.adopt.sizes import Finding
from cyclecast.export.state_dicts.architectures import name_architecture
from cyclecast.export.state_dicts.names import direction_from_name, first_names, shape_text

REPOSITORY = "pytorch-CycleGAN-and-pix2pix"
PROJECTS = f"{REPOSITORY}, CUT, PyTorch-GAN's CycleGAN, pix2pixHD or cyclecast"
BLOCK_KEY = re.compile(r"(?P<prefix>|.*?\.)(?P<trunk>model\.)?\d+\.(?P<block>conv_block|block|body)\.\d+\.weight")
UNET_KEY = re.compile(r"(?P<prefix>|.*?\.)model\.model\.0\.weight")
WRAPPERS = ("module", "_orig_mod")  # of DataParallel and torch.compile
AVERAGE = re.compile(r"(^|[._])(ema|averaged?|avg|shadow)([._]|$)", re.IGNORECASE)
LOOKS_LIKE_GENERATOR = re.compile(r"(^|[._])(net_?)?(g|gen|generator|params)([A-Z_\d]|$)", re.IGNORECASE)
MAX_DEPTH = 8  # of mappings inside each other

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class StoredGenerator:
    """A generator's tensors, by their names in its network: `model.1.weight`, or of a U-Net `model.model.0.weight`."""

    tensors: Tensors
    modules: Mapping[str, Mapping[str, Any]]
    """What torch.save recorded of each module, by name; empty for the network itself, and if only tensors were saved."""


def find_generator(
    state: object, key: str | None = None, direction: str | None = None
) -> tuple[str, StoredGenerator, list[Finding]]:
    """Returns the name of a checkpoint's generator, the generator, and the reason for the choice.

    The name is where it was found: `G_AB`, `state_dict.netG`; empty if the file is the generator's state dict. key: a name, or
    a part of it that no other generator's name has. direction: of the generator to choose among several, a2b, b2a or None.

    Raises ModelError if there is no generator, and ConfigError if there are several and neither `key` nor `direction` chooses.
    """
    if not isinstance(state, Mapping):
        raise ModelError(f"holds a {type(state).__name__}, expected a generator's state dict: tensors by name")
    found = dict(_generators(state))
    if not found:
        raise ModelError(_rejection(state))
    names = list(found)
    if key is not None:
        return _find_by_key(found, key)
    current = _drop_older_twins(names)
    chosen = current if len(current) == 1 else [name for name in current if direction and direction_from_name(name) == direction]
    if len(chosen) != 1:
        if named := _name_architecture(state):
            raise ModelError(named)
        example = next(filter(None, current))
        raise ConfigError(
            f"holds {len(current)} generators, {_list_names(current)}: choose one with --key, such as --key {example}"
        )
    (name,) = chosen
    if len(current) > 1:
        why = f"the direction {direction}; the alternatives are {_list_names([other for other in names if other != name])}"
    elif len(names) > 1:
        why = f"averaged weights; the alternative is --key {next(other for other in names if other != name)}"
    else:
        why = "the only generator in the file"
    return name, found[name], [Finding("key", name, why)] if name else []


def _find_by_key(found: Mapping[str, StoredGenerator], key: str) -> tuple[str, StoredGenerator, list[Finding]]:
    wanted = key.split(".")
    matching = [key] if key in found else [name for name in found if _contains(name.split("."), wanted)]
    if len(matching) != 1:
        problem = f"{len(matching)} generators have {key!r} in their name" if matching else f"no generator named {key!r}"
        raise ConfigError(f"{problem}: it holds {_list_names(list(found))}")
    return matching[0], found[matching[0]], [Finding("key", matching[0], "as requested")]


def _contains(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    return any(list(parts[at : at + len(wanted)]) == list(wanted) for at in range(len(parts)))


def _generators(state: Mapping[Any, Any]) -> Iterator[tuple[str, StoredGenerator]]:
    """Yields name and tensors of each generator. A mapping may hold one under a prefix, or be one."""
    for path, tensors, modules in _mappings(state):
        renamings: dict[str, tuple[str, str]] = {}  # prefix -> the start of a generator's names, and what replaces it
        incomplete: dict[str, tuple[str, str]] = {}
        for key, value in tensors.items():
            block, unet = BLOCK_KEY.fullmatch(key), UNET_KEY.fullmatch(key)
            if unet and value.ndim == 4:
                renamings.setdefault(unet["prefix"], (unet["prefix"], ""))
            elif block:
                start = block["prefix"] + (block["trunk"] or "")
                first = tensors.get(f"{start}1.weight")
                if first is not None and first.ndim == 4:
                    renamings.setdefault(block["prefix"], (start, "model."))
                elif block["block"] == "conv_block":
                    incomplete.setdefault(block["prefix"], (start, "model."))
        for prefix, (start, replacement) in (renamings or incomplete).items():
            name = ".".join(part for part in (*path, *prefix.split(".")) if part and part not in WRAPPERS)
            renamed = partial(_rename, start=start, replacement=replacement)
            inside = {renamed(key): value for key, value in tensors.items() if key.startswith(prefix)}
            about = {renamed(key): value for key, value in modules.items() if key.startswith(prefix)}
            if prefix.rstrip(".") in modules:
                about[""] = modules[prefix.rstrip(".")]
            yield name, StoredGenerator(inside, about)


def _rename(key: str, start: str, replacement: str) -> str:
    return replacement + key.removeprefix(start) if key.startswith(start) else key


def _mappings(
    state: Mapping[Any, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Tensors, Mapping[str, Mapping[str, Any]]]]:
    """Yields place, tensors and torch's record of modules of each mapping with tensors. Leaves out optimizers."""
    tensors = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        recorded = getattr(state, "_metadata", None)  # torch keeps it as an attribute of a state dict
        modules = recorded if isinstance(recorded, Mapping) else {}
        yield path, tensors, {key: value for key, value in modules.items() if isinstance(value, Mapping)}
    for key, value in state.items():
        if isinstance(key, str) and isinstance(value, Mapping) and len(path) < MAX_DEPTH:
            yield from _mappings(value, (*path, key))


def _drop_older_twins(names: list[str]) -> list[str]:
    """Returns the names without those whose averaged weights are in the file, too: `params` beside `params_ema`."""
    averaged = {AVERAGE.sub(".", name).strip("._"): name for name in names if AVERAGE.search(name)}
    return [name for name in names if averaged.get(name.strip("._"), name) == name]


def _name_architecture(state: Mapping[Any, Any]) -> str | None:
    """Returns what a part of the checkpoint is of, if it is known but not read."""
    return next(filter(None, (name_architecture(keys) for _, keys, _ in _mappings(state))), None)


def _list_names(names: list[str]) -> str:
    """Returns the names as text, each with the direction that it shows."""
    shown = [(name or "the file itself", direction_from_name(name)) for name in names]
    return ", ".join(name + (f" ({direction})" if direction else "") for name, direction in shown)


def _rejection(state: Mapping[Any, Any]) -> str:
    """Returns why a checkpoint has no generator, as text."""
    if named := _name_architecture(state):
        return named
    expected = f"expected a generator of {PROJECTS}: a ResNet's model.10.conv_block.1.weight or a U-Net's model.model.0.weight"
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    first, convolutions = next(iter(tensors), ""), [value for value in tensors.values() if value.ndim == 4]
    if first.endswith(("model.0.weight", "net.0.weight")) and convolutions and convolutions[-1].shape[0] == 1:
        return f"a discriminator ({first} is {shape_text(tensors[first])}), expected a generator: the file with net_G in its name"
    places = {".".join(path) for path, _, _ in _mappings(state)} | {
        key.partition(".")[0] for _, keys, _ in _mappings(state) for key in keys
    }
    similar = sorted(place for place in places if LOOKS_LIKE_GENERATOR.search(place))
    others = f" ({first_names(similar)} may be a generator of another architecture)" if similar else ""
    return f"holds {first_names(map(str, state))}{others}, {expected}"
