"""A live run with the web page as its sink, on a free port of this machine, for tests to visit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from cyclecast.errors import ModelError
from cyclecast.video.clock import read_clock, seconds_since
from cyclecast.video.frame import Image
from cyclecast.video.live.capture.source_switcher import SourceSwitcher
from cyclecast.video.live.options import LiveOptions
from cyclecast.video.live.session import Session
from cyclecast.video.live.sinks.sink import SessionControls, Sink
from cyclecast.video.live.sinks.web_options import WebOptions
from cyclecast.video.live.styling.open_model import BorrowedModel
from tests.conftest import Negative, Same
from tests.waiting import LIMIT, eventually

pytest.importorskip("aiortc", reason="needs the extra web")

from cyclecast.video.live.sinks.web import WebPage, connections  # noqa: E402
from cyclecast.video.live.sinks.web.address import listen, parse_address  # noqa: E402
from cyclecast.video.live.sinks.web.start_screen import StartScreen  # noqa: E402
from cyclecast.video.live.sinks.web.viewers import MAX_VIEWERS  # noqa: E402

__all__ = [
    "LIMIT",
    "MAX_VIEWERS",
    "WebPage",
    "connections",
    "eventually",
    "listen",
    "parse_address",
]  # for tests that need the extra

PATTERN = "pattern://320x240@15"
LOOPBACK = "web://127.0.0.1:0"


class Swapped(Negative):
    """Swaps red and blue: easy to see, and the gray clock stays readable."""

    def __call__(self, frame: Image) -> Image:
        return frame[..., ::-1].copy()


STYLES: dict[str, type[Negative]] = {"same": Same, "swapped": Swapped, "negative": Negative}


@dataclass
class Served:
    """A live run with its page: its state and its controls, as the page uses them."""

    session: Session
    page: WebPage
    messages: list[str]
    client: httpx.Client
    running: threading.Thread

    def end(self) -> None:
        """Ends the run, as Ctrl-C does."""
        self.session.quit()
        self.running.join(LIMIT)
        assert not self.running.is_alive()

    @property
    def origin(self) -> str:
        return self.page.url.partition("?")[0].rstrip("/")

    def state(self, viewer: str = "") -> Any:
        return self.client.get("/api/state", params={"viewer": viewer}).json()

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.client.post(path, json=body, headers={"Origin": self.origin})

    def viewers(self) -> int:
        return int(self.state()["viewers"])


@contextmanager
def serving(
    source: str | SourceSwitcher = PATTERN,
    styles: Sequence[str] = ("same", "swapped"),
    address: str = LOOPBACK,
    web_options: WebOptions | None = None,
    screen: StartScreen | None = None,
    **options: Any,
) -> Iterator[Served]:
    """Runs while the context lasts; waits for the first frame unless the source is a browser, or chosen on the page."""
    pages: list[WebPage] = []
    messages: list[str] = []

    def open_sink(address: str, controls: SessionControls) -> Sink:
        pages.append(WebPage(address, controls, web_options, screen=screen))
        return pages[0]

    def opener(name: str) -> BorrowedModel:
        if name not in STYLES:
            raise ModelError(f"{name}: no such file")
        return BorrowedModel(name, STYLES[name]())

    session = Session(source, styles, opener, [address], open_sink, None, LiveOptions(**options), messages.append)
    running = threading.Thread(target=session.run)
    running.start()
    try:
        with httpx.Client(base_url=pages[0].url.partition("?")[0], timeout=LIMIT, trust_env=False) as client:
            served = Served(session, pages[0], messages, client, running)
            if source != "browser" and screen is None:
                eventually(lambda: session.newest is not None, "a first frame")
            yield served
    finally:
        session.quit()
        running.join(LIMIT)
        assert not running.is_alive()


def age(image: Image) -> float:
    """Returns the seconds since the capture of the frame, by the clock in it."""
    clock = read_clock(image)
    assert clock is not None, "the clock cannot be read"
    return seconds_since(clock, time.perf_counter())


def is_swapped(image: Image) -> bool:
    """Returns whether the sky of the pattern, which is blue, is red."""
    blue, _, red = image[: image.shape[0] // 4].reshape(-1, 3).mean(0)
    return bool(red > blue)
