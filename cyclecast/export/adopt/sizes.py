"""Finds a foreign model's layout, channels and frame sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.adopt.foreign import CHANNELS, EXPECTED, LAYOUTS, Array, TensorSpec, pad
from cyclecast.spec import SMALLEST_FRAME

MULTIPLES = (1, 4, 8, 16, 32, 14, 64, 128, 256, 512)  # 14: the patches of vision transformers
PROBES = ((131, 259), (SMALLEST_FRAME, SMALLEST_FRAME))  # (H, W): an odd size, which each multiple pads differently; the smallest

Run = Callable[[Array], Array]  # (1, C, H, W) -> the model's output, in its own layout


@dataclass(frozen=True)
class Finding:
    """A setting of a model, detected or from the user, and the reason for it."""

    what: str
    value: str
    why: str

    def __str__(self) -> str:
        return f"{self.what} {self.value}: {self.why}"


@dataclass(frozen=True)
class OutputSpec:
    """The layout of an output image, and its number of channels."""

    layout: str
    channels: int


def find_layout(input_spec: TensorSpec, override: str | None) -> Finding:
    """Finds the layout: the axis with 3 channels or 1. Raises ConfigError if both layouts fit, ModelError if none does."""
    why = f"its input is {input_spec}" if input_spec.dims else "its input's shape is not in the file"
    fits = list(LAYOUTS)
    if input_spec.dims:
        fits = [name for name in fits if all(d is None or d >= SMALLEST_FRAME for d in _height_and_width(input_spec, name))]
        sure = [name for name in fits if input_spec.dims[LAYOUTS[name]] in CHANNELS]
        fits = sure or [name for name in fits if input_spec.dims[LAYOUTS[name]] is None]
    if not fits or (override and input_spec.dims and input_spec.dims[LAYOUTS[override]] not in (*CHANNELS, None)):
        raise ModelError(f"{why}; {EXPECTED}" + (f", and not {override}" if override and fits else ""))
    if override:
        return Finding("layout", override, "as requested")
    if len(fits) > 1:
        raise ConfigError(f"{why}, which both layouts fit: add --layout nchw or --layout nhwc")
    return Finding("layout", fits[0], why)


def input_channels(input_spec: TensorSpec, layout: str) -> int:
    """Returns the number of channels of the input; 3 if the file does not state it."""
    return (input_spec.dims[LAYOUTS[layout]] if input_spec.dims else None) or 3


def fixed_size(input_spec: TensorSpec, layout: str) -> tuple[int, int] | None:
    """Returns (width, height) of an input with a fixed size, None for any size. Raises ModelError if only one side is fixed."""
    if not input_spec.dims:
        return None
    height, width = _height_and_width(input_spec, layout)
    if height is None and width is None:
        return None
    if height is None or width is None:
        raise ModelError(f"its input is {input_spec}, with only one side free; expected both free or both fixed")
    return width, height


def _height_and_width(input_spec: TensorSpec, layout: str) -> tuple[int | None, ...]:
    return input_spec.dims[2:] if layout == "nchw" else input_spec.dims[1:3]


def multiples_of(size: tuple[int, int]) -> list[int]:
    """Returns the multiples to try for a model that is freed from this size: those that do not pad frames of this size."""
    side = math.gcd(*size)
    return [
        value for value in range(1, min(side, MULTIPLES[-1]) + 1) if side % value == 0 and (value in MULTIPLES or value % 4 == 0)
    ]


def find_multiple(
    run: Run, layout: str, channels: int, override: int | None, multiples: Sequence[int] = MULTIPLES
) -> tuple[OutputSpec, int, Finding]:
    """Runs a model of any size at an odd size and at the smallest. Returns its output, the multiple to pad to, and a finding.

    The multiple is the first of `multiples` with which the output has the input's size. Raises ModelError if there is none.
    """
    problems: list[ModelError] = []
    for multiple in multiples if override is None else (override,):
        try:
            output = [output_spec(run, layout, channels, *probe, multiple) for probe in PROBES][0]
        except ModelError as error:
            problems.append(error)
            if isinstance(error, NoImageOutput):
                break
            continue
        at = " and ".join(f"{width}x{height}" for height, width in PROBES)
        if override is not None:
            return output, multiple, Finding("multiple", str(multiple), "as requested")
        if multiple == 1:
            return output, 1, Finding("size", "any", f"its output has the input's size at {at}")
        return output, multiple, Finding("multiple", str(multiple), f"padded to fewer, {problems[-1]}")
    if override is not None or isinstance(problems[-1], NoImageOutput):
        raise problems[-1]
    tried = ", ".join(map(str, multiples))
    raise ModelError(f"{problems[0]} (sides padded to multiples of {tried}: none works; --multiple N sets another one)")


class NoImageOutput(ModelError):
    """The output is not an image at any size."""


def output_spec(run: Run, layout: str, channels: int, height: int, width: int, multiple: int = 1) -> OutputSpec:
    """Runs the model on a black image. Raises ModelError if it fails, or if its output is not an image of the input's size."""
    x = pad(np.zeros((1, channels, height, width), np.float32), multiple)
    sides, shape = x.shape[2:], run(x).shape
    images = {}
    if len(shape) == 4 and shape[0] == 1:
        images = {name: (shape[2:], shape[1:3])[axis == 3] for name, axis in LAYOUTS.items() if shape[axis] in CHANNELS}
    for name in (layout, *LAYOUTS):
        if images.get(name) == sides:
            return OutputSpec(name, shape[LAYOUTS[name]])
    if not images and len(shape) == 4 and 2 in (shape[1], shape[3]):
        raise NoImageOutput(
            f"its output is {shape}, with 2 channels: not an image, but two of its planes, such as a and b of Lab, which a "
            "program of its own has to combine with the gray input; expected 1 or 3 channels"
        )
    if not images:
        raise NoImageOutput(f"its output is {shape}; {EXPECTED}")
    got = next(iter(images.values()))
    raise ModelError(f"its output is {got[1]}x{got[0]} for an input of {sides[1]}x{sides[0]}; expected the same size")
