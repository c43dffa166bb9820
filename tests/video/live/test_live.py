"""A live run from its source to its sinks: latency, failures, outages and a clean end."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cyclecast
from cyclecast.errors import ConfigError, InputError, OutputError
from cyclecast.video.clock import WRAP_MS, read_clock, seconds_since
from cyclecast.video.live.capture.client import Capture
from cyclecast.video.live.options import LiveOptions
from cyclecast.video.live.styling.styled_frame import StyledFrame
from tests.conftest import Negative
from tests.video.live.sessions import LIMIT, PATTERN, Collecting, Slow, open_session, run, wait_for

FAST = "pattern://160x96@120"


class Failing(Collecting):
    """Fails at its third frame."""

    name = "failing"

    def show(self, frame: StyledFrame) -> None:
        super().show(frame)
        if len(self.frames) == 3:
            raise OutputError("the device went away")


def capturing_process() -> int:
    """Returns the id of the process that captures the source."""
    if not Path("/proc/self").exists():
        pytest.skip("needs Linux's /proc")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"capture.process" in (folder / "cmdline").read_bytes():
                return int(folder.name)
        except OSError:  # it has ended
            continue
    raise AssertionError("there is no such process")


def test_every_frame_is_shown_or_counted_as_skipped() -> None:
    """Three independent counts: of the capture process, of the sinks, and of the places where frames are dropped."""
    sink = Collecting()
    report = run(sinks={"one": sink.open})
    assert report.captured == report.shown + report.skipped
    assert report.skipped >= 1, "the first frame was used for compiling"
    assert report.shown == len(sink.frames) == report.sinks[0].shown > 10
    numbers = [shown.number for shown in sink.frames]
    assert numbers == sorted(set(numbers)) and numbers[-1] <= report.captured
    assert sink.closed


@pytest.mark.parametrize("seconds", [0.0, 0.05], ids=["fast model", "slow model"])
def test_frames_are_counted_once_however_many_sinks_take_them(seconds: float) -> None:
    """One sink takes everything, one is slow, one fails: a frame is shown if any of them took it."""

    class Late(Collecting):
        def show(self, frame: StyledFrame) -> None:
            super().show(frame)
            time.sleep(0.1)

    sinks = [Collecting(), Late(), Failing()]
    report = run(function=Slow(seconds), sinks={str(number): sink.open for number, sink in enumerate(sinks)}, source=FAST)
    assert report.captured == report.shown + report.skipped
    taken = {frame.number for sink in sinks for frame in sink.frames}
    assert report.shown == len(taken)
    assert report.skipped > 10 or not seconds


def test_a_frame_that_no_sink_took_is_skipped() -> None:
    class Stuck(Collecting):
        def show(self, frame: StyledFrame) -> None:
            super().show(frame)
            time.sleep(0.25)

    sinks = [Stuck(), Stuck()]
    report = run(sinks={str(number): sink.open for number, sink in enumerate(sinks)})
    taken = {frame.number for sink in sinks for frame in sink.frames}
    assert report.shown == len(taken) < 10
    assert report.captured == report.shown + report.skipped


def test_latency_does_not_grow_with_a_model_that_is_too_slow() -> None:
    report = run(function=Slow(0.1), seconds=2.0)
    assert report.skipped > report.shown > 10
    frame = 1 / 30
    assert report.latency_ms.p50 <= report.model_ms.p50 + 1000 * 2 * frame
    assert report.quarters_ms[3] <= report.quarters_ms[0] + 1000 * frame


def test_the_reported_latency_agrees_with_the_clock_in_the_frame() -> None:
    for count, shown in enumerate(cyclecast.stream("pattern://320x240@30", "monet"), 1):
        handed = time.perf_counter()
        clock = read_clock(shown.source)
        assert clock is not None
        assert seconds_since(clock, shown.at % (WRAP_MS / 1000)) == pytest.approx(0, abs=0.001)
        styled = read_clock(shown.image)
        assert styled is None or styled == clock
        assert 0 < seconds_since(clock, handed) < LIMIT
        if count == 20:
            break


def test_the_source_learns_how_long_the_model_will_be_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    announced: list[float] = []
    monkeypatch.setattr(Capture, "busy", lambda capture, seconds: announced.append(seconds))
    slow = Slow(0.1)
    report = run(function=slow)
    assert len(announced) == slow.calls >= report.shown > 2
    assert announced[0] == 0 and all(0.08 < seconds < 0.15 for seconds in announced[2:])


def test_a_failed_sink_is_named_and_the_others_continue() -> None:
    failing, good, messages = Failing(), Collecting(), list[str]()
    report = run(sinks={"failing": failing.open, "good": good.open}, messages=messages)
    assert len(failing.frames) == 3 and failing.closed
    assert len(good.frames) > 10
    assert [one.failure for one in report.sinks] == ["the device went away", None]
    assert "failing failed and gets no more frames: the device went away" in messages


def test_the_run_ends_when_every_sink_has_failed() -> None:
    with pytest.raises(OutputError, match="failing: the device went away"):
        run(sinks={"failing": Failing().open}, seconds=LIMIT)


def test_a_blocked_sink_does_not_delay_the_others() -> None:
    let_go, shown_while_blocked = threading.Event(), list[int]()

    class Blocking(Collecting):
        def show(self, shown: StyledFrame) -> None:
            super().show(shown)
            let_go.wait(LIMIT)

    def enough(frames: list[StyledFrame]) -> bool:
        if len(frames) == 20:
            shown_while_blocked.append(len(blocking.frames))
            let_go.set()  # the end of the run waits for the blocked sink
        return len(frames) == 20

    blocking, good = Blocking(), Collecting(until=enough)
    run(sinks={"blocking": blocking.open, "good": good.open}, seconds=None)
    assert len(good.frames) >= 20
    assert shown_while_blocked == [1]
    assert max(b.number - a.number for a, b in zip(good.frames, good.frames[1:], strict=False)) <= 4


def test_the_last_frame_is_repeated_with_a_notice_during_an_outage() -> None:
    def back(frames: list[StyledFrame]) -> bool:
        repeated = [n for n, shown in enumerate(frames) if shown.notice]
        return bool(repeated) and len(frames) > repeated[-1] + 5

    sink, messages = Collecting(until=back), list[str]()
    one = open_session(sinks={"one": sink.open}, messages=messages, seconds=None)

    def kill() -> None:
        wait_for(lambda: len(sink.frames) > 5)
        os.kill(capturing_process(), signal.SIGKILL)

    threading.Thread(target=kill).start()
    report = one.run()
    repeated = next(shown for shown in sink.frames if shown.notice)
    assert repeated.notice is not None and re.fullmatch(r"the source is gone - trying again for \d+ s", repeated.notice)
    assert repeated.image.mean() < 0.7 * repeated.styled.mean()
    assert report.reconnects == 1 and report.held >= 1
    assert report.captured == report.shown + report.skipped
    assert any("is back after" in line for line in messages)


def test_a_source_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent.mp4: no such file"):
        run(source=str(tmp_path / "absent.mp4"))
    with pytest.raises(InputError, match="type pattern://WIDTHxHEIGHT@FPS"):
        run(source="pattern://large")


def test_a_model_that_fails_ends_the_run(slow_failing: Callable[[int], type[Negative]]) -> None:
    sink = Collecting()
    with pytest.raises(RuntimeError, match="the model broke"):
        run(function=slow_failing(5)(), sinks={"one": sink.open}, seconds=LIMIT)
    assert sink.closed and len(sink.frames) == 4


def test_mirror_and_split() -> None:
    plain, mirrored = Collecting(), Collecting()
    run(function=Negative(), sinks={"one": plain.open}, seconds=0.3)
    run(function=Negative(), sinks={"one": mirrored.open}, seconds=0.3, mirror=True, split=0.5)
    shown = mirrored.frames[-1]
    assert read_clock(shown.source) is None and read_clock(shown.source[:, ::-1]) is not None
    assert np.array_equal(shown.styled, 255 - shown.source)
    assert np.array_equal(shown.image[:, :70], shown.source[:, :70])
    assert np.array_equal(shown.image[:, 90:], shown.styled[:, 90:])
    assert plain.frames[-1].image is plain.frames[-1].styled


@pytest.mark.parametrize("steady", [0.0, 1.0])
def test_the_styled_frame_is_blended_with_its_source_after_smoothing(steady: float) -> None:
    weak, none = Collecting(), Collecting()
    report = run(function=Negative(), sinks={"one": weak.open}, seconds=0.3, strength=0.25, steady=steady, mirror=True, split=0.5)
    run(function=Negative(), sinks={"one": none.open}, seconds=0.3, strength=0.0, steady=steady)
    assert report.strength == 0.25
    for frame in weak.frames:
        expected = frame.source + 0.25 * (255 - 2.0 * frame.source)
        assert np.abs(frame.styled - expected).mean() < (0.6 if steady == 0 else 6)
        assert np.array_equal(frame.image[:, :70], frame.source[:, :70])
        assert np.array_equal(frame.image[:, 90:], frame.styled[:, 90:])
    assert all(np.array_equal(frame.styled, frame.source) for frame in none.frames) and none.frames


def test_an_open_model_stays_open_when_its_stream_is_left() -> None:
    with cyclecast.load("monet") as model:
        shown = next(iter(cyclecast.stream(PATTERN, model)))
        assert shown.model == "monet" and shown.image.shape == (96, 160, 3)
        assert model(shown.source).shape == shown.image.shape
        with pytest.raises(ConfigError, match="target_fps needs the name or path of a model"):
            next(iter(cyclecast.stream(PATTERN, model, options=LiveOptions(target_fps=10))))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steady": 2.0}, "steady must be from 0 to 1, got 2"),
        ({"target_fps": 0.0}, "target_fps must be above 0, got 0"),
        ({"work_height": 8}, "work_height must be at least 16, got 8"),
        ({"split": -1.0}, "split must be from 0 to 1, a share of the width, got -1"),
    ],
)
def test_invalid_options_are_an_error(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LiveOptions(**settings)  # type: ignore[arg-type]
