"""`ModelSpec`: the facts about a model, stored as JSON in its file's metadata. Uses the standard library only."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

METADATA_KEY = "cyclecast"
SMALLEST_FRAME = 16  # pixels, the shortest side of a frame
MODEL_TYPES = ("frame", "latent")
OLD_KEYS = {"kind": "model_type", "keep_colours": "keep_colors"}  # keys up to version 0.1.0 -> keys today


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The facts about a model. Export writes them, every engine reads them; a file without them can still be a frame model."""

    name: str = "unnamed"
    """Name for people."""
    model_type: str = "frame"
    """frame: uint8 (1, H, W, 3) BGR in and out. latent: float32 (N, Z) from N(0, 1) in, uint8 (N, H, W, 3) BGR out."""
    recipe: str = ""
    """The recipe that trained it: cyclegan, distill, …"""
    direction: str = ""
    """a2b or b2a; of a latent model: sample, or the domain whose images it generates."""
    architecture: dict[str, Any] = field(default_factory=dict)
    """The generator's name and settings."""
    precision: str = "fp32"
    """Precision of the weights and of the graph's arithmetic: fp32, fp16, int8 or mixed."""
    size: tuple[int, int] | None = None
    """(width, height) of a graph with a fixed frame size; None: any size from 16x16 up."""
    keep_colors: float = 0.0
    """Share of the input frame's colors in the output, from 0 (none) to 1 (all)."""
    strength: float = 1.0
    """Share of the styled frame in the output, from 0 (the input frame) to 1 (the generator's output)."""
    auto_precision: str = "auto"
    """Precision of the arithmetic that `auto` means: fp32 if bf16 costs this model more than the tolerance, else auto."""
    steps: int = 0
    """Training steps behind the weights."""
    version: str = ""
    """Version of cyclecast that wrote the file."""

    def to_json(self) -> str:
        """Returns one line with sorted keys, so that equal specs give equal bytes. Leaves out newer fields at their default."""
        values = dataclasses.asdict(self)
        for name, default in (("strength", 1), ("auto_precision", "auto")):
            if values[name] == default:
                del values[name]
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Reads what `to_json` of this or another version wrote.

        Ignores unknown keys, uses the defaults for missing keys, and accepts the keys of older versions. Raises ValueError, in
        one line, if the text is not a JSON object or a value has the wrong type.
        """
        try:
            values = json.loads(text)
        except RecursionError as error:
            raise ValueError("too deeply nested") from error
        if not isinstance(values, dict):
            raise ValueError(f"expected a JSON object, got {_shorten(values)}")
        values = {OLD_KEYS.get(key, key): value for key, value in values.items()}
        known = {f.name: f.default for f in dataclasses.fields(cls)}
        values = {key: value for key, value in values.items() if key in known}
        for key, value in values.items():
            if not _is_valid(key, value, known[key]):
                raise ValueError(f"{key}: expected {_EXPECTED.get(key, 'a text')}, got {_shorten(value)}")
        if values.get("size") is not None:
            values["size"] = tuple(values["size"])
        return cls(**values)


_EXPECTED = {
    "model_type": " or ".join(MODEL_TYPES),
    "architecture": "an object",
    "size": "null or [width, height] in pixels",
    "keep_colors": "a number from 0 to 1",
    "strength": "a number from 0 to 1",
    "auto_precision": "auto or fp32",
    "steps": "a whole number from 0 up",
}


def _is_valid(key: str, value: Any, default: Any) -> bool:
    if key == "model_type":
        return value in MODEL_TYPES
    if key == "architecture":
        return isinstance(value, dict)
    if key == "size":
        sides = value if isinstance(value, list) else ()
        return value is None or (len(sides) == 2 and all(type(side) is int and side >= SMALLEST_FRAME for side in sides))
    if key in ("keep_colors", "strength"):
        return type(value) in (int, float) and 0 <= value <= 1  # false for NaN
    if key == "auto_precision":
        return value in ("auto", "fp32")
    if key == "steps":
        return type(value) is int and value >= 0
    return isinstance(value, type(default))


def _shorten(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
