"""A live run from its source to its sinks: never late, never gone, and cleanly over."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import cyclecast
from cyclecast.errors import ConfigError, InputError, ModelError, OutputError
from cyclecast.video.clock import TURN, read_clock, since
from cyclecast.video.frame import Image
from cyclecast.video.live.options import LiveOptions
from cyclecast.video.live.session import LiveReport, Session
from cyclecast.video.live.sinks.registry import Null, open_sink
from cyclecast.video.live.sinks.sink import SessionControls, Sink, SinkOpener
from cyclecast.video.live.styling.stream import open_stream
from cyclecast.video.live.styling.style_switcher import BorrowedModel, OpenModel
from cyclecast.video.live.styling.styled_frame import StyledFrame
from tests.conftest import Negative, Same

PATTERN = "pattern://160x96@30"
LIMIT = 30.0  # seconds that anything here may take


class Slow(Same):
    """Gives back what it gets, later."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def __call__(self, frame: Image) -> Image:
        time.sleep(self._seconds)
        return frame


class Collecting(Null):
    """Keeps what it is shown, for the test to look at."""

    def __init__(self, until: Callable[[list[StyledFrame]], bool] = lambda shown: False) -> None:
        self.pictures: list[StyledFrame] = []
        self.closed = False
        self._until = until

    def open(self, address: str, controls: SessionControls) -> Sink:
        self.desk = controls
        return self

    def show(self, shown: StyledFrame) -> None:
        self.pictures.append(shown)
        if self._until(self.pictures):
            self.desk.quit()

    def close(self) -> None:
        self.closed = True


def lend(function: Negative) -> Callable[[str], OpenModel]:
    return lambda name: BorrowedModel(name, function)


def session(
    function: Negative | None = None,
    sinks: dict[str, SinkOpener] | None = None,
    source: str = PATTERN,
    news: list[str] | None = None,
    **options: object,
) -> Session:
    """A run of the pattern through one function into sinks of the test's own, or null."""
    openers = sinks or {"null": open_sink}
    return Session(
        source,
        ["function"],
        lend(function or Same()),
        list(openers),
        lambda address, controls: openers[address](address, controls),
        options=LiveOptions(**{"seconds": 1.0} | options),  # type: ignore[arg-type]
        on_message=None if news is None else news.append,
    )


def run(**settings: object) -> LiveReport:
    return session(**settings).run()  # type: ignore[arg-type]


def capturing_process() -> int:
    """Of the process that the source lives in, its number."""
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


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.01)


def test_every_frame_is_shown_or_counted_as_skipped() -> None:
    sink = Collecting()
    report = run(sinks={"one": sink.open})
    assert report.captured == report.shown + report.skipped
    assert report.shown == len(sink.pictures) == report.sinks[0].shown > 10
    numbers = [shown.number for shown in sink.pictures]
    assert numbers == sorted(set(numbers)) and numbers[-1] <= report.captured
    assert sink.closed


def test_latency_does_not_grow_with_a_model_that_is_too_slow() -> None:
    report = run(function=Slow(0.15), seconds=3.0)
    assert report.skipped > report.shown > 10
    frame = 1 / 30
    assert report.latency_ms.p50 <= report.model_ms.p50 + 1000 * 2 * frame
    assert report.quarters_ms[3] <= report.quarters_ms[0] + 1000 * frame


def test_the_latency_that_is_told_is_the_one_in_the_picture() -> None:
    for count, shown in enumerate(cyclecast.stream("pattern://320x240@30", "monet"), 1):
        handed = time.perf_counter()
        seen = read_clock(shown.source)
        assert seen is not None
        assert since(seen, shown.at % (TURN / 1000)) == pytest.approx(0, abs=0.001)
        styled = read_clock(shown.image)
        assert styled is None or styled == seen
        assert 0 < since(seen, handed) < LIMIT
        if count == 20:
            break


def test_frames_that_will_be_replaced_are_not_even_decoded() -> None:
    """Seen from outside: the process of the source uses less time for a slow model than for a quick one."""
    source = "pattern://1280x720@30"
    used = {}
    for name, function in (("quick", Same()), ("slow", Slow(1.0))):
        one = session(function, source=source, seconds=2.0)
        seconds: list[float] = []
        watcher = threading.Thread(target=partial(_watch, one, seconds))
        watcher.start()
        report = one.run()
        watcher.join(LIMIT)
        used[name] = seconds[0] / report.captured
    assert used["slow"] < 0.75 * used["quick"]


def _watch(one: Session, seconds: list[float]) -> None:
    """CPU time of the source's process, from its first pictures until shortly before the run ends."""
    wait_for(lambda: one.feed.captured > 2)
    stat = Path(f"/proc/{capturing_process()}/stat")

    def ticks() -> int:
        fields = stat.read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    begin = ticks()
    wait_for(lambda: one.meter.seconds >= 1.5 or one.feed.captured > 70)
    seconds.append((ticks() - begin) / os.sysconf("SC_CLK_TCK"))


def test_another_model_is_opened_beside_the_one_at_work() -> None:
    let_in, opened, closed = threading.Event(), threading.Event(), threading.Event()

    class Second(BorrowedModel):
        def close(self) -> None:
            closed.set()

    class First(BorrowedModel):
        def close(self) -> None:
            closed.set()

    def opener(name: str) -> OpenModel:
        if name == "negative":
            opened.set()
            assert let_in.wait(LIMIT)
            return Second(name, Negative())
        return First(name, Same())

    stream = open_stream(PATTERN, ["same", "negative"], opener)
    frames = iter(stream)
    try:
        assert next(frames).model == "same"
        stream.switcher.request_next_model()
        assert opened.wait(LIMIT)
        during = [next(frames) for _ in range(10)]
        assert {shown.model for shown in during} == {"same"}
        assert max(b.number - a.number for a, b in zip(during, during[1:], strict=False)) <= 3
        let_in.set()
        shown = next(frames)
        while shown.model == "same":
            shown = next(frames)
        assert np.array_equal(shown.image, 255 - shown.source)
        assert closed.wait(LIMIT)
    finally:
        let_in.set()
        stream.close()


def test_a_model_that_does_not_open_leaves_the_one_at_work() -> None:
    news: list[str] = []

    def opener(name: str) -> OpenModel:
        if name == "absent":
            raise ModelError("absent: no such file")
        return BorrowedModel(name, Same())

    stream = open_stream(PATTERN, ["same", "absent"], opener, on_message=news.append)
    try:
        stream.switcher.request_model("absent")
        wait_for(lambda: any("absent" in line for line in news))
        wait_for(lambda: stream.switcher.requested_model == stream.switcher.active_model == "same")
        assert next(iter(stream)).model == "same"
        with pytest.raises(ConfigError, match="no model 'other' was given; expected one of: same, absent"):
            stream.switcher.request_model("other")
    finally:
        stream.close()
    assert "could not load absent (absent: no such file); keeping same" in news


class Failing(Collecting):
    """Fails at its third picture."""

    name = "failing"

    def show(self, shown: StyledFrame) -> None:
        super().show(shown)
        if len(self.pictures) == 3:
            raise OutputError("the device went away")


def test_a_sink_that_fails_is_named_and_the_others_go_on() -> None:
    failing, good, news = Failing(), Collecting(), list[str]()
    report = run(sinks={"failing": failing.open, "good": good.open}, news=news)
    assert len(failing.pictures) == 3 and failing.closed
    assert len(good.pictures) > 10
    assert [one.failure for one in report.sinks] == ["the device went away", None]
    assert "failing failed and gets no more frames: the device went away" in news


def test_without_a_sink_that_works_the_run_is_over() -> None:
    with pytest.raises(OutputError, match="failing: the device went away"):
        run(sinks={"failing": Failing().open}, seconds=LIMIT)


def test_a_sink_that_blocks_holds_up_nobody() -> None:
    let_go = threading.Event()

    class Blocking(Collecting):
        def show(self, shown: StyledFrame) -> None:
            super().show(shown)
            let_go.wait(LIMIT)

    blocking, good = Blocking(), Collecting(until=lambda pictures: len(pictures) == 20)
    threading.Timer(2.0, let_go.set).start()
    report = run(sinks={"blocking": blocking.open, "good": good.open}, seconds=None)
    assert len(good.pictures) >= 20
    assert report.sinks[0].shown <= 2
    assert max(b.number - a.number for a, b in zip(good.pictures, good.pictures[1:], strict=False)) <= 4


def test_a_source_that_is_gone_is_held_with_a_notice_and_comes_back() -> None:
    def back(pictures: list[StyledFrame]) -> bool:
        held = [n for n, shown in enumerate(pictures) if shown.notice]
        return bool(held) and len(pictures) > held[-1] + 5

    sink, news = Collecting(until=back), list[str]()
    one = session(sinks={"one": sink.open}, news=news, seconds=None)

    def kill() -> None:
        wait_for(lambda: len(sink.pictures) > 5)
        os.kill(capturing_process(), signal.SIGKILL)

    threading.Thread(target=kill).start()
    report = one.run()
    held = next(shown for shown in sink.pictures if shown.notice)
    assert held.notice == f"{PATTERN} is gone - trying again for {held.notice.rpartition('for ')[2]}"  # type: ignore[union-attr]
    assert held.image.mean() < 0.7 * held.styled.mean()
    assert report.reconnects == 1 and report.held >= 1
    assert report.captured == report.shown + report.skipped
    assert any("is back after" in line for line in news)


def test_a_source_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent.mp4: no such file"):
        run(source=str(tmp_path / "absent.mp4"))
    with pytest.raises(InputError, match="a pattern is pattern://WIDTHxHEIGHT@FPS"):
        run(source="pattern://large")


def test_a_model_that_fails_ends_the_run(slow_failing: Callable[[int], type[Negative]]) -> None:
    sink = Collecting()
    with pytest.raises(RuntimeError, match="the model broke"):
        run(function=slow_failing(5)(), sinks={"one": sink.open}, seconds=LIMIT)
    assert sink.closed and len(sink.pictures) == 4


def test_mirror_and_split() -> None:
    plain, mirrored = Collecting(), Collecting()
    run(function=Negative(), sinks={"one": plain.open}, seconds=0.3)
    run(function=Negative(), sinks={"one": mirrored.open}, seconds=0.3, mirror=True, split=0.5)
    shown = mirrored.pictures[-1]
    assert read_clock(shown.source) is None and read_clock(shown.source[:, ::-1]) is not None
    assert np.array_equal(shown.styled, 255 - shown.source)
    assert np.array_equal(shown.image[:, :70], shown.source[:, :70])
    assert np.array_equal(shown.image[:, 90:], shown.styled[:, 90:])
    assert plain.pictures[-1].image is plain.pictures[-1].styled


def test_snapshot_and_recording_from_the_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sink = Collecting()
    one = session(sinks={"one": sink.open}, seconds=None)
    with pytest.raises(OutputError, match="there is no frame yet"):
        one.snapshot()

    def press() -> None:
        wait_for(lambda: len(sink.pictures) > 2)
        one.snapshot()
        one.set_recording(True)
        count = len(sink.pictures)
        wait_for(lambda: len(sink.pictures) > count + 15)
        one.set_recording(False)
        one.quit()

    thread = threading.Thread(target=press)
    thread.start()
    report = one.run()
    thread.join(LIMIT)
    (snapshot,), (film,) = tmp_path.glob("*.png"), tmp_path.glob("*.mp4")
    from cyclecast.video.files.images import read_image
    from cyclecast.video.files.reader import VideoFile

    assert read_clock(read_image(snapshot)) is not None
    with VideoFile(film) as video:
        assert len(list(video)) == next(one.shown for one in report.sinks if one.name == film.name) >= 10


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
def test_options_that_cannot_be(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LiveOptions(**settings)  # type: ignore[arg-type]


def test_a_recording_that_fails_is_over_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sink, news = Collecting(), list[str]()
    one = session(sinks={"one": sink.open}, news=news, seconds=None)

    def press() -> None:
        wait_for(lambda: len(sink.pictures) > 2)
        film = one.set_recording(True)
        assert film is not None
        film.unlink()
        film.mkdir()  # nothing can be written there any more
        wait_for(lambda: one.recording is None)
        count = len(sink.pictures)
        wait_for(lambda: len(sink.pictures) > count + 5)
        one.quit()

    thread = threading.Thread(target=press)
    thread.start()
    report = one.run()
    thread.join(LIMIT)
    assert [found.failure is None for found in report.sinks] == [True, False]
    assert any("failed and gets no more frames" in line for line in news)


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
        began = time.monotonic()
        stream.close()
        assert time.monotonic() - began < 10
    finally:
        let_go.set()
