"""How long a frame takes, frame in to frame out, by engine and precision; the warm-up is left out."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from cyclecast.errors import ConfigError, EngineUnavailable
from cyclecast.future import Future
from cyclecast.runtime.engine import IN_FLIGHT, Engine, Image, OnBuild, check_frame
from cyclecast.runtime.engines import ENGINES, Opener, open_engine
from cyclecast.runtime.machine import machine_name
from cyclecast.runtime.model import find_model
from cyclecast.runtime.plan import engine_of_plan

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds that half, 95 and 99 of a hundred frames stay within; between two frames, interpolated."""

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
    """Frames over the time of all of them, two under way, as a conversion keeps them; the slow ones count."""
    psnr_db: float
    """Against fp32 on the same frames: this engine's; where it has none, that of the first engine that runs on the CPU.
    The weights are the file's own, so an fp16 model is held against its rounded weights. Infinite where they are equal, as
    fp32 is to itself; NaN where nothing here computes fp32: of a plan in another precision nothing does."""


@dataclass(frozen=True)
class Bench:
    """What a model takes on this machine."""

    machine: str
    model: str
    size: str
    """WIDTHxHEIGHT of the frames."""
    frames: int
    """Timed, for each row."""
    rows: list[Row]


def measure_engines(
    model: str | Path,
    frames: Sequence[Image],
    engines: Sequence[str] = (),
    device: str = "auto",
    count: int = 50,
    tell: Tell | None = None,
    on_build: OnBuild | None = None,
    opener: Opener = open_engine,
) -> Bench:
    """Times `count` frames through `model` on each engine, in its `auto` precision and, where that is another, in fp32.

    model: a bundled name or a path. frames: (H, W, 3) uint8 BGR, all of one size; each runs once to warm up, then they are
    repeated in turn. engines: keys of `ENGINES` or "auto"; none: all that this machine has, of a plan its own. device: as in
    `load`. tell: is given a line before each row, and one for each engine left out. on_build: see `Engine`. opener: opens
    them; `cyclecast.open_engine` knows torch too. Raises ModelError (no frame model), EngineError (it cannot take such frames),
    EngineUnavailable (asked for and not on this machine, or none is), ConfigError (no frames, or of several sizes; no such
    engine).
    """
    tell = tell or (lambda line: None)
    path = find_model(model)
    if len({frame.shape for frame in frames}) != 1 or count < 1:
        raise ConfigError("a benchmark takes frames of one size, and times at least one of them")
    height, width = frames[0].shape[:2]
    rows = []
    for name, precisions in _present(path, frames[0], engines, device, tell, opener).items():
        timed = []
        for precision in precisions:
            tell(f"{name} {precision}: {len(frames)} frames to warm up, {count} timed")
            with closing(opener(path, name, device, precision)) as engine:
                engine.on_build = on_build
                engine.prepare(width, height)
                pictures = [engine.run(frame) for frame in frames]
                took = percentiles(times_ms(engine.run, frames, count))
                timed.append((engine.device, took, frames_per_second(engine.submit, frames, count), pictures))
        exact = timed[-1][3] if precisions[-1] == "fp32" else _in_fp32(path, frames)
        for precision, (where, took, fps, pictures) in zip(precisions, timed, strict=True):
            rows.append(Row(name, where, precision, took, fps, psnr_db(exact, pictures)))
    return Bench(machine_name(), path.stem, f"{width}x{height}", count, rows)


def times_ms(run: Callable[[Image], object], frames: Sequence[Image], count: int) -> list[float]:
    """Milliseconds of each of `count` calls of `run`, the frames taken in turn."""
    times = []
    for frame in islice(cycle(frames), count):
        started = time.perf_counter()
        run(frame)
        times.append(1000 * (time.perf_counter() - started))
    return times


def frames_per_second(submit: Callable[[Image], Future[Image]], frames: Sequence[Image], count: int) -> float:
    """Of `count` frames, taken in turn, `IN_FLIGHT` of them under way at a time."""
    under_way: deque[Future[Image]] = deque()
    started = time.perf_counter()
    for frame in islice(cycle(frames), count):
        under_way.append(submit(frame))
        if len(under_way) == IN_FLIGHT:
            under_way.popleft().result()
    while under_way:
        under_way.popleft().result()
    return count / (time.perf_counter() - started)


def percentiles(times: Sequence[float]) -> Percentiles:
    """Of milliseconds, at least one."""
    return Percentiles(*(float(value) for value in np.percentile(times, (50, 95, 99))))


def psnr_db(expected: Sequence[Image], got: Sequence[Image]) -> float:
    """Decibels against 255 over all pictures, uint8 and pairwise of one shape; infinite if they are equal, NaN of none."""
    if not expected:
        return math.nan
    squares = [np.square(one.astype(np.float32) - other).mean(dtype=np.float64) for one, other in zip(expected, got, strict=True)]
    return decibels(float(np.mean(squares)))


def decibels(mean_square: float) -> float:
    """PSNR against 255 of a mean square difference; infinite for 0."""
    return 10.0 * math.log10(255.0**2 / mean_square) if mean_square else math.inf


def _present(path: Path, frame: Image, names: Sequence[str], device: str, tell: Tell, opener: Opener) -> dict[str, list[str]]:
    """Engine -> its precisions, fp32 last; each engine opened once and asked whether it takes the frame, before any is timed."""
    found, absent = {}, []
    own = engine_of_plan(path)
    for name in names or ([own] if own else ENGINES):
        try:
            with closing(opener(path, name, device, "auto")) as engine:
                check_frame(frame, engine.size)
                found[engine.name] = _precisions(path, engine, device, opener)
        except EngineUnavailable as error:
            if names:
                raise
            absent.append(str(error))
            tell(f"left out: {error}")
    if not found:
        raise EngineUnavailable("no engine can run it here: " + "; ".join(absent))
    return found


def _precisions(path: Path, engine: Engine, device: str, opener: Opener) -> list[str]:
    """What `auto` chose, and fp32 if that is another which the engine has."""
    if engine.precision == "fp32":
        return ["fp32"]
    try:
        opener(path, engine.name, device, "fp32").close()
    except EngineUnavailable:
        return [engine.precision]
    return [engine.precision, "fp32"]


def _in_fp32(path: Path, frames: Sequence[Image]) -> list[Image]:
    """The pictures of the first engine that computes fp32 on the CPU; none if there is no such engine."""
    try:
        opened = open_engine(path, "auto", "cpu", "fp32")
    except EngineUnavailable:
        return []
    with closing(opened) as engine:
        return [engine.run(frame) for frame in frames]
