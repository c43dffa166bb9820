"""A feed whose source can be changed while the run goes on, from any thread: what the start screen of `cyclecast ui` needs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from cyclecast.errors import CyclecastError
from cyclecast.video.live.capture.client import Capture, CapturedFrame
from cyclecast.video.live.capture.push_feed import PushFeed
from cyclecast.video.live.failure import failure_text
from cyclecast.video.live.messages import OnMessage, suppress_errors
from cyclecast.video.live.sound.feed import SoundFeed
from cyclecast.video.live.styling.stream import Feed

POLL_S = 0.1  # between two checks whether a source that is being opened is still wanted
CLOSE_TIMEOUT_S = 10.0
NO_SOURCE = "no source"

log = logging.getLogger(__name__)


class SourceSwitcher:
    """A `Feed` without a source at first. `request` opens one; the one before goes on until the new one delivers a frame.

    A source that cannot be opened is reported in one line and in `failure`, and the one before stays. One worker thread opens
    sources and closes replaced ones; a newer request replaces an older one.

    open_feed: opens a source by its address; whatever it raises is reported. A `PushFeed` is used at once, because its frames
    come only when somebody sees that it waits for them.
    """

    def __init__(self, open_feed: Callable[[str], Feed], on_message: OnMessage | None = None) -> None:
        self._open_feed, self._on_message = open_feed, suppress_errors(on_message)
        self.failure: str | None = None
        """Why the last request failed, or why its source ended; None if it did not."""
        self.sound: SoundFeed | None = None
        """Gets the sound of the current source. Set it before the first request."""
        self._request: str | None = None
        self._opening: str | None = None
        self._address: str | None = None  # of the current feed
        self._current: Feed | None = None
        self._first: CapturedFrame | None = None  # of the current feed, taken when it was opened
        self._feeds: list[Feed] = []  # all that are not closed
        self._captured = self._skipped = self._reconnects = 0  # of closed feeds, and frames dropped here
        self._base = 0  # number of the last frame before the current feed's
        self._is_closed = False
        self._changed = threading.Condition()
        self._worker = threading.Thread(target=self._work, name="source-switcher", daemon=True)
        self._worker.start()

    def request(self, address: str) -> None:
        """Requests another source. The same one again changes nothing unless it has failed."""
        with self._changed:
            self.failure = None
            self._request = address
            self._changed.notify_all()

    @property
    def opening(self) -> str | None:
        """The address of the source that is being opened; None if there is none."""
        return self._request or self._opening

    @property
    def current(self) -> Feed | None:
        """The feed that delivers the frames; None before the first."""
        return self._current

    @property
    def name(self) -> str:
        current = self._current
        return NO_SOURCE if current is None else current.name

    @property
    def captured(self) -> int:
        with self._changed:
            return self._captured + sum(feed.captured for feed in self._feeds)

    @property
    def skipped(self) -> int:
        with self._changed:
            return self._skipped + sum(feed.skipped for feed in self._feeds)

    @property
    def reconnects(self) -> int:
        with self._changed:
            return self._reconnects + sum(feed.reconnects for feed in self._feeds)

    @property
    def outage(self) -> tuple[str, float] | None:
        current = self._current
        return None if current is None else current.outage

    def take(self, seconds: float) -> CapturedFrame | None:
        """Returns the newest frame of the current source; None if none comes within `seconds`. Raises EOFError after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._current is not None or self._is_closed, seconds)
            if self._is_closed:
                raise EOFError
            current, base, first = self._current, self._base, self._first
            self._first = None
        if current is None:
            return None
        try:
            frame = first or current.take(seconds)
        except (EOFError, CyclecastError) as error:
            self._lose(current, "has ended" if isinstance(error, EOFError) else failure_text(error))
            return None
        return None if frame is None else replace(frame, number=base + frame.number)

    def _lose(self, feed: Feed, reason: str) -> None:
        """Goes on without a source that has ended. One that was replaced and closed meanwhile is none of these."""
        with self._changed:
            if feed is not self._current:
                return
            self._current = self._address = None
            self._connect_sound(feed, None)
            self.failure = f"{feed.name}: {reason}"
        self._on_message(self.failure)
        self._retire(feed)

    def busy(self, seconds: float) -> None:
        """As `Capture.busy`."""
        current = self._current
        if current is not None:
            current.busy(seconds)

    def _work(self) -> None:
        """Runs in the worker thread: opens what is requested, until the switcher is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._request is not None or self._is_closed)
                if self._is_closed:
                    return
                address, self._request = self._request, None
                if address == self._address:
                    continue
                self._opening = address
            assert address is not None
            try:
                self._open(address)
            except Exception as error:  # libraries raise whatever they like, and this thread must continue
                log.debug("could not open %s", address, exc_info=True)
                failure = "it has no frames" if isinstance(error, EOFError) else failure_text(error)
                with self._changed:
                    self.failure = failure
                self._on_message(f"could not open a source: {failure}")
            finally:
                with self._changed:
                    self._opening = None

    def _open(self, address: str) -> None:
        """Opens a source and waits for its first frame; then it replaces the current one."""
        feed, first = self._open_feed(address), None
        with self._changed:
            self._feeds.append(feed)
        try:
            while first is None and not isinstance(feed, PushFeed):
                if self._is_closed or self._request is not None:
                    return self._retire(feed)
                first = feed.take(POLL_S)
        except BaseException:
            self._retire(feed)
            raise
        with self._changed:
            previous, dropped = self._current, self._first
            self._base = self._captured + sum(each.captured for each in self._feeds if each is not feed)
            self._current, self._address, self._first = feed, address, first
            self._skipped += dropped is not None
            self._connect_sound(previous, feed)
            self._changed.notify_all()
        if previous is not None:
            self._retire(previous)
        self._on_message(f"the source is {feed.name}")

    def _connect_sound(self, previous: Feed | None, current: Feed | None) -> None:
        """Lets the current source alone fill `sound`: the sound of two sources would mix. The caller holds the lock."""
        if isinstance(previous, Capture):
            previous.sound = None
        if self.sound is not None:
            self.sound.is_present = isinstance(current, Capture) and current.has_sound
            if isinstance(current, Capture):
                current.sound = self.sound

    def _retire(self, feed: Feed) -> None:
        """Closes a feed, and keeps what it counted."""
        feed.close()
        with self._changed:
            if feed in self._feeds:
                self._feeds.remove(feed)
                self._captured += feed.captured
                self._skipped += feed.skipped
                self._reconnects += feed.reconnects

    def close(self) -> None:
        """Closes all sources, and the worker."""
        with self._changed:
            self._is_closed = True
            self._skipped += self._first is not None
            self._first = None
            self._changed.notify_all()
        self._worker.join(CLOSE_TIMEOUT_S)
        with self._changed:
            left = list(self._feeds)
        for feed in left:
            with suppress(Exception):
                self._retire(feed)


def browser_feed(feed: Feed) -> PushFeed | None:
    """Returns the feed that browsers' cameras fill, if the run has one at the moment."""
    inner = feed.current if isinstance(feed, SourceSwitcher) else feed
    return inner if isinstance(inner, PushFeed) else None
