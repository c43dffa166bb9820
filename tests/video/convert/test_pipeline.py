"""The three stages overlap, keep the order, use bounded memory, and end after an error."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from cyclecast.future import Completed, Deferred, Future
from cyclecast.video.convert import pipeline


def numbers(count: int, seen: list[int] | None = None) -> Iterator[int]:
    for number in range(count):
        if seen is not None:
            seen.append(number)
        yield number


def synchronous(function: Callable[[int], int]) -> Callable[[int], Future[int]]:
    """A stage that returns a completed future."""

    def submit(number: int) -> Future[int]:
        return Completed(function(number))

    return submit


def thread_names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_all_items_arrive_in_order() -> None:
    out: list[int] = []
    counts: list[int] = []
    pipeline.run(numbers(100), synchronous(lambda n: n * n), out.append, counts.append)
    assert out == [n * n for n in range(100)]
    assert counts == list(range(1, 101))


def test_an_empty_source_is_not_an_error() -> None:
    out: list[int] = []
    pipeline.run(numbers(0), synchronous(lambda n: n), out.append)
    assert out == []


@pytest.mark.parametrize("stage", ["source", "function", "sink"])
@pytest.mark.parametrize("nth", [0, 3, 30])
def test_the_first_error_is_raised_and_every_thread_ends(stage: str, nth: int) -> None:
    def fail_at_nth(at: str, number: int) -> int:
        if stage == at and number == nth:
            raise ValueError(f"{at} broke")
        return number

    source = (fail_at_nth("source", number) for number in range(1000))
    before = thread_names()
    with pytest.raises(ValueError, match=f"{stage} broke"):
        pipeline.run(source, synchronous(lambda n: fail_at_nth("function", n)), lambda n: (fail_at_nth("sink", n), None)[1])
    assert thread_names() == before


@pytest.mark.parametrize("slow", ["function", "sink"])
def test_a_fast_source_waits_for_slow_stages(slow: str) -> None:
    read: list[int] = []
    most_in_memory = 0
    done = 0

    def wait(at: str, number: int) -> int:
        nonlocal most_in_memory, done
        if at == "sink":
            done += 1
        most_in_memory = max(most_in_memory, len(read) - done)
        if at == slow:
            time.sleep(0.002)
        return number

    pipeline.run(numbers(60, read), synchronous(lambda n: wait("function", n)), lambda n: (wait("sink", n), None)[1])
    limit = 2 * pipeline.QUEUE_SIZE + 2 + pipeline.IN_FLIGHT
    assert most_in_memory <= limit  # full queues, one item in each outer stage, two in flight


def test_stages_overlap() -> None:
    def wait(number: int) -> int:
        time.sleep(0.005)
        return number

    started = time.perf_counter()
    seconds = pipeline.run((wait(n) for n in range(40)), synchronous(wait), lambda n: (wait(n), None)[1])
    wall = time.perf_counter() - started
    work = seconds.decode + seconds.model + seconds.encode
    assert work >= 3 * 40 * 0.005
    assert wall < 0.6 * work  # one after the other would take all of it


def test_exactly_two_items_are_in_flight() -> None:
    submitted: list[int] = []
    fetched: list[int] = []

    def submit(number: int) -> Future[int]:
        submitted.append(number)

        def wait() -> int:
            assert submitted[-1] == min(number + pipeline.IN_FLIGHT - 1, 19)  # the next item, but not the one after it
            fetched.append(number)
            return number

        return Deferred(wait)

    out: list[int] = []
    pipeline.run(numbers(20), submit, out.append)
    assert out == fetched == list(range(20))


@pytest.mark.parametrize("nth", [0, 3, 19])
def test_the_error_of_a_future_is_raised(nth: int) -> None:
    def submit(number: int) -> Future[int]:
        def wait() -> int:
            if number == nth:
                raise ValueError("broke")
            return number

        return Deferred(wait)

    out: list[int] = []
    with pytest.raises(ValueError, match="broke"):
        pipeline.run(numbers(20), submit, out.append)
    assert out == list(range(len(out))) and len(out) <= nth


CTRL_C = """
import os, signal, threading, time
from cyclecast.future import Deferred
from cyclecast.video.convert import pipeline

def press(at, number):
    if at == {stage!r} and number == 5:
        os.kill(os.getpid(), signal.SIGINT)
    if at == "sink":
        time.sleep(0.001)
    return number

try:
    pipeline.run(iter(range(100_000)), lambda n: Deferred(lambda: press("function", n)), lambda n: press("sink", n))
except KeyboardInterrupt:
    print("interrupted", threading.active_count())
"""


@pytest.mark.parametrize("stage", ["function", "sink"])
def test_ctrl_c_ends_every_stage(stage: str) -> None:
    code = CTRL_C.format(stage=stage)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted 1\n", done.stderr
