"""ModelSpec: what a frame model says about itself, as JSON in the ONNX file's metadata. Standard library only."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

METADATA_KEY = "cyclecast"
SMALLEST_FRAME = 16  # pixels, each side


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Written by export, read by every engine; a file without it can still be a frame model."""

    name: str = "unnamed"
    """What people call it."""
    kind: str = "frame"
    """frame: uint8 (1, H, W, 3) BGR to the same. latent: float32 (N, Z) from N(0, 1) to uint8 (N, H, W, 3) BGR."""
    recipe: str = ""
    """What trained it: cyclegan, …"""
    direction: str = ""
    """a2b or b2a; of a latent model: sample, or the domain that it draws."""
    architecture: dict[str, Any] = field(default_factory=dict)
    """Of the generator: its name and settings."""
    precision: str = "fp32"
    """Of the weights and of the arithmetic that the graph asks for."""
    size: tuple[int, int] | None = None
    """(width, height) where the graph is fixed to one size; None: any from 16x16 up."""
    keep_colors: float = 0.0
    """Share of the frame's own colors in the output: 0 none, 1 all."""
    steps: int = 0
    """Training steps behind the weights."""
    version: str = ""
    """Of cyclecast that wrote the file."""

    def to_json(self) -> str:
        """One line, keys sorted: the same spec gives the same bytes."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Reads what `to_json` wrote; keys that this version does not know are left out. ValueError if it is no such JSON."""
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("a ModelSpec is a JSON object")
        known = {f.name for f in dataclasses.fields(cls)}
        values = {key: value for key, value in values.items() if key in known}
        if values.get("size") is not None:
            values["size"] = tuple(values["size"])
        return cls(**values)
