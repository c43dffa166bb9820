"""A source, a function and a sink that run side by side, joined by bounded queues. The first error ends all three."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from cyclecast.future import Future

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")

IN_FLIGHT = 2  # items that the function works on at a time
QUEUE_SIZE = 4  # items between two stages: enough to absorb a slow item, few enough to keep memory flat
POLL_S = 0.1  # how long a stage waits before it looks whether another one has failed; Windows delivers Ctrl-C between waits


class Stopped(Exception):
    """Ends a stage after another one has failed. It never leaves `run`."""


class End:
    """The last item of a queue."""


class StageQueue(Generic[T]):
    """A bounded queue between two stages. Once `stop` is set, whoever waits gets Stopped.

    `queue.Queue` has `shutdown` from Python 3.13 on; until then the waits are short and look at `stop`.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._items: queue.Queue[T | End] = queue.Queue(QUEUE_SIZE)
        self._stop = stop

    def put(self, item: T | End) -> None:
        """Waits for room. Raises Stopped."""
        while not self._stop.is_set():
            try:
                return self._items.put(item, timeout=POLL_S)
            except queue.Full:
                continue
        raise Stopped

    def __iter__(self) -> Iterator[T]:
        """Items until `End`. Raises Stopped."""
        while not self._stop.is_set():
            try:
                item = self._items.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if isinstance(item, End):
                return
            yield item
        raise Stopped


@dataclass
class StageSeconds:
    """Seconds that each stage worked, without waiting. Of a model that works ahead on a GPU: seconds that its thread was busy."""

    decode: float = 0.0
    model: float = 0.0
    encode: float = 0.0


def run(
    source: Iterator[A],
    function: Callable[[A], Future[B]],
    sink: Callable[[B], None],
    on_item: Callable[[int], None] | None = None,
) -> StageSeconds:
    """Runs every item of `source` through `function` into `sink`, in order. `function` runs in the caller's thread.

    function: starts work on an item and returns a future, whose result is taken after the next item was submitted. on_item:
    called in the sink's thread with the number of items written. The first error of a stage, Ctrl-C included, is raised here
    after all threads have ended.
    """
    seconds = StageSeconds()
    stop = threading.Event()
    decoded: StageQueue[A] = StageQueue(stop)
    styled: StageQueue[B] = StageQueue(stop)
    errors: list[BaseException] = []

    def guard(stage: Callable[[], None]) -> None:
        try:
            stage()
        except Stopped:
            pass
        except BaseException as error:
            errors.append(error)
            stop.set()

    def decode() -> None:
        while True:
            started = time.perf_counter()
            item = next(source, None)
            seconds.decode += time.perf_counter() - started
            if item is None:
                return decoded.put(End())
            decoded.put(item)

    def model() -> None:
        in_flight: deque[Future[B]] = deque()

        def fetch() -> None:
            started = time.perf_counter()
            result = in_flight.popleft().result()
            seconds.model += time.perf_counter() - started
            styled.put(result)

        for item in decoded:
            started = time.perf_counter()
            in_flight.append(function(item))
            seconds.model += time.perf_counter() - started
            if len(in_flight) == IN_FLIGHT:
                fetch()
        while in_flight:
            fetch()
        styled.put(End())

    def encode() -> None:
        for count, item in enumerate(styled, 1):
            started = time.perf_counter()
            sink(item)
            seconds.encode += time.perf_counter() - started
            if on_item:
                on_item(count)

    # Daemon threads that end in a `finally`: the program must not wait for them after a second Ctrl-C, wherever it arrives.
    threads = [threading.Thread(target=guard, args=(stage,), name=stage.__name__, daemon=True) for stage in (decode, encode)]
    try:
        for thread in threads:
            thread.start()
        guard(model)
        for thread in threads:
            while thread.is_alive():
                thread.join(POLL_S)
    finally:
        stop.set()
        for thread in threads:
            if thread.is_alive():
                thread.join()
    if errors:
        raise errors[0]
    return seconds
