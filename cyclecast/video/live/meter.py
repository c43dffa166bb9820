"""Counts and times of a live run, in memory that does not grow with the length of the run."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass

import numpy as np

BIN_RATIO = 1.01  # of neighboring bins: percentiles are accurate to 1 %
MIN_S = 1e-4  # seconds, the first bin
BINS = math.ceil(math.log(1e4 / MIN_S) / math.log(BIN_RATIO))
RECENT_S = 3.0  # seconds over which the current rate is measured
STRETCHES = 64  # parts of the run, of equal length, with a mean latency each; at twice as many, two become one


@dataclass(frozen=True)
class Percentiles:
    """Percentiles in milliseconds, accurate to 1 %, and the maximum."""

    p50: float
    p95: float
    p99: float
    max: float


class Histogram:
    """Durations, counted in bins that are 1 % apart."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        """The sum of all durations."""
        self._counts = np.zeros(BINS, np.int64)
        self._longest = 0.0

    def add(self, seconds: float) -> None:
        """Counts one duration."""
        index = math.log(max(seconds, MIN_S) / MIN_S) / math.log(BIN_RATIO)
        self._counts[min(round(index), BINS - 1)] += 1
        self.count, self.seconds = self.count + 1, self.seconds + seconds
        self._longest = max(self._longest, seconds)

    def percentiles(self) -> Percentiles:
        """Computes the percentiles of all durations in milliseconds; 0 if there are none."""
        total = np.cumsum(self._counts)
        if not total[-1]:
            return Percentiles(0.0, 0.0, 0.0, 0.0)

        def percentile(share: float) -> float:
            index = int(np.searchsorted(total, share * total[-1]))
            return round(1000 * min(MIN_S * BIN_RATIO**index, self._longest), 2)

        return Percentiles(percentile(0.5), percentile(0.95), percentile(0.99), round(1000 * self._longest, 2))


@dataclass(frozen=True)
class RecentFigures:
    """Figures of the last seconds."""

    fps: float
    latency_ms: float
    """The median."""
    model_ms: float
    """The median."""


class Meter:
    """Counts frames and measures their latency. Any thread may use it."""

    def __init__(self) -> None:
        self.shown = 0
        """Frames that a sink took, or the caller of `stream`."""
        self.skipped = 0
        """Frames that the feed delivered and nobody was shown: used for compiling, or replaced before a sink took them."""
        self.held = 0
        """Times that the last frame was shown again because there was no new one."""
        self.latency, self.model = Histogram(), Histogram()
        self._recent: deque[tuple[float, float]] = deque()
        self._models: deque[float] = deque(maxlen=90)
        self._stretches: list[list[float]] = []  # [frames, seconds of latency]
        self._length = 0.25  # seconds of one stretch
        self._first: float | None = None
        self._last = 0.0
        self._lock = threading.Lock()

    def add_model(self, seconds: float) -> None:
        """Counts a frame that took so many seconds in the model."""
        with self._lock:
            self.model.add(seconds)
            self._models.append(seconds)

    def add_shown(self, latency: float, now: float | None = None) -> None:
        """Counts a frame that was shown `latency` seconds after its capture."""
        now = time.perf_counter() if now is None else now
        with self._lock:
            self.shown += 1
            self.latency.add(latency)
            self._first = now if self._first is None else self._first
            self._last = now
            self._recent.append((now, latency))
            while self._recent[0][0] < now - RECENT_S:
                self._recent.popleft()
            self._add_to_stretch(now - self._first, latency)

    def add_skipped(self) -> None:
        """Counts a frame that nobody will be shown."""
        with self._lock:
            self.skipped += 1

    def _add_to_stretch(self, elapsed: float, latency: float) -> None:
        while elapsed >= 2 * STRETCHES * self._length:
            pairs = zip(self._stretches[::2], self._stretches[1::2], strict=False)
            self._stretches = [[one[0] + other[0], one[1] + other[1]] for one, other in pairs]
            self._length *= 2
        while len(self._stretches) <= elapsed / self._length:
            self._stretches.append([0, 0.0])
        stretch = self._stretches[int(elapsed / self._length)]
        stretch[0] += 1
        stretch[1] += latency

    @property
    def model_seconds(self) -> float:
        """The median time in the model of the last frames; 0 before the first."""
        with self._lock:
            return float(np.median(self._models)) if self._models else 0.0

    def recent(self) -> RecentFigures:
        """Computes the figures of the last three seconds."""
        model, now = self.model_seconds, time.perf_counter()
        with self._lock:
            recent = [(at, latency) for at, latency in self._recent if at > now - RECENT_S]
        if not recent:
            return RecentFigures(0.0, 0.0, round(1000 * model, 2))
        span = max(now - recent[0][0], 1e-3)
        median = float(np.median([latency for _, latency in recent]))
        return RecentFigures(round(len(recent) / span, 1), round(1000 * median, 2), round(1000 * model, 2))

    @property
    def seconds(self) -> float:
        """Seconds from the first frame that was shown to the last."""
        return 0.0 if self._first is None else self._last - self._first

    @property
    def elapsed(self) -> float:
        """Seconds since the first frame was shown, whether others came or not; 0 before it."""
        return 0.0 if self._first is None else time.perf_counter() - self._first

    @property
    def fps(self) -> float:
        """Mean frame rate from the first frame to the last."""
        return (self.shown - 1) / self.seconds if self.seconds > 0 else 0.0

    def quarters(self) -> list[float]:
        """Computes the mean latency in milliseconds in each quarter of the run, which shows whether it grows."""
        with self._lock:
            stretches = [tuple(stretch) for stretch in self._stretches]
        pieces = [stretches[len(stretches) * n // 4 : len(stretches) * (n + 1) // 4] for n in range(4)]
        sums = [(sum(s[0] for s in piece), sum(s[1] for s in piece)) for piece in pieces]
        return [round(1000 * seconds / frames, 2) if frames else 0.0 for frames, seconds in sums]
