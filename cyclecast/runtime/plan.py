"""The facts that cyclecast writes into a TensorRT plan: what it was built from, by what, and for which GPUs.

The name of the plan's network holds `PlanFacts` as JSON, so a plan stays one file that any TensorRT program can load.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from cyclecast.errors import ModelError
from cyclecast.runtime.engine import spec_from_metadata
from cyclecast.runtime.model_file import ModelFile, as_model_file, unreadable_model

Size = tuple[int, int]  # (width, height)

HEADER_START = '{"cyclecast_plan": '
OLD_KEYS = {"takes": "input_name", "gives": "output_name"}  # keys up to version 0.1.0 -> keys today
MAGIC = {b"vtrt": "tensorrt-rtx", b"ftrt": "tensorrt", b"ptrt": "tensorrt"}  # a plan's first bytes -> its engine


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """What a plan was built from, what built it, and what it runs on."""

    engine: str
    """tensorrt or tensorrt-rtx."""
    version: str
    """Version of the library that built it."""
    sm: tuple[int, ...]
    """Compute capabilities that it runs on, 89 for 8.9."""
    sizes: tuple[Size, Size, Size]
    """Minimum, optimum and maximum frame size (width, height); of a latent model, its image size, three times."""
    precision: str
    """Precision of the convolutions: fp32, fp16 or mixed."""
    input_name: str
    """Name of the input tensor: a frame, or latents."""
    output_name: str
    """Name of the output tensor: a frame, or images."""
    model_hash: str
    """SHA-256 of the ONNX file."""
    metadata: str | None
    """The ModelSpec's JSON, if the model has one."""

    def to_json(self) -> str:
        """Returns one line that starts with `HEADER_START`."""
        return HEADER_START + json.dumps(dataclasses.asdict(self)) + "}"


def engine_of_plan(model: Path | ModelFile) -> str | None:
    """Returns the engine that runs a plan, or None if the file is not a plan. Raises ModelError if it cannot be read."""
    if isinstance(model, ModelFile):
        return MAGIC.get(model.content[:4])
    try:
        with model.open("rb") as file:
            return MAGIC.get(file.read(4))
    except OSError as error:
        raise unreadable_model(error, model) from error


def read_facts(plan: Path | ModelFile) -> PlanFacts | None:
    """Reads a plan's facts without any library; None if another program built it. Raises ModelError if they cannot be read."""
    file = as_model_file(plan)
    plan, content = file.path, file.content
    start = content.find(HEADER_START.encode())
    if start < 0:
        return None
    try:
        text = content[start : content.index(b"\0", start)].decode("utf-8", "replace")
        values = json.JSONDecoder().raw_decode(text)[0]["cyclecast_plan"]
        values = {OLD_KEYS.get(key, key): value for key, value in values.items()}
        smallest, best, largest = ((int(width), int(height)) for width, height in values["sizes"])
        values |= {"sizes": (smallest, best, largest), "sm": tuple(int(capability) for capability in values["sm"])}
        facts = PlanFacts(**{field.name: values[field.name] for field in dataclasses.fields(PlanFacts)})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"{plan}: a truncated plan, or one of another version of cyclecast; build it again") from error
    spec_from_metadata(plan, facts.metadata)
    return facts
