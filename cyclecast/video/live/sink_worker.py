"""A sink with a thread of its own and room for one picture: a slow sink misses pictures, a failing one is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cyclecast.errors import CyclecastError
from cyclecast.video.live.meter import Histogram, Percentiles
from cyclecast.video.live.newest import Newest
from cyclecast.video.live.sinks.sink import Sink
from cyclecast.video.live.styling.styled_frame import StyledFrame

IDLE = 0.1  # seconds between two calls of `idle`
CLOSING = 10.0  # seconds that a sink may take to finish


@dataclass(frozen=True)
class SinkReport:
    """What became of a sink."""

    name: str
    shown: int
    """Pictures it took, held ones left out."""
    latency_ms: Percentiles
    """Captured -> handed to this sink."""
    failure: str | None


class SinkWorker:
    """Feeds one sink. `on_taken` is told of each new picture as the sink takes it, with its latency in seconds."""

    def __init__(
        self, sink: Sink, on_taken: Callable[[StyledFrame, float], None], on_failure: Callable[[SinkWorker], None]
    ) -> None:
        self.sink = sink
        self.failure: str | None = None
        self._on_taken, self._on_failure = on_taken, on_failure
        self._place: Newest[StyledFrame] = Newest()
        self._latency = Histogram()
        self._shown = 0
        self._thread = None if sink.in_main_thread else threading.Thread(target=self._work, name=sink.name, daemon=True)
        if self._thread is not None:
            self._thread.start()

    def put(self, shown: StyledFrame) -> None:
        """Never waits."""
        self._place.put(shown)

    def pump(self, seconds: float) -> None:
        """Shows a picture if one comes in that time; for sinks of the main thread."""
        shown = self._place.take(seconds)
        try:
            if shown is None:
                self.sink.idle()
                return
            latency = time.perf_counter() - shown.at
            if shown.notice is None:
                self._shown += 1
                self._latency.add(latency)
                self._on_taken(shown, latency)
            self.sink.show(shown)
        except Exception as error:
            self._fail(error)

    def _work(self) -> None:
        while not self._place.closed:
            self.pump(IDLE)
        self._close()

    def _close(self) -> None:
        try:
            self.sink.close()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        known = isinstance(error, CyclecastError)
        self._place.close()
        if self.failure is None:
            self.failure = str(error) if known else f"{type(error).__name__}: {error}"
            self._on_failure(self)

    def close(self) -> None:
        """Lets the sink finish; one that does not within 10 seconds is left behind."""
        self._place.close()
        if self._thread is None:
            return self._close()
        self._thread.join(CLOSING)
        if self._thread.is_alive() and self.failure is None:
            self.failure = f"did not finish within {CLOSING:g} s"
            self._on_failure(self)

    def report(self) -> SinkReport:
        """So far."""
        return SinkReport(self.sink.name, self._shown, self._latency.percentiles(), self.failure)
