"""All sinks of a run: each frame goes to every one, at its own pace, and the run does not wait for any."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import PurePath

from cyclecast.video.live.messages import OnMessage
from cyclecast.video.live.meter import Meter, Percentiles
from cyclecast.video.live.sink_worker import Delivery, SinkReport, SinkWorker
from cyclecast.video.live.sinks.sink import OutputState, Sink, sink_name
from cyclecast.video.live.sources.address import host_address
from cyclecast.video.live.styling.styled_frame import StyledFrame


class SinkGroup:
    """The sinks' workers. Sinks may be added and removed while frames come, from any thread.

    on_all_failed: called with one line when no sink works any more.
    """

    def __init__(self, meter: Meter, on_message: OnMessage, on_all_failed: Callable[[str], None]) -> None:
        self._meter, self._on_message, self._on_all_failed = meter, on_message, on_all_failed
        self._workers: list[SinkWorker] = []
        self._side_workers: list[SinkWorker] = []
        self._missing: list[SinkReport] = []
        self._removed: list[SinkReport] = []
        self._last: Delivery | None = None
        self._lock = threading.Lock()

    def add(self, sink: Sink) -> SinkWorker:
        """Hands the following frames to this sink too."""
        worker = SinkWorker(sink, self._report_failure)
        with self._lock:
            self._workers.append(worker)
        return worker

    def add_beside(self, sink: Sink) -> SinkWorker:
        """Adds a sink that gets its frames from the caller. The run does not go on for its sake."""
        worker = SinkWorker(sink, self._report_failure)
        self._side_workers.append(worker)
        return worker

    def add_missing(self, address: str, failure: str) -> None:
        """Reports a sink that could not be opened, and that the run goes on without."""
        none = Percentiles(0.0, 0.0, 0.0, 0.0)
        name = address if sink_name(address) == "virtual" else host_address(address)  # others may hold a secret
        self._missing.append(SinkReport(name, 0, none, failure))
        self._on_message(f"{failure}; going on without it")

    def remove(self, worker: SinkWorker) -> None:
        """Hands no more frames to this sink, and lets it finish."""
        with self._lock:
            self._workers.remove(worker)
        worker.close()
        self._removed.append(worker.report())
        self._check_rest()

    def put(self, frame: StyledFrame) -> None:
        """Offers a frame to every sink. Never waits."""
        with self._lock:
            workers = list(self._workers)
        self._last = Delivery(frame, len(workers), self._meter)
        for worker in workers:
            worker.put(self._last)

    def drain(self, seconds: float) -> None:
        """Waits until every sink has taken the last frame, at most so long."""
        if self._last is not None:
            self._last.wait(seconds)

    def _report_failure(self, worker: SinkWorker) -> None:
        self._on_message(f"{worker.sink.name} failed and gets no more frames: {worker.failure}")
        self._check_rest()

    def _check_rest(self) -> None:
        """Tells the run if no sink works any more."""
        with self._lock:
            workers = list(self._workers)
        if workers and all(worker.failure is not None for worker in workers):
            self._on_all_failed(f"{workers[-1].sink.name}: {workers[-1].failure}")

    def close(self) -> None:
        """Lets every sink finish."""
        with self._lock:
            workers = [*self._workers, *self._side_workers]
        for worker in workers:
            worker.close()

    def failures(self) -> list[str]:
        """Returns a line for each sink that is missing or has failed."""
        return [f"{_short_name(report.name)}: {report.failure}" for report in self.reports() if report.failure is not None]

    def outputs(self) -> list[OutputState]:
        """Returns the state of each network output that works."""
        with self._lock:
            workers = list(self._workers)
        return [worker.output for worker in workers if worker.output is not None and worker.failure is None]

    def reports(self) -> list[SinkReport]:
        """Returns what each sink did; missing and removed ones first."""
        return [*self._missing, *self._removed, *(worker.report() for worker in [*self._workers, *self._side_workers])]


def _short_name(name: str) -> str:
    """Returns the name without the folders of a file."""
    return name if "://" in name else PurePath(name).name
