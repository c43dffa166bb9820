"""Line charts as HTML: SVG draws the lines, HTML text the labels, so that these keep their size on a phone.

Pointing at a chart shows the values of a step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

BUCKETS = 400  # of a line, which keeps the lowest and the highest value of each: about two points per pixel
MIN_SMOOTHED_POINTS = 30  # shorter lines are not smoothed; each of their points is a dot
COLORS = 6  # in chart.css; the next lines repeat them, dashed
MAX_VALUE = 1e150  # differences of larger values overflow

Values = NDArray[np.float64]


class Line(NamedTuple):
    """One series, sorted by step; on a log scale `raw` and `main` hold log10 of the values."""

    name: str
    steps: Values
    raw: Values
    main: Values  # `raw`, smoothed if it is long enough
    left_out: int  # number of values that no axis can show


class Axis(NamedTuple):
    """The range of an axis, and the values and labels of its ticks."""

    low: float
    high: float
    ticks: list[tuple[float, str]]

    def position(self, values: Values) -> Values:
        """Returns the positions of values on the axis: 0 at the low end, 1 at the high end."""
        return (values - self.low) / (self.high - self.low)

    def tick_positions(self) -> list[float]:
        """Returns the position of each tick."""
        return [float(position) for position in self.position(np.array([value for value, _ in self.ticks]))]


def format_number(value: object, digits: int = 4) -> str:
    """Formats a value for people: integers in full, other numbers to `digits` significant digits, NaN as a dash."""
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
    """Builds the line of a series from the values that can be drawn. Raises ValueError if steps and values differ in number."""
    x, y = np.asarray(steps, np.float64).ravel(), np.asarray(values, np.float64).ravel()
    if x.size != y.size:
        raise ValueError(f"{name}: {x.size} steps for {y.size} values; expected one for each")
    kept = (np.abs(x) < MAX_VALUE) & (np.abs(y) < MAX_VALUE) & ((y > 0) | (not log))
    order = np.argsort(x[kept], kind="stable")
    x, raw = x[kept][order], y[kept][order]
    if log:
        raw = np.log10(raw)
    smooth = smooth and x.size >= MIN_SMOOTHED_POINTS and bool(np.ptp(raw) > 0)
    return Line(name, x, raw, smooth_values(raw) if smooth else raw, y.size - x.size)


def smooth_values(values: Values) -> Values:
    """Returns averages over a triangular window of a twentieth of the series; at both ends, the window is cut off."""
    count = values.size
    half = max(1, count // 80)
    first = np.maximum(np.arange(count) - half, 0)
    last = np.minimum(np.arange(count) + half + 1, count)
    for _ in range(2):  # two passes of a box make a triangle
        total = np.concatenate([[0.0], np.cumsum(values)])
        values = (total[last] - total[first]) / (last - first)
    return values


def thin_points(steps: Values, values: Values, buckets: int = BUCKETS) -> tuple[Values, Values]:
    """Returns the first and last point, and the lowest and highest of each bucket, in order: the line looks the same."""
    if steps.size <= 2 * buckets:
        return steps, values
    edges = np.linspace(0, steps.size, buckets + 1).astype(int)
    chosen = {0, steps.size - 1}
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        chosen |= {start + int(values[start:end].argmin()), start + int(values[start:end].argmax())}
    index = np.array(sorted(chosen))
    return steps[index], values[index]


def linear_ticks(low: float, high: float, max_intervals: int = 6, whole: bool = False) -> list[tuple[float, str]]:
    """Divides the range into at most `max_intervals`; returns round values, each with its label. whole: integers only."""
    rough = (high - low) / max_intervals
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
    """Returns the log10 of round values between 10^low and 10^high, each with the label of the value."""
    powers = range(math.ceil(low), math.floor(high) + 1)
    if len(powers) >= 3:
        return [(float(power), format_number(10.0**power)) for power in powers[:: math.ceil(len(powers) / 6)]]
    factors = [factor * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for factor in (1, 2, 5)]
    marks = [(math.log10(value), format_number(value)) for value in factors if low <= math.log10(value) <= high]
    if len(marks) >= 3:
        return marks
    return [(math.log10(value), label) for value, label in linear_ticks(10.0**low, 10.0**high, 4) if value > 0]


def step_axis(steps: Values) -> Axis:
    """Returns the axis from the first step to the last; it starts at 0 if the first step is close to 0."""
    low, high = _widen_if_equal(float(steps.min()), float(steps.max()))
    low = 0.0 if 0 < low <= high / 50 else low
    return Axis(low, high, linear_ticks(low, high, 5, whole=bool((steps == steps.round()).all())))


def value_axis(values: Values, log: bool) -> Axis:
    """Returns an axis with every value and some room around them; it starts at 0 if 0 is not far below the values."""
    lowest = float(values.min())
    low, high = _widen_if_equal(lowest, float(values.max()))
    room = 0.04 * (high - low)
    low = 0.0 if not log and 0 <= lowest <= high / 2 else low - room
    high += room
    return Axis(low, high, log_ticks(low, high) if log else linear_ticks(low, high, 5))


def _widen_if_equal(low: float, high: float) -> tuple[float, float]:
    """Returns both ends, moved apart if they are equal up to rounding, so that an axis has a length."""
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    margin = 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def line_chart(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    caption: str = "",
    log: bool = False,
    smooth: bool = True,
    x: str = "step",
    unit: str = "",
) -> str:
    """Returns the HTML of a figure with one line for each name: (steps, values). The page needs chart.css and chart.js.

    Values that are not finite or, with `log`, not above 0 are left out and counted. smooth: draws a moving average of long
    series, with the values faint behind it. x: name of the horizontal axis. unit: unit of the values.
    """
    lines = [make_line(name, steps, values, log, smooth) for name, (steps, values) in series.items()]
    drawn = [line for line in lines if line.steps.size]
    left_out = sum(line.left_out for line in lines)
    notes = [escape(caption)] if caption else []
    notes += ["Thick lines are smoothed, faint lines are not."] if any(line.main is not line.raw for line in drawn) else []
    notes += ["Log scale."] if log and drawn else []
    notes += [f"{left_out} left out: not a number{' above 0' if log else ''}."] if left_out else []
    below = f"<figcaption>{' '.join(notes)}</figcaption>" if notes else ""
    if not drawn:
        return f'<figure class="chart"><p class="empty">No values to draw.</p>{below}</figure>'
    x_axis = step_axis(np.concatenate([line.steps for line in drawn]))
    y_axis = value_axis(np.concatenate([line.raw for line in drawn]), log)
    bounds = " ".join(f"{end!r}" for end in (x_axis.low, x_axis.high, y_axis.low, y_axis.high))
    label = escape(caption or ", ".join(line.name for line in drawn))
    grid = "".join(f"M0,{1000 - 1000 * position:.1f}h1000" for position in y_axis.tick_positions())
    unit_label = f'<span class="unit">{escape(unit)}</span>' if unit else ""
    return (
        f'<figure class="chart" data-bounds="{bounds}" data-log="{int(log)}" data-x="{escape(x)}">'
        f'<div class="legend">{"".join(_legend_button(index, line, log) for index, line in enumerate(drawn))}'
        f'<span class="at">at the end</span></div><div class="frame">{unit_label}<div class="plot">'
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="{label}"><path class="grid" d="{grid}"/>'
        f"{''.join(_faint_group(index, line, x_axis, y_axis) for index, line in enumerate(drawn))}"
        f"{''.join(_main_group(index, line, x_axis, y_axis) for index, line in enumerate(drawn))}</svg>"
        f"{_tick_labels(y_axis, 'y', 'bottom')}{_tick_labels(x_axis, 'x', 'left')}"
        f'<div class="cursor" hidden></div></div><span class="x-name">{escape(x)}</span></div>{below}</figure>'
    )


def _tick_labels(axis: Axis, css_class: str, css_property: str) -> str:
    """Returns the labels of an axis as HTML; `css_property` places each: `left` or `bottom`."""
    return "".join(
        f'<span class="{css_class}" style="{css_property}:{100 * position:.2f}%">{text}</span>'
        for position, (_, text) in zip(axis.tick_positions(), axis.ticks, strict=True)
    )


def _color_class(index: int) -> str:
    """Returns the CSS classes of the color and the dashes of line `index`."""
    return f"c{index % COLORS}{' dashed' if index // COLORS % 2 else ''}"


def _legend_button(index: int, line: Line, log: bool) -> str:
    """Returns a button that hides its line; chart.js reads from it the values to show at the pointer."""
    steps, values = thin_points(line.steps, line.main, BUCKETS // 2)
    texts = [format_number(value) for value in (10.0**values if log else values)]
    points = f'data-steps="{" ".join(f"{step:.9g}" for step in steps)}" data-values="{" ".join(texts)}"'
    name = f'<i></i><span>{escape(line.name)}</span><output class="value">{texts[-1]}</output>'
    return f'<button type="button" class="{_color_class(index)}" aria-pressed="true" {points}>{name}</button>'


def _faint_group(index: int, line: Line, x_axis: Axis, y_axis: Axis) -> str:
    """Returns the values of a line that `_main_group` draws smoothed; an empty group for other lines."""
    path = f'<path class="faint" d="{_path(line.steps, line.raw, x_axis, y_axis)}"/>' if line.main is not line.raw else ""
    return f'<g class="{_color_class(index)}">{path}</g>'


def _main_group(index: int, line: Line, x_axis: Axis, y_axis: Axis) -> str:
    """Returns a line, with a dot at each point of a short one."""
    is_short = line.raw.size < MIN_SMOOTHED_POINTS
    dots = f'<path class="dots" d="{_path(line.steps, line.raw, x_axis, y_axis, dots=True)}"/>' if is_short else ""
    return f'<g class="{_color_class(index)}"><path d="{_path(line.steps, line.main, x_axis, y_axis)}"/>{dots}</g>'


def _path(steps: Values, values: Values, x_axis: Axis, y_axis: Axis, dots: bool = False) -> str:
    """Returns the data of an SVG path: a line through the points or, with `dots`, each point by itself."""
    steps, values = thin_points(steps, values)
    points: Sequence[str] = [
        f"{x:.1f},{y:.1f}" for x, y in zip(1000 * x_axis.position(steps), 1000 - 1000 * y_axis.position(values), strict=True)
    ]
    return "".join(f"M{point}h0" for point in points) if dots else "M" + " ".join(points)
