"""Three stages side by side: in order, bounded, and never hanging."""

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


def at_once(function: Callable[[int], int]) -> Callable[[int], Future[int]]:
    """A stage that has the result before it returns its future."""

    def submit(number: int) -> Future[int]:
        return Completed(function(number))

    return submit


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_everything_arrives_in_order() -> None:
    out: list[int] = []
    told: list[int] = []
    pipeline.run(numbers(100), at_once(lambda n: n * n), out.append, told.append)
    assert out == [n * n for n in range(100)]
    assert told == list(range(1, 101))


def test_an_empty_source_is_no_error() -> None:
    out: list[int] = []
    pipeline.run(numbers(0), at_once(lambda n: n), out.append)
    assert out == []


@pytest.mark.parametrize("stage", ["source", "function", "sink"])
@pytest.mark.parametrize("nth", [0, 3, 30])
def test_the_first_error_is_raised_and_every_thread_ends(stage: str, nth: int) -> None:
    def breaking(at: str, number: int) -> int:
        if stage == at and number == nth:
            raise ValueError(f"{at} broke")
        return number

    source = (breaking("source", number) for number in range(1000))
    before = threads()
    with pytest.raises(ValueError, match=f"{stage} broke"):
        pipeline.run(source, at_once(lambda n: breaking("function", n)), lambda n: (breaking("sink", n), None)[1])
    assert threads() == before


@pytest.mark.parametrize("slow", ["function", "sink"])
def test_a_fast_source_does_not_run_ahead(slow: str) -> None:
    read: list[int] = []
    most = 0
    done = 0

    def wait(at: str, number: int) -> int:
        nonlocal most, done
        if at == "sink":
            done += 1
        most = max(most, len(read) - done)
        if at == slow:
            time.sleep(0.002)
        return number

    pipeline.run(numbers(60, read), at_once(lambda n: wait("function", n)), lambda n: (wait("sink", n), None)[1])
    most_held = 2 * pipeline.QUEUE_SIZE + 2 + pipeline.IN_FLIGHT
    assert most <= most_held  # both queues full, one item in the hands of the outer stages, two in the function's


def test_stages_overlap() -> None:
    def wait(number: int) -> int:
        time.sleep(0.005)
        return number

    started = time.perf_counter()
    seconds = pipeline.run((wait(n) for n in range(40)), at_once(wait), lambda n: (wait(n), None)[1])
    wall = time.perf_counter() - started
    work = seconds.decode + seconds.model + seconds.encode
    assert work >= 3 * 40 * 0.005
    assert wall < 0.6 * work  # one after the other would take all of it


def test_two_are_under_way_and_no_more() -> None:
    begun: list[int] = []
    fetched: list[int] = []

    def submit(number: int) -> Future[int]:
        begun.append(number)

        def wait() -> int:
            assert begun[-1] == min(number + pipeline.IN_FLIGHT - 1, 19)  # the one after it is at work, the next is not
            fetched.append(number)
            return number

        return Deferred(wait)

    out: list[int] = []
    pipeline.run(numbers(20), submit, out.append)
    assert out == fetched == list(range(20))


@pytest.mark.parametrize("nth", [0, 3, 19])
def test_an_error_while_it_is_waited_for_is_raised(nth: int) -> None:
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
