"""A sink with a thread of its own and room for one frame: a slow sink skips frames, a failed one is abandoned."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cyclecast.video.live.failure import failure_text
from cyclecast.video.live.meter import Histogram, Meter, Percentiles
from cyclecast.video.live.newest import Newest
from cyclecast.video.live.sinks.sink import NetworkSink, OutputState, Sink
from cyclecast.video.live.styling.styled_frame import StyledFrame

log = logging.getLogger(__name__)

IDLE_INTERVAL_S = 0.1  # between two calls of `Sink.idle`
CLOSE_TIMEOUT_S = 10.0  # that a sink may take to finish


@dataclass(frozen=True)
class SinkReport:
    """What one sink did."""

    name: str
    shown: int
    """Frames it took, without repeated ones."""
    latency_ms: Percentiles
    """From the capture until the frame was handed to this sink."""
    failure: str | None
    dropped: int = 0
    """As `OutputState.dropped`, of a network output."""
    reconnects: int = 0
    """As `OutputState.reconnects`, of a network output."""


class Delivery:
    """One frame on its way to all sinks: counted as shown when the first sink takes it, as skipped when every sink dropped it.

    A repeated frame, which has a notice, counts as neither.
    """

    def __init__(self, frame: StyledFrame, sinks: int, meter: Meter) -> None:
        self.frame = frame
        self._meter = meter
        self._lock = threading.Lock()
        self._undecided = sinks
        self._taken = False
        self._decided = threading.Event()
        if not sinks:
            self._decide()

    def take(self) -> float:
        """Records that a sink takes the frame. Returns the latency in seconds."""
        latency = time.perf_counter() - self.frame.at
        with self._lock:
            first, self._taken = not self._taken, True
            self._undecided -= 1
            if first and self.frame.notice is None:
                self._meter.add_shown(latency)
            if not self._undecided:
                self._decide()
        return latency

    def drop(self) -> None:
        """Records that a sink will never take the frame."""
        with self._lock:
            self._undecided -= 1
            if not self._undecided:
                self._decide()

    def _decide(self) -> None:
        if not self._taken and self.frame.notice is None:
            self._meter.add_skipped()
        self._decided.set()

    def wait(self, seconds: float) -> bool:
        """Waits until each sink has taken or dropped the frame; False if that takes longer."""
        return self._decided.wait(seconds)


class SinkWorker:
    """Feeds one sink. `on_failure` is called once if the sink fails."""

    def __init__(self, sink: Sink, on_failure: Callable[[SinkWorker], None]) -> None:
        self.sink = sink
        self.failure: str | None = None
        """Why the sink failed, in one line."""
        self._on_failure = on_failure
        self._newest: Newest[Delivery] = Newest()
        self._latency = Histogram()
        self._shown = 0
        self._thread = threading.Thread(target=self._work, name=sink.name, daemon=True)
        self._thread.start()

    def put(self, delivery: Delivery) -> None:
        """Offers a frame to the sink. Never waits."""
        replaced = self._newest.put(delivery)
        if replaced is not None:
            replaced.drop()

    def _pump(self) -> None:
        """Shows a frame if one comes soon."""
        delivery = self._newest.take(IDLE_INTERVAL_S)
        try:
            if delivery is None:
                self.sink.idle()
                return
            latency = delivery.take()
            if delivery.frame.notice is None:
                self._shown += 1
                self._latency.add(latency)
            self.sink.show(delivery.frame)
        except Exception as error:
            self._fail(error)

    def _work(self) -> None:
        while not self._newest.closed:
            self._pump()
        try:
            self.sink.close()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        log.debug("%s failed", self.sink.name, exc_info=error)
        self._drop_rest()
        self._set_failure(failure_text(error))

    def _set_failure(self, failure: str) -> None:
        if self.failure is None:
            self.failure = failure
            self._on_failure(self)

    def _drop_rest(self) -> None:
        left = self._newest.close()
        if left is not None:
            left.drop()

    def close(self) -> None:
        """Lets the sink finish; one that needs longer than 10 seconds is abandoned."""
        self._drop_rest()
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            self._set_failure(f"did not finish within {CLOSE_TIMEOUT_S:g} s")

    def report(self) -> SinkReport:
        """Reports what the sink did so far."""
        output = self.output or OutputState(self.sink.name)
        percentiles = self._latency.percentiles()
        return SinkReport(self.sink.name, self._shown, percentiles, self.failure, output.dropped, output.reconnects)

    @property
    def output(self) -> OutputState | None:
        """The state of a network output; None for other sinks."""
        return self.sink.output if isinstance(self.sink, NetworkSink) else None
