"""Runs an encoder on its own thread, so that one that hangs ends with an error. Waiting inside it, only SIGKILL would help."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Any, TypeVar

from cyclecast.errors import OutputError

T = TypeVar("T")

HANG_S = 60.0  # an encoder that waits this long in one call hangs
POLL_S = 0.5
IDLE_SHARE = 0.05  # of one core: the least that this process computes while an encoder is only slow


class Watchdog:
    """Calls functions of one encoder, one at a time. `close` ends its thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=f"{name} encoder", daemon=True).start()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function, arguments = call
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)
            del call, future, function, arguments  # no frame outlives its call

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Calls function(*arguments). Raises OutputError if it does not return while the process computes nothing for `HANG_S`.

        A call that hangs cannot be stopped: its thread remains, and what it works on may be neither used nor closed after that.
        """
        future: Future[T] = Future()
        self._calls.put((future, function, arguments))
        idle, before = 0.0, time.process_time()  # polls are counted, not the clock: the process may have been stopped
        while not wait([future], POLL_S).done:
            now = time.process_time()
            idle = idle + POLL_S if now - before < IDLE_SHARE * POLL_S else 0.0
            before = now
            if idle >= HANG_S:
                raise OutputError(f"the encoder {self._name} hangs: no answer for {HANG_S:g} s; use another --codec or --encoder")
        return future.result()

    def close(self) -> None:
        """Ends the thread after its last call."""
        self._calls.put(None)
