"""Detects a foreign model's layout, range, color order and size. Every finding has its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.adopt.affine import first_affine_step, output_bounds
from cyclecast.export.adopt.foreign import COLORS, EXPECTED, LAYOUTS, RANGES, Array, ForeignModel, Original, TensorSpec, pad
from cyclecast.spec import SMALLEST_FRAME

MULTIPLES = (1, 4, 8, 16, 32, 64)
PROBES = ((131, 259), (SMALLEST_FRAME, SMALLEST_FRAME))  # (H, W): an odd size, which each multiple pads differently; the smallest
IMAGENET = np.array([0.485, 0.456, 0.406])  # mean red, green and blue, which many networks subtract

Evidence = tuple[str, str]  # a value, and the reason for it


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """Settings from the user; None: detect it. ConfigError for an unknown value."""

    layout: str | None = None
    """nchw or nhwc."""
    range: str | None = None
    """0..255, 0..1 or -1..1: range of the input, and of the output unless another one is detected."""
    output_range: str | None = None
    color: str | None = None
    """bgr or rgb."""
    multiple: int | None = None
    """Sides are padded to multiples of this many pixels."""

    def __post_init__(self) -> None:
        for name, values in (("layout", LAYOUTS), ("range", RANGES), ("output_range", RANGES), ("color", COLORS)):
            value = getattr(self, name)
            if value is not None and value not in values:
                raise ConfigError(f"{name} must be one of {', '.join(values)}, got {value!r}")
        if self.multiple is not None and self.multiple < 1:
            raise ConfigError(f"multiple must be 1 or more, got {self.multiple}")


@dataclass(frozen=True)
class Finding:
    """A setting of a model, detected or from the user, and the reason for it."""

    what: str
    value: str
    why: str

    def __str__(self) -> str:
        return f"{self.what} {self.value}: {self.why}"


def find_layout(foreign: ForeignModel, override: str | None) -> Finding:
    """Finds the layout: the axis with three channels. ConfigError if both layouts fit, ModelError if none does."""
    input_spec = foreign.input
    why = f"its input is {input_spec}" if input_spec.dims else "its input's shape is not in the file"
    fits = list(LAYOUTS)
    if input_spec.dims:
        fits = [
            name for name in fits if all(side is None or side >= SMALLEST_FRAME for side in _height_and_width(input_spec, name))
        ]
        sure = [name for name in fits if input_spec.dims[LAYOUTS[name]] == 3]
        fits = sure or [name for name in fits if input_spec.dims[LAYOUTS[name]] is None]
    if not fits or (override and input_spec.dims and input_spec.dims[LAYOUTS[override]] not in (3, None)):
        raise ModelError(f"{why}; {EXPECTED}" + (f", and not {override}" if override and fits else ""))
    if override:
        return Finding("layout", override, "as requested")
    if len(fits) > 1:
        raise ConfigError(f"{why}, which both layouts fit: add --layout nchw or --layout nhwc")
    return Finding("layout", fits[0], why)


def fixed_size(input_spec: TensorSpec, layout: str) -> tuple[int, int] | None:
    """(width, height) of an input with a fixed size, None for any size. ModelError if only one side is fixed."""
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


def find_multiple(original: Original, size: tuple[int, int] | None, override: int | None) -> tuple[str, int, Finding]:
    """Runs the model at an odd size and at the smallest. Returns the output's layout, the multiple to pad to, and a finding.

    The multiple is the smallest in `MULTIPLES` with which the output has the input's size. ModelError if there is none.
    """
    if size is not None:
        if override is not None:
            raise ConfigError(f"its input is fixed to {size[0]}x{size[1]}: --multiple is for models of any size")
        layout = _output_layout(original, size[1], size[0], 1)
        return layout, 1, Finding("size", f"{size[0]}x{size[1]}", "fixed: frames are stretched to it, and its outputs back")
    problems: list[ModelError] = []
    for multiple in MULTIPLES if override is None else (override,):
        try:
            layout = [_output_layout(original, *probe, multiple) for probe in PROBES][0]
        except ModelError as error:
            problems.append(error)
            continue
        at = " and ".join(f"{width}x{height}" for height, width in PROBES)
        if override is not None:
            return layout, multiple, Finding("multiple", str(multiple), "as requested")
        if multiple == 1:
            return layout, 1, Finding("size", "any", f"its output has the input's size at {at}")
        return layout, multiple, Finding("multiple", str(multiple), f"padded to fewer, {problems[-1]}")
    raise problems[0]


def _output_layout(original: Original, height: int, width: int, multiple: int) -> str:
    x = pad(np.zeros((1, 3, height, width), np.float32), multiple)
    sides, shape = x.shape[2:], original(x).shape
    images = {}
    if len(shape) == 4 and shape[0] == 1:
        images = {name: (shape[2:], shape[1:3])[axis == 3] for name, axis in LAYOUTS.items() if shape[axis] == 3}
    for name in (original.layout, *LAYOUTS):
        if images.get(name) == sides:
            return name
    if not images:
        raise ModelError(f"its output is {shape}; {EXPECTED}")
    got = next(iter(images.values()))
    raise ModelError(f"its output is {got[1]}x{got[0]} for an input of {sides[1]}x{sides[0]}; expected the same size")


def find_color(foreign: ForeignModel, override: str | None) -> Finding:
    """Finds the color order of input and output, RGB or BGR. ConfigError if there is no evidence, or if it is contradictory."""
    return _decide("color", COLORS, override, color_evidence(foreign))


def color_evidence(foreign: ForeignModel) -> list[Evidence]:
    """Evidence for a color order: words in the file, and the order in which the graph subtracts ImageNet's mean color."""
    evidence = [(match[1].lower(), source) for source, text in _texts(foreign) for match in re.finditer(COLOR_WORDS, text)]
    zero = _input_mapped_to_zero(foreign)
    if zero is not None and (zero > 0).all():
        share = zero / zero.sum()
        for color, order in (("rgb", IMAGENET), ("bgr", IMAGENET[::-1])):
            if np.allclose(share, order / order.sum(), atol=0.01):
                evidence.append((color, f"its first layers turn {_numbers_text(zero)} into 0"))
    return evidence


def find_range(
    foreign: ForeignModel, run_in_range: Callable[[str], Array], override: str | None, output_override: str | None
) -> tuple[Finding, Finding]:
    """Finds the value ranges of input and output.

    run_in_range: returns the model's output for a test image in this range. If the file has no evidence, the test image is run
    in every range: the input's range is the one that the output keeps. ConfigError if none or several do.
    """
    limits = output_bounds(foreign.model.graph, foreign.output.name)
    bounded = None if limits is None else _range_of(*limits)
    evidence = [(value, source) for source, text in _texts(foreign) for value in _range_words(text)]
    if foreign.input.dtype == np.uint8:
        evidence.append(("0..255", "its input is uint8"))
    elif re.search(r"_255(?!\d)", foreign.input.name):
        evidence.append(("0..255", f"its input is named {foreign.input.name}"))
    evidence += _evidence_of_first_step(foreign)
    if not override and not evidence and foreign.output.dtype != np.uint8:
        evidence = _evidence_of_output(run_in_range, bounded)
    input_range = _decide("range", tuple(RANGES), override, evidence)
    if output_override:
        return input_range, Finding("output range", output_override, "as requested")
    if foreign.output.dtype == np.uint8:
        return input_range, Finding("output range", "0..255", "its output is uint8")
    if bounded and limits is not None:
        return input_range, Finding("output range", bounded, f"its last layers hold it in {limits[0]:.4g}..{limits[1]:.4g}")
    low, high = _percentiles(run_in_range(input_range.value))
    output_range = _range_of(low, high)
    result = f"a test image comes back in {low:.4g}..{high:.4g} (5th to 95th percentile)"
    if output_range and (output_range == "0..255") != (input_range.value == "0..255"):
        return input_range, Finding("output range", output_range, result)
    return input_range, Finding("output range", input_range.value, f"as its input; {result}")


def _decide(what: str, values: tuple[str, ...], override: str | None, evidence: list[Evidence]) -> Finding:
    found = {value: why for value, why in reversed(evidence)}
    if override:
        against = [why for value, why in found.items() if value != override]
        return Finding(what, override, f"as requested, although {against[0]}" if against else "as requested")
    if len(found) == 1:
        return Finding(what, *found.popitem())
    options = " or ".join(f"--{what} {value}" for value in values)
    if found:
        reasons = "; ".join(f"{value}: {why}" for value, why in found.items())
        raise ConfigError(f"its {what} has contradictory evidence ({reasons}): add {options}")
    raise ConfigError(f"its {what} cannot be detected: add {options}")


COLOR_WORDS = re.compile(r"(?i)(?<![a-z])(rgb|bgr)(?![a-z])")
RANGE_WORDS = re.compile(
    r"[\[(](-1|0)(?:\.0)?, ?(255|1)(?:\.0)?[\])]|(?<![\d.])(-1|0)(?:\.0)? ?(?:\.\.|to|-) ?(255|1)(?:\.0)?(?![\d.])"
)


def _texts(foreign: ForeignModel) -> Iterator[tuple[str, str]]:
    """Texts that people wrote into the file: (source, text)."""
    graph = foreign.model.graph
    for entry in foreign.model.metadata_props:
        yield f"its metadata say {entry.key} {entry.value}"[:120], f"{entry.key} {entry.value}"
    for port in (*graph.input, *graph.output):
        if port.name in (foreign.input.name, foreign.output.name):
            name = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", port.name)
            yield f"its tensor is named {port.name}", name
            yield f"its description of {port.name}: {port.doc_string}"[:120], port.doc_string


def _range_words(text: str) -> Iterator[str]:
    nominal = {"nominalrange_0_255": "0..255", "normalized_0_1": "0..1", "normalized_1_1": "-1..1"}
    key, _, value = text.partition(" ")
    if key.lower() == "image.nominalpixelrange" and value.lower() in nominal:
        yield nominal[value.lower()]
    for words in re.findall(RANGE_WORDS, text):
        name = "..".join(filter(None, words))
        if name in RANGES:
            yield name


def _input_mapped_to_zero(foreign: ForeignModel) -> Array | None:
    """The input value of each channel that the first layers map to 0, (3,)."""
    step = first_affine_step(foreign.model.graph, foreign.input.name)
    return None if step is None or not step[0].all() else -step[1] / step[0]


def _evidence_of_first_step(foreign: ForeignModel) -> list[Evidence]:
    """Evidence from a first layer a * x + b: it maps the middle or an end of the range to 0, or `a` is the range's scale."""
    step, zero = first_affine_step(foreign.model.graph, foreign.input.name), _input_mapped_to_zero(foreign)
    if step is None or zero is None:
        return []
    if (zero == 0).all():
        scale = np.abs(step[0])
        if ((scale > 0.003) & (scale < 0.03)).all():
            return [("0..255", f"its first layer divides by {_numbers_text(1 / scale)}")]
        return (
            [("0..1", f"its first layer multiplies by {_numbers_text(scale)}")] if ((scale > 200) & (scale < 300)).all() else []
        )
    why = f"its first layers turn {_numbers_text(zero)} into 0"
    for name, low, high in (("0..255", 60, 160), ("0..1", 0.3, 0.65), ("-1..1", -1.02, -0.98)):
        if ((zero > low) & (zero < high)).all():
            return [(name, why)]
    return []


def _evidence_of_output(run_in_range: Callable[[str], Array], bounded: str | None) -> list[Evidence]:
    """Evidence from the outputs: the range in which a test image's output stays, if there is exactly one."""
    if bounded:
        return [(bounded, "assumed to be the same as its output's")]
    kept = []
    for name in RANGES:
        low, high = _percentiles(run_in_range(name))
        if _range_of(low, high) == name:
            kept.append((name, f"input in this range, a test image comes back in {low:.4g}..{high:.4g} (5th to 95th percentile)"))
    return [(name, f"{why}; no other range comes back") for name, why in kept] if len(kept) == 1 else []


def _percentiles(y: Array) -> tuple[float, float]:
    low, high = np.percentile(np.nan_to_num(y.astype(np.float64), posinf=1e9, neginf=-1e9), (5, 95))
    return float(low), float(high)


def _range_of(low: float, high: float) -> str | None:
    """The range that fits values from `low` to `high`, with some tolerance; None if it is ambiguous."""
    if low > -150 and 100 < high < 450 and high - low > 50:
        return "0..255"
    if -1.6 < low < -0.35 and 0.3 < high < 1.6:
        return "-1..1"
    return "0..1" if -0.15 < low < high < 1.6 and high > 0.4 and high - low > 0.1 else None


def _numbers_text(values: Array) -> str:
    distinct = dict.fromkeys(f"{value:.6g}" for value in values)
    return ", ".join(distinct)
