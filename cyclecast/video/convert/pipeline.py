"""source -> function -> sink, each in a thread of its own, joined by bounded queues; the first error wins and nothing hangs."""

from __future__ import annotations

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

UNDER_WAY = 2  # items that the function works on at a time
DEPTH = 4  # items between two stages: enough to ride out a slow one, few enough that memory stays flat
INTERRUPTIBLE = 0.5  # seconds: Windows delivers Ctrl-C only between waits


class Stopped(Exception):
    """Raised inside a stage when another one has failed; never leaves `run`."""


class BoundedQueue(Generic[T]):
    """At most `depth` items; `finish` ends it for the reader, `stop` ends it for both sides at once."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: deque[T] = deque()
        self._finished = self._stopped = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Waits for room; raises Stopped."""
        with self._changed:
            while len(self._items) >= self._depth and not self._stopped:
                self._changed.wait(INTERRUPTIBLE)
            if self._stopped:
                raise Stopped
            self._items.append(item)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Items until `finish`; raises Stopped."""
        while True:
            with self._changed:
                while not self._items and not self._finished and not self._stopped:
                    self._changed.wait(INTERRUPTIBLE)
                if self._stopped:
                    raise Stopped
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item

    def finish(self) -> None:
        """No more items will come."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Wakes everybody that waits, with Stopped."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


@dataclass
class StageSeconds:
    """Time that each stage worked, waiting left out; of a model that works ahead, on a GPU, time that its thread was held up."""

    decode: float = 0.0
    model: float = 0.0
    encode: float = 0.0


def run(
    source: Iterator[A],
    function: Callable[[A], Future[B]],
    sink: Callable[[B], None],
    on_item: Callable[[int], None] | None = None,
) -> StageSeconds:
    """Every item of `source` through `function` into `sink`, in order; `function` runs in the caller's thread.

    function: starts on an item and returns a future, whose result is asked for once the item after it has been submitted.
    on_item is told, in the sink's thread, how many have arrived. Whatever a stage raises first is raised here, once all
    threads have ended; Ctrl-C too.
    """
    seconds = StageSeconds()
    decoded: BoundedQueue[A] = BoundedQueue(DEPTH)
    styled: BoundedQueue[B] = BoundedQueue(DEPTH)
    failures: list[BaseException] = []

    def guarded(stage: Callable[[], None]) -> None:
        try:
            stage()
        except Stopped:
            pass
        except BaseException as error:
            fail(error)

    def fail(error: BaseException) -> None:
        failures.append(error)
        decoded.stop()
        styled.stop()

    def decode() -> None:
        while True:
            started = time.perf_counter()
            item = next(source, None)
            seconds.decode += time.perf_counter() - started
            if item is None:
                return decoded.finish()
            decoded.put(item)

    def model() -> None:
        under_way: deque[Future[B]] = deque()

        def fetch() -> None:
            started = time.perf_counter()
            result = under_way.popleft().result()
            seconds.model += time.perf_counter() - started
            styled.put(result)

        for item in decoded:
            started = time.perf_counter()
            under_way.append(function(item))
            seconds.model += time.perf_counter() - started
            if len(under_way) == UNDER_WAY:
                fetch()
        while under_way:
            fetch()
        styled.finish()

    def encode() -> None:
        for count, item in enumerate(styled, 1):
            started = time.perf_counter()
            sink(item)
            seconds.encode += time.perf_counter() - started
            if on_item:
                on_item(count)

    # Daemons, and ended in a `finally`: a second Ctrl-C, wherever it lands, must not leave the program waiting for them.
    threads = [threading.Thread(target=guarded, args=(stage,), name=stage.__name__, daemon=True) for stage in (decode, encode)]
    try:
        for thread in threads:
            thread.start()
        guarded(model)
        for thread in threads:
            while thread.is_alive():
                thread.join(INTERRUPTIBLE)
    finally:
        decoded.stop()
        styled.stop()
        for thread in threads:
            if thread.is_alive():
                thread.join()
    if failures:
        raise failures[0]
    return seconds
