"""Live runs of a test pattern through functions of the test's own, into sinks that keep what they are shown."""

from __future__ import annotations

import time
from collections.abc import Callable

from cyclecast.video.frame import Image
from cyclecast.video.live.capture.client import Capture, CapturedFrame
from cyclecast.video.live.options import LiveOptions
from cyclecast.video.live.session import LiveReport, Session
from cyclecast.video.live.sinks.registry import Null, open_sink
from cyclecast.video.live.sinks.sink import SessionControls, Sink, SinkOpener
from cyclecast.video.live.styling.open_model import BorrowedModel, OpenModel
from cyclecast.video.live.styling.styled_frame import StyledFrame
from tests.conftest import Negative, Same

PATTERN = "pattern://160x96@30"
LIMIT = 30.0  # seconds that anything here may take


class Slow(Same):
    """Returns each frame unchanged, later. Counts them."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds, self.calls = seconds, 0

    def __call__(self, frame: Image) -> Image:
        self.calls += 1
        time.sleep(self._seconds)
        return frame


def take_frames(capture: Capture, count: int) -> list[CapturedFrame]:
    """Takes the next frames of a source."""
    found: list[CapturedFrame] = []
    limit = time.monotonic() + LIMIT
    while len(found) < count:
        assert time.monotonic() < limit, "no frames arrive"
        found += filter(None, [capture.take(0.1)])
    return found


class Collecting(Null):
    """Keeps the frames that it is shown; quits the run when `until` is true."""

    def __init__(self, until: Callable[[list[StyledFrame]], bool] = lambda frames: False) -> None:
        self.frames: list[StyledFrame] = []
        self.closed = False
        self._until = until

    def open(self, address: str, controls: SessionControls) -> Sink:
        self.controls = controls
        return self

    def show(self, frame: StyledFrame) -> None:
        self.frames.append(frame)
        if self._until(self.frames):
            self.controls.quit()

    def close(self) -> None:
        self.closed = True


def open_as(function: Negative) -> Callable[[str], OpenModel]:
    """Returns an opener that opens this function under every name."""
    return lambda name: BorrowedModel(name, function)


def open_session(
    function: Negative | None = None,
    sinks: dict[str, SinkOpener] | None = None,
    source: str = PATTERN,
    messages: list[str] | None = None,
    **options: object,
) -> Session:
    """Opens a session of one second that runs the source through one function into these sinks, or into null."""
    openers = sinks or {"null": open_sink}
    return Session(
        source,
        ["function"],
        open_as(function or Same()),
        list(openers),
        lambda address, controls: openers[address](address, controls),
        options=LiveOptions(**{"seconds": 1.0} | options),  # type: ignore[arg-type]
        on_message=None if messages is None else messages.append,
    )


def run(**settings: object) -> LiveReport:
    return open_session(**settings).run()  # type: ignore[arg-type]


def wait_for(condition: Callable[[], object], what: str = "it") -> None:
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit, f"never: {what}"
        time.sleep(0.01)
