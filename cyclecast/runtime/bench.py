"""Times a model on each engine and precision, from frame in to frame out, without the warm-up."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from cyclecast.errors import ConfigError, EngineError, EngineUnavailable, ModelError
from cyclecast.future import Future
from cyclecast.runtime.engine import IN_FLIGHT, Engine, Image, OnBuild, UnreadableModel, check_frame
from cyclecast.runtime.engines import ENGINES, Opener, open_engine
from cyclecast.runtime.machine import machine_name
from cyclecast.runtime.model import find_model
from cyclecast.runtime.plan import engine_of_plan
from cyclecast.runtime.threads import ThreadsRefused

log = logging.getLogger(__name__)

OnMessage = Callable[[str], None]


@dataclass(frozen=True)
class Percentiles:
    """Percentiles in milliseconds, interpolated between two frames."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Row:
    """One engine in one precision."""

    engine: str
    device: str
    precision: str
    ms: Percentiles
    fps: float
    """Frames per second over the whole measurement, with two frames in flight, as in a conversion."""
    psnr_db: float
    """PSNR against the same engine in fp32 on the same frames, or, if it has no fp32, against the first engine on the CPU that
    has. All use the weights in the file, so an fp16 model is compared with its rounded weights. Infinite if the outputs are
    equal, as for fp32 itself; NaN if no engine computes the model in fp32, as for a plan of another precision."""


@dataclass(frozen=True)
class FailedRow:
    """One engine in one precision that failed, and why."""

    engine: str
    precision: str
    error: str


@dataclass(frozen=True)
class Bench:
    """The timings of a model on this machine."""

    machine: str
    model: str
    size: str
    """WIDTHxHEIGHT of the frames."""
    frames: int
    """Frames timed for each row."""
    rows: list[Row]
    failed: list[FailedRow] = field(default_factory=list)
    """The engines and precisions that could not run it."""


def measure_engines(
    model: str | Path,
    frames: Sequence[Image],
    engines: Sequence[str] = (),
    device: str = "auto",
    count: int = 50,
    on_message: OnMessage | None = None,
    on_build: OnBuild | None = None,
    opener: Opener = open_engine,
    threads: int | None = None,
) -> Bench:
    """Times `count` frames through `model` on each engine, in its `auto` precision, int8, bf16 and fp32.

    model: a bundled name or a path. frames: (H, W, 3) uint8 BGR, all of one size; each runs once to warm up, then they repeat in
    turn. engines: keys of `ENGINES` or "auto"; none: all engines of this machine, or a plan's own. device: as in `load`.
    on_message: called with a line before each row, and with one for each engine left out. on_build: see `Engine`. opener: opens
    the engines; `cyclecast.open_engine` knows torch too. threads: as in `open_engine`; engines on a GPU are then left out.

    An engine that fails is left out, and `failed` records why. Raises ModelError (not a frame model), EngineError (the model
    cannot take such frames, or every engine fails), EngineUnavailable (a requested engine is missing, or all are),
    and ConfigError (no frames, frames of several sizes, an unknown engine, threads for a requested engine on a GPU).
    """
    on_message = on_message or (lambda line: None)
    path = find_model(model)
    if len({frame.shape for frame in frames}) != 1 or count < 1:
        raise ConfigError("expected frames of one size, and a count of at least one")
    height, width = frames[0].shape[:2]
    rows: list[Row] = []
    failed: list[FailedRow] = []

    def leave_out(name: str, precision: str, error: EngineError | ModelError) -> None:
        log.debug("%s %s failed", name, precision, exc_info=error)
        on_message(f"left out: {name} {precision}: {error}")
        failed.append(FailedRow(name, precision, str(error)))

    def open_engine_of(name: str, precision: str) -> Engine:
        return opener(path, name, device, precision, threads)

    for name, precisions in _available_engines(path, frames[0], engines, on_message, open_engine_of, leave_out).items():
        timed = {}
        for precision in precisions:
            on_message(f"{name} {precision}: {len(frames)} frames to warm up, {count} timed")
            try:
                with closing(open_engine_of(name, precision)) as engine:
                    engine.on_build = on_build
                    engine.prepare(width, height)
                    outputs = [engine.run(frame) for frame in frames]
                    ms = percentiles(times_ms(engine.run, frames, count))
                    timed[precision] = (engine.device, ms, frames_per_second(engine.submit, frames, count), outputs)
            except EngineError as error:
                leave_out(name, precision, error)
        fp32_outputs = timed["fp32"][3] if "fp32" in timed else _in_fp32(path, frames) if timed else []
        for precision, (device_name, ms, fps, outputs) in timed.items():
            rows.append(Row(name, device_name, precision, ms, fps, psnr_db(fp32_outputs, outputs)))
    if not rows:
        reasons = "; ".join(f"{row.engine} {row.precision}: {row.error}" for row in failed)
        raise EngineError(f"no engine can run it here: {reasons}")
    return Bench(machine_name(), path.stem, f"{width}x{height}", count, rows, failed)


def times_ms(run: Callable[[Image], object], frames: Sequence[Image], count: int) -> list[float]:
    """Measures the milliseconds of each of `count` calls of `run`, with the frames in turn."""
    times = []
    for frame in islice(cycle(frames), count):
        started = time.perf_counter()
        run(frame)
        times.append(1000 * (time.perf_counter() - started))
    return times


def median_ms(run: Callable[[Image], object], frames: Sequence[Image], limit: float = 2.0) -> float:
    """Measures the median milliseconds of `run`: each frame once to warm up, then up to ten calls, within `limit` seconds."""
    warm = min(times_ms(run, frames, len(frames)))
    return percentiles(times_ms(run, frames, max(1, min(10, int(1000 * limit / warm))))).p50


def frames_per_second(submit: Callable[[Image], Future[Image]], frames: Sequence[Image], count: int) -> float:
    """Measures the frames per second of `count` frames, taken in turn, with `IN_FLIGHT` of them in flight."""
    in_flight: deque[Future[Image]] = deque()
    started = time.perf_counter()
    for frame in islice(cycle(frames), count):
        in_flight.append(submit(frame))
        if len(in_flight) == IN_FLIGHT:
            in_flight.popleft().result()
    while in_flight:
        in_flight.popleft().result()
    return count / (time.perf_counter() - started)


def percentiles(times: Sequence[float]) -> Percentiles:
    """Computes the percentiles of one or more times, in milliseconds."""
    return Percentiles(*(float(value) for value in np.percentile(times, (50, 95, 99))))


def psnr_db(expected: Sequence[Image], got: Sequence[Image]) -> float:
    """Computes the PSNR in decibels over all pairs of uint8 images of equal shape; infinite if all are equal, NaN without any."""
    if not expected:
        return math.nan
    squares = [np.square(one.astype(np.float32) - other).mean(dtype=np.float64) for one, other in zip(expected, got, strict=True)]
    return decibels(float(np.mean(squares)))


def decibels(mean_square: float) -> float:
    """Converts a mean square difference in gray levels to a PSNR in decibels; infinite for 0."""
    return 10.0 * math.log10(255.0**2 / mean_square) if mean_square else math.inf


def _available_engines(
    path: Path,
    frame: Image,
    names: Sequence[str],
    on_message: OnMessage,
    open_engine_of: Callable[[str, str], Engine],
    leave_out: Callable[[str, str, UnreadableModel], None],
) -> dict[str, list[str]]:
    """Maps each engine to its precisions, fp32 last. Opens each once, before any is timed, and checks that it accepts the frame.

    open_engine_of: opens an engine in a precision. leave_out: called with an engine whose library cannot read the file, "auto"
    and the error.
    """
    found: dict[str, list[str]] = {}
    reasons: list[str] = []
    unreadable: list[UnreadableModel] = []
    own = engine_of_plan(path)
    for name in names or ([own] if own else ENGINES):
        try:
            with closing(open_engine_of(name, "auto")) as engine:
                check_frame(frame, engine.size)
                found[engine.name] = _precisions(engine, open_engine_of)
        except (EngineUnavailable, ThreadsRefused) as error:
            if names:
                raise
            reasons.append(str(error))
            on_message(f"left out: {error}")
        except UnreadableModel as error:
            unreadable.append(error)
            leave_out(name, "auto", error)
    if not found and unreadable:
        raise unreadable[0]
    if not found:
        raise EngineUnavailable("no engine can run it here: " + "; ".join(reasons))
    return found


def _precisions(engine: Engine, open_engine_of: Callable[[str, str], Engine]) -> list[str]:
    """Returns the precision that `auto` chose, then int8, bf16 and fp32 if the engine computes those too."""
    found = [engine.precision]
    for precision in ("int8", "bf16", "fp32"):
        if precision == engine.precision:
            continue
        try:
            open_engine_of(engine.name, precision).close()
        except EngineUnavailable as error:
            log.debug("no %s: %s", precision, error)
        else:
            found.append(precision)
    return sorted(found, key="fp32".__eq__)


def _in_fp32(path: Path, frames: Sequence[Image]) -> list[Image]:
    """Runs the frames through the first engine that computes the model in fp32 on the CPU; an empty list if there is none."""
    try:
        with closing(open_engine(path, "auto", "cpu", "fp32")) as engine:
            return [engine.run(frame) for frame in frames]
    except (EngineError, UnreadableModel) as error:
        log.debug("nothing computes fp32: %s", error)
        return []
