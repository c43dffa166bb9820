"""Detects a foreign model's value ranges and color order. Every finding has its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from cyclecast.errors import ConfigError
from cyclecast.export.adopt.affine import first_affine_step, output_bounds
from cyclecast.export.adopt.foreign import COLORS, IMAGENET_MEAN, RANGES, Array, ForeignModel
from cyclecast.export.adopt.sizes import Finding

IMAGENET = np.array(IMAGENET_MEAN)  # mean red, green and blue, which many networks subtract

Evidence = tuple[str, str]  # a value, and the reason for it


def find_color(foreign: ForeignModel, override: str | None) -> Finding:
    """Finds the color order of input and output, RGB or BGR.

    Raises ConfigError if there is no evidence, or if it is contradictory.
    """
    return _decide("color", COLORS, override, color_evidence(foreign))


def color_evidence(foreign: ForeignModel) -> list[Evidence]:
    """Collects evidence of a color order: words in the file, and the order in which the graph subtracts ImageNet's mean."""
    evidence = [(match[1].lower(), source) for source, text in _texts(foreign) for match in re.finditer(COLOR_WORDS, text)]
    zero = _input_mapped_to_zero(foreign)
    if zero is not None and (zero > 0).all():
        share = zero / zero.sum()
        for color, order in (("rgb", IMAGENET), ("bgr", IMAGENET[::-1])):
            if np.allclose(share, order / order.sum(), atol=0.01):
                evidence.append((color, f"its first layers map {_numbers_text(zero)} to 0"))
    return evidence


def find_range(
    foreign: ForeignModel, run_in_range: Callable[[str], Array], override: str | None, output_override: str | None
) -> tuple[Finding, Finding]:
    """Finds the value ranges of input and output.

    run_in_range: returns the model's output for a test image in this range. If the file has no evidence, the test image is run
    in every range: the input's range is the one that the output keeps. Raises ConfigError if none or several do.
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
        return input_range, Finding("output range", bounded, f"its last layers limit it to {limits[0]:.4g}..{limits[1]:.4g}")
    low, high = _percentiles(run_in_range(input_range.value))
    output_range = _range_of(low, high)
    result = f"its output for a test image is in {low:.4g}..{high:.4g} (5th to 95th percentile)"
    is_normalized = input_range.value not in ("0..255", "0..1", "-1..1")
    if output_range and (
        (output_range == "0..255") != (input_range.value == "0..255") or (is_normalized and output_range == "0..1")
    ):
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
    """Yields (source, text) of the texts that people wrote into the file."""
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
    """Returns the input that the first layers map to 0, (3,); None if they are not an affine step."""
    step = first_affine_step(foreign.model.graph, foreign.input.name)
    return None if step is None or not step[0].all() else -step[1] / step[0]


def _evidence_of_first_step(foreign: ForeignModel) -> list[Evidence]:
    """Collects evidence from a first layer a * x + b, which maps the middle or an end of the range to 0, or scales by `a`."""
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
    why = f"its first layers map {_numbers_text(zero)} to 0"
    for name, low, high in (("0..255", 60, 160), ("0..1", 0.3, 0.65), ("-1..1", -1.02, -0.98)):
        if ((zero > low) & (zero < high)).all():
            return [(name, why)]
    return []


def _evidence_of_output(run_in_range: Callable[[str], Array], bounded: str | None) -> list[Evidence]:
    """Collects evidence from outputs: the only range in which the output for a test image stays."""
    if bounded:
        return [(bounded, "assumed to be the same as its output's")]
    kept = []
    for name in RANGES:
        low, high = _percentiles(run_in_range(name))
        if _range_of(low, high) == name:
            kept.append((name, f"its output for a test image is in {low:.4g}..{high:.4g} then (5th to 95th percentile)"))
    return [(name, f"{why}; no other range is kept") for name, why in kept] if len(kept) == 1 else []


def _percentiles(y: Array) -> tuple[float, float]:
    low, high = np.percentile(np.nan_to_num(y.astype(np.float64), posinf=1e9, neginf=-1e9), (5, 95))
    return float(low), float(high)


def _range_of(low: float, high: float) -> str | None:
    """Returns the range that fits values from `low` to `high`, with some tolerance; None if none does."""
    if low > -150 and 100 < high < 450 and high - low > 50:
        return "0..255"
    if -1.6 < low < -0.35 and 0.3 < high < 1.6:
        return "-1..1"
    if -3.2 < low < -1.2 and 1.2 < high < 3.2:
        return "imagenet"
    return "0..1" if -0.15 < low < high < 1.6 and high > 0.4 and high - low > 0.1 else None


def _numbers_text(values: Array) -> str:
    distinct = dict.fromkeys(f"{value:.6g}" for value in values)
    return ", ".join(distinct)
