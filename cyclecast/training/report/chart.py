"""A line chart as HTML: inline SVG for the lines, text that keeps its size on a phone, values read by pointing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

BUCKETS = 400  # a line keeps the lowest and the highest value of each: about two points a pixel
SMOOTHED_FROM = 30  # points; fewer are each drawn as a dot, where they are
COLORS = 6  # of the style below; later lines take them again, dashed
LARGEST = 1e150  # differences of larger values overflow

Values = NDArray[np.float64]


class Line(NamedTuple):
    """One series as drawn, by rising step; on a log scale `raw` and `main` hold log10 of the values."""

    name: str
    steps: Values
    raw: Values
    main: Values  # `raw`, smoothed where there is enough of it
    left_out: int  # values that no axis can show


class Axis(NamedTuple):
    low: float
    high: float
    ticks: list[tuple[float, str]]  # where, what it says

    def place(self, values: Values) -> Values:
        """0 at the low end, 1 at the high end."""
        return (values - self.low) / (self.high - self.low)


def number(value: object, digits: int = 4) -> str:
    """A value as a person writes it: whole numbers in full, others to `digits` significant digits, no number as a dash."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, Integral) or not isinstance(value, Real):
        return str(value)
    real = float(value)
    if not math.isfinite(real):
        return "–" if math.isnan(real) else "∞" if real > 0 else "-∞"
    if real and not 1e-4 <= abs(real) < 1e7:
        mantissa, exponent = f"{real:.{digits - 1}e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(real)))) if real else 0
    text = f"{real:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def make_line(name: str, steps: ArrayLike, values: ArrayLike, log: bool, smooth: bool) -> Line:
    """What can be drawn of a series. ValueError if steps and values are not equally many."""
    x, y = np.asarray(steps, np.float64).ravel(), np.asarray(values, np.float64).ravel()
    if x.size != y.size:
        raise ValueError(f"{name}: {x.size} steps for {y.size} values; expected one for each")
    kept = (np.abs(x) < LARGEST) & (np.abs(y) < LARGEST) & ((y > 0) | (not log))
    order = np.argsort(x[kept], kind="stable")
    x, raw = x[kept][order], y[kept][order]
    if log:
        raw = np.log10(raw)
    smooth = smooth and x.size >= SMOOTHED_FROM and bool(np.ptp(raw) > 0)
    return Line(name, x, raw, smoothed(raw) if smooth else raw, y.size - x.size)


def smoothed(values: Values) -> Values:
    """Averages over about a twentieth of the series, nearer values counting more; at both ends over what there is."""
    count = values.size
    half = max(1, count // 80)
    first = np.maximum(np.arange(count) - half, 0)
    last = np.minimum(np.arange(count) + half + 1, count)
    for _ in range(2):  # a box over a box: a triangle
        total = np.concatenate([[0.0], np.cumsum(values)])
        values = (total[last] - total[first]) / (last - first)
    return values


def thinned(steps: Values, values: Values, buckets: int = BUCKETS) -> tuple[Values, Values]:
    """The first, the last, and the lowest and highest of each bucket, in order: the line looks the same."""
    if steps.size <= 2 * buckets:
        return steps, values
    edges = np.linspace(0, steps.size, buckets + 1).astype(int)
    chosen = {0, steps.size - 1}
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        chosen |= {start + int(values[start:end].argmin()), start + int(values[start:end].argmax())}
    index = np.array(sorted(chosen))
    return steps[index], values[index]


def ticks(low: float, high: float, most: int = 6, whole: bool = False) -> list[tuple[float, str]]:
    """Round values between low and high, each with its label."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    step = max(step, 1.0) if whole else step
    values = [index * step for index in range(math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6) + 1)]
    largest = max((abs(value) for value in values), default=0.0)
    exponent = math.floor(math.log10(largest) + 1e-9) if largest else 0
    unit, suffix = 1.0, ""
    if largest and not -3 <= exponent < 9:
        unit, suffix = 10.0**exponent, f"e{exponent}"
    elif exponent >= 5:
        unit, suffix = (1e6, "M") if exponent >= 6 else (1e3, "k")
    decimals = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    return [(value, f"{value / unit:.{decimals}f}{suffix}" if value else "0") for value in values]


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round values between 10^low and 10^high, placed at their log10."""
    powers = range(math.ceil(low), math.floor(high) + 1)
    if len(powers) >= 3:
        return [(float(power), number(10.0**power)) for power in powers[:: math.ceil(len(powers) / 6)]]
    factors = [factor * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for factor in (1, 2, 5)]
    marks = [(math.log10(value), number(value)) for value in factors if low <= math.log10(value) <= high]
    if len(marks) >= 3:
        return marks
    return [(math.log10(value), label) for value, label in ticks(10.0**low, 10.0**high, 4) if value > 0]


def step_axis(steps: Values) -> Axis:
    """From the first step to the last; from 0 where the first is next to it."""
    low, high = _apart(float(steps.min()), float(steps.max()))
    low = 0.0 if 0 < low <= high / 50 else low
    return Axis(low, high, ticks(low, high, 5, whole=bool((steps == steps.round()).all())))


def value_axis(values: Values, log: bool) -> Axis:
    """Shows every value, with some room; from 0 where that is not far below."""
    lowest = float(values.min())
    low, high = _apart(lowest, float(values.max()))
    room = 0.04 * (high - low)
    low = 0.0 if not log and 0 <= lowest <= high / 2 else low - room
    high += room
    return Axis(low, high, log_ticks(low, high) if log else ticks(low, high, 5))


def _apart(low: float, high: float) -> tuple[float, float]:
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    margin = 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def chart(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    caption: str = "",
    log: bool = False,
    smooth: bool = True,
    x: str = "step",
    unit: str = "",
) -> str:
    """One figure with a line for each name: (steps, values). Values that are not finite, or not above 0 with `log`, are left out.

    smooth: draws long series as an average over the faint values. x: what a step is called. unit: of the values.
    Its page needs chart.css and chart.js.
    """
    lines = [make_line(name, steps, values, log, smooth) for name, (steps, values) in series.items()]
    shown = [line for line in lines if line.steps.size]
    left_out = sum(line.left_out for line in lines)
    notes = [escape(caption)] if caption else []
    notes += ["Averaged; the single values are faint behind."] if any(line.main is not line.raw for line in shown) else []
    notes += ["Log scale."] if log and shown else []
    notes += [f"{left_out} left out: not a number{' above 0' if log else ''}."] if left_out else []
    below = f"<figcaption>{' '.join(notes)}</figcaption>" if notes else ""
    if not shown:
        return f'<figure class="chart"><p class="empty">No values to draw.</p>{below}</figure>'
    across = step_axis(np.concatenate([line.steps for line in shown]))
    up = value_axis(np.concatenate([line.raw for line in shown]), log)
    bounds = " ".join(f"{end!r}" for end in (across.low, across.high, up.low, up.high))
    label = escape(caption or ", ".join(line.name for line in shown))
    grid = "".join(f"M0,{1000 - 1000 * at:.1f}h1000" for at in _places(up))
    left = "".join(
        f'<span class="y" style="bottom:{100 * at:.2f}%">{text}</span>'
        for at, (_, text) in zip(_places(up), up.ticks, strict=True)
    )
    under = "".join(
        f'<span class="x" style="left:{100 * at:.2f}%">{text}</span>'
        for at, (_, text) in zip(_places(across), across.ticks, strict=True)
    )
    unit_label = f'<span class="unit">{escape(unit)}</span>' if unit else ""
    return (
        f'<figure class="chart" data-bounds="{bounds}" data-log="{int(log)}" data-x="{escape(x)}">'
        f'<div class="legend">{"".join(_legend(index, line, log) for index, line in enumerate(shown))}'
        f'<span class="at">at the end</span></div><div class="frame">{unit_label}<div class="plot">'
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="{label}"><path class="grid" d="{grid}"/>'
        f"{''.join(_faint(index, line, across, up) for index, line in enumerate(shown))}"
        f"{''.join(_main(index, line, across, up) for index, line in enumerate(shown))}</svg>"
        f'{left}{under}<div class="cursor" hidden></div></div><span class="x-name">{escape(x)}</span></div>{below}</figure>'
    )


def _places(axis: Axis) -> list[float]:
    return [float(at) for at in axis.place(np.array([value for value, _ in axis.ticks]))]


def _kind(index: int) -> str:
    return f"c{index % COLORS}{' dashed' if index // COLORS % 2 else ''}"


def _legend(index: int, line: Line, log: bool) -> str:
    """A button that hides its line; it holds the points that pointing reads."""
    steps, values = thinned(line.steps, line.main, BUCKETS // 2)
    said = [number(value) for value in (10.0**values if log else values)]
    points = f'data-steps="{" ".join(f"{step:.9g}" for step in steps)}" data-values="{" ".join(said)}"'
    name = f'<i></i><span>{escape(line.name)}</span><output class="value">{said[-1]}</output>'
    return f'<button type="button" class="{_kind(index)}" aria-pressed="true" {points}>{name}</button>'


def _faint(index: int, line: Line, across: Axis, up: Axis) -> str:
    """The single values, where `_main` draws an average."""
    path = f'<path class="faint" d="{_path(line.steps, line.raw, across, up)}"/>' if line.main is not line.raw else ""
    return f'<g class="{_kind(index)}">{path}</g>'


def _main(index: int, line: Line, across: Axis, up: Axis) -> str:
    dots = f'<path class="dots" d="{_path(line.steps, line.raw, across, up, True)}"/>' if line.raw.size < SMOOTHED_FROM else ""
    return f'<g class="{_kind(index)}"><path d="{_path(line.steps, line.main, across, up)}"/>{dots}</g>'


def _path(steps: Values, values: Values, across: Axis, up: Axis, dots: bool = False) -> str:
    steps, values = thinned(steps, values)
    points: Sequence[str] = [
        f"{x:.1f},{y:.1f}" for x, y in zip(1000 * across.place(steps), 1000 - 1000 * up.place(values), strict=True)
    ]
    return "".join(f"M{point}h0" for point in points) if dots else "M" + " ".join(points)
