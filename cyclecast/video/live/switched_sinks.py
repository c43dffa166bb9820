"""Sinks that are turned on and off while the run goes on."""

from __future__ import annotations

import threading

from cyclecast.video.live.sink_group import SinkGroup
from cyclecast.video.live.sink_worker import SinkWorker
from cyclecast.video.live.sinks.sink import SessionControls, SinkOpener


class SwitchedSinks:
    """Opens and closes sinks by their addresses. Any thread may call it: one call waits for another to finish."""

    def __init__(self, sinks: SinkGroup, controls: SessionControls, open_sink: SinkOpener) -> None:
        self._sinks, self._controls, self._open_sink = sinks, controls, open_sink
        self._workers: dict[str, SinkWorker] = {}
        self._lock = threading.Lock()

    def is_on(self, address: str) -> bool:
        """Returns whether the sink of this address is on and has not failed."""
        worker = self._workers.get(address)
        return worker is not None and worker.failure is None

    def set_sink(self, address: str, on: bool) -> None:
        """As `SessionControls.set_sink`."""
        with self._lock:
            if on == self.is_on(address):
                return
            worker = self._workers.pop(address, None)  # it is to be turned off, or it has failed
            if worker is not None:
                self._sinks.remove(worker)
            if on:
                self._workers[address] = self._sinks.add(self._open_sink(address, self._controls))
