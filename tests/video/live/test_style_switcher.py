"""Another model or height during a run: opened beside the active one, and whatever fails leaves the active one."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from cyclecast.errors import ConfigError, ModelError
from cyclecast.video.live.options import LiveOptions
from cyclecast.video.live.styling.governor import Governor
from cyclecast.video.live.styling.open_model import BorrowedModel, OpenModel
from cyclecast.video.live.styling.stream import open_stream
from cyclecast.video.live.styling.style_switcher import State, StyleSwitcher
from tests.conftest import Negative, Same
from tests.video.live.sessions import LIMIT, PATTERN, open_as, wait_for

FRAME = np.zeros((96, 160, 3), np.uint8)


class Panic(BaseException):
    """What extensions written in Rust raise when they panic: no Exception."""


ERRORS = {
    "model": ModelError("no such file"),
    "permission": PermissionError(13, "Permission denied"),
    "memory": MemoryError(),
    "library": RuntimeError("CUDA error:\n  out of memory"),
    "panic": Panic("unreachable"),
}


class FixedHeight(Same):
    """Runs at one height only while `is_fixed`, as a static model would."""

    is_fixed = True

    def prepare(self, width: int, height: int) -> None:
        if self.is_fixed and height != 96:
            raise RuntimeError(f"expected height 96, got {height}")


def switch(switcher: StyleSwitcher, condition: Callable[[], bool]) -> None:
    """Styles frames until the condition holds."""
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit, "never"
        switcher(FRAME)
        time.sleep(0.001)


def test_another_model_is_opened_beside_the_active_one() -> None:
    let_in, opened, closed = threading.Event(), threading.Event(), threading.Event()

    class First(BorrowedModel):
        def close(self) -> None:
            closed.set()

    def opener(name: str) -> OpenModel:
        if name == "negative":
            opened.set()
            assert let_in.wait(LIMIT)
            return BorrowedModel(name, Negative())
        return First(name, Same())

    stream = open_stream(PATTERN, ["same", "negative"], opener)
    frames = iter(stream)
    try:
        assert next(frames).model == "same"
        stream.switcher.request_next_model()
        assert opened.wait(LIMIT) and stream.switcher.state is State.OPENING
        during = [next(frames) for _ in range(10)]
        assert {frame.model for frame in during} == {"same"}
        assert max(b.number - a.number for a, b in zip(during, during[1:], strict=False)) <= 3
        let_in.set()
        frame = next(frames)
        while frame.model == "same":
            frame = next(frames)
        assert np.array_equal(frame.image, 255 - frame.source)
        assert closed.wait(LIMIT) and stream.switcher.switches == 1
    finally:
        let_in.set()
        stream.close()
    assert stream.switcher.state.name == "CLOSED"


@pytest.mark.parametrize("name", list(ERRORS))
def test_a_model_that_does_not_open_leaves_the_active_one(name: str) -> None:
    messages: list[str] = []

    def opener(name: str) -> OpenModel:
        if name in ERRORS:
            raise ERRORS[name]
        return BorrowedModel(name, Same())

    switcher = StyleSwitcher(["same", name, "other"], opener, on_message=messages.append)
    try:
        switcher.prepare(160, 96)
        switcher.request_model(name)
        wait_for(lambda: messages, "a message")
        wait_for(lambda: switcher.requested_model == switcher.active_model == "same")
        assert switcher(FRAME) is FRAME
        (line,) = messages
        assert line.startswith(f"could not load {name} (") and line.endswith("); keeping same") and "\n" not in line
        switcher.request_model("other")
        switch(switcher, lambda: switcher.active_model == "other")
    finally:
        switcher.close()


def test_a_model_that_does_not_compile_leaves_the_active_one_before_the_first_frame_too() -> None:
    messages: list[str] = []

    class Broken(Same):
        def prepare(self, width: int, height: int) -> None:
            raise RuntimeError("unsupported size")

    functions = {"same": Same(), "broken": Broken()}
    switcher = StyleSwitcher(list(functions), lambda name: BorrowedModel(name, functions[name]), on_message=messages.append)
    try:
        switcher.request_model("broken")
        switcher.prepare(160, 96)
        switch(switcher, lambda: bool(messages))
        assert messages == ["could not load broken (RuntimeError: unsupported size); keeping same"]
        assert switcher.active_model == "same"
    finally:
        switcher.close()


def test_an_unknown_model_is_refused() -> None:
    switcher = StyleSwitcher(["same", "absent"], open_as(Same()))
    try:
        with pytest.raises(ConfigError, match="no model 'other' was given; there are: same, absent"):
            switcher.request_model("other")
    finally:
        switcher.close()
    with pytest.raises(ConfigError, match="no model is given"):
        StyleSwitcher([], open_as(Same()))


def test_requests_from_several_threads_all_count() -> None:
    """A model, a height and a strength at the same moment: none is lost."""
    switcher = StyleSwitcher(["a", "b"], open_as(Same()))
    switcher.prepare(160, 96)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for turn in range(300):
            name, height, strength = ("a", "b")[turn % 2], 64 + turn % 32, turn % 11 / 10
            start = threading.Barrier(3)

            def request(change: Callable[[], None], start: threading.Barrier = start) -> None:
                start.wait(LIMIT)
                change()

            changes = [
                lambda n=name: switcher.request_model(n),
                lambda h=height: switcher.request_height(h),
                lambda s=strength: switcher.request_strength(s),
            ]
            threads = [threading.Thread(target=request, args=(change,)) for change in changes]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LIMIT)
            assert (switcher.requested_model, switcher.requested_height, switcher.strength) == (name, height, strength)
        switch(switcher, lambda: (switcher.active_model, switcher.work_height) == (name, height))
    finally:
        sys.setswitchinterval(interval)
        switcher.close()


def test_two_next_requests_are_two_steps() -> None:
    switcher = StyleSwitcher(["a", "b", "c"], open_as(Same()))
    try:
        switcher.prepare(160, 96)
        switcher.request_next_model()
        switcher.request_next_model()
        assert switcher.requested_model == "c"
        switch(switcher, lambda: switcher.active_model == "c")
        switcher.request_next_model(-1)
        assert switcher.requested_model == "b"
    finally:
        switcher.close()


def test_a_strength_applies_to_the_next_frame_also_while_a_model_opens() -> None:
    let_in, opening, opened = threading.Event(), threading.Event(), list[str]()

    def opener(name: str) -> OpenModel:
        opened.append(name)
        if name == "same":
            opening.set()
            assert let_in.wait(LIMIT)
        return BorrowedModel(name, Same() if name == "same" else Negative())

    stream = open_stream(PATTERN, ["negative", "same"], opener, options=LiveOptions(strength=0.75))
    frames = iter(stream)
    try:
        frame = next(frames)
        assert np.abs(frame.styled - (frame.source + 0.75 * (255 - 2.0 * frame.source))).max() <= 0.5
        stream.switcher.request_model("same")
        assert opening.wait(LIMIT)
        stream.switcher.request_strength(0.0)
        frame = next(frames)
        assert np.array_equal(frame.styled, frame.source) and stream.switcher.state is State.OPENING
        stream.switcher.request_strength(1.0)
        frame = next(frames)
        assert frame.model == "negative" and np.array_equal(frame.styled, 255 - frame.source)
        stream.switcher.request_strength(0.5)
        let_in.set()
        while frame.model == "negative":
            frame = next(frames)
        assert stream.switcher.strength == 0.5
        stream.switcher.request_strength(0.25)
        wait_for(lambda: not stream.switcher._requests)
        assert opened == ["negative", "same"], "no model is opened for a strength"
        for invalid in (-0.1, 1.01, float("nan")):
            with pytest.raises(ConfigError, match="strength must be from 0"):
                stream.switcher.request_strength(invalid)
        assert stream.switcher.strength == 0.25
    finally:
        let_in.set()
        stream.close()


def test_a_strength_survives_a_model_that_does_not_open() -> None:
    messages: list[str] = []

    def opener(name: str) -> OpenModel:
        if name == "absent":
            raise ModelError("no such file")
        return BorrowedModel(name, Same())

    switcher = StyleSwitcher(["same", "absent"], opener, on_message=messages.append)
    try:
        switcher.prepare(160, 96)
        switcher.request_model("absent")
        switcher.request_strength(0.5)
        wait_for(lambda: messages and switcher.requested_model == "same", "the model failed")
        assert switcher.strength == 0.5
    finally:
        switcher.close()


def test_a_height_survives_a_model_that_does_not_open() -> None:
    let_go = threading.Event()

    def opener(name: str) -> OpenModel:
        if name == "absent":
            assert let_go.wait(LIMIT)
            raise ModelError("no such file")
        return BorrowedModel(name, Same())

    switcher = StyleSwitcher(["same", "absent"], opener)
    try:
        switcher.prepare(160, 96)
        switcher.request_model("absent")
        switcher.request_height(64)
        let_go.set()
        switch(switcher, lambda: switcher.work_height == 64)
        assert switcher.active_model == switcher.requested_model == "same"
    finally:
        let_go.set()
        switcher.close()


def test_the_governor_tries_again_after_a_height_that_failed() -> None:
    function, messages, now = FixedHeight(), list[str](), [0.0]
    switcher = StyleSwitcher(["same", "other"], open_as(function), on_message=messages.append)
    try:
        switcher.prepare(160, 96)
        governor = Governor(switcher, 25, clock=lambda: now[0])

        def work(seconds: float) -> None:
            """Styles frames that take 50 ms each, on the test's clock."""
            end = now[0] + seconds
            while now[0] < end:
                switcher(FRAME)
                governor.observe(96, 0.05)
                now[0] += 0.05
                wait_for(lambda: switcher.state is not State.OPENING and not switcher._requests)

        work(60.0)
        failures = [line for line in messages if line.startswith("could not run same at height")]
        assert 2 <= len(failures) <= 6, "it tries again, each time after a longer pause"
        assert switcher.work_height is None
        switcher.request_model("other")
        switch(switcher, lambda: switcher.active_model == "other")

        function.is_fixed = False  # there is room again
        work(200.0)
        assert switcher.work_height is not None and switcher.work_height < 96
    finally:
        switcher.close()


def test_the_end_does_not_wait_for_a_model_that_is_being_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go, opening = threading.Event(), threading.Event()
    monkeypatch.setattr("cyclecast.video.live.styling.style_switcher.CLOSE_TIMEOUT_S", 0.1)

    def opener(name: str) -> OpenModel:
        if name == "slow":
            opening.set()
            let_go.wait(LIMIT)
        return BorrowedModel(name, Same())

    stream = open_stream(PATTERN, ["same", "slow"], opener)
    try:
        stream.switcher.request_model("slow")
        assert opening.wait(LIMIT)
        start = time.monotonic()
        stream.close()
        assert time.monotonic() - start < 10
    finally:
        let_go.set()


def test_a_stream_ends_after_its_seconds() -> None:
    stream = open_stream(PATTERN, ["same"], open_as(Same()), options=LiveOptions(seconds=0.5))
    try:
        frames = list(stream)
    finally:
        stream.close()
    assert 5 < len(frames) < 30


def test_a_browser_is_no_source_without_a_page() -> None:
    with pytest.raises(ConfigError, match="cyclecast live browser --sink web"):
        open_stream("browser", ["same"], open_as(Same()))
