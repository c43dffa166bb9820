"""Who is watching, and the newest frame for each: every viewer takes it when ready, and none waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from cyclecast.video.live.sinks.web.view import View, Views
from cyclecast.video.live.sinks.web_options import DEFAULT_MAX_VIEWERS
from cyclecast.video.live.styling.styled_frame import StyledFrame

MAX_VIEWERS = DEFAULT_MAX_VIEWERS

Transport = Literal["webrtc", "mjpeg"]


class TooManyViewers(Exception):
    """There is no room for another viewer."""


class NoMoreFrames(Exception):
    """The run has ended, or another connection of this viewer has replaced this one."""


@dataclass(eq=False)
class Viewer:
    """One connection that receives the video. `id` is the page's own random id, by which it moves its slider."""

    id: str
    transport: Transport
    split: float | None
    follows_run: bool = False
    """Whether `split` is that of the run, as windows and recordings show it."""
    has_update: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is something to send: a new frame, or the slider has moved."""
    on_change: Callable[[], None] | None = None
    """Called when the slider has moved or the viewer was removed."""

    def wake(self) -> None:
        """Reports a change."""
        self.has_update.set()
        if self.on_change is not None:
            self.on_change()


class Viewers:
    """All viewers; for one event loop."""

    def __init__(self, max_viewers: int = MAX_VIEWERS) -> None:
        self.max_viewers = max_viewers
        self.views = Views()
        self.listeners: set[asyncio.Event] = set()
        """Set for each new frame, besides those of the viewers."""
        self._viewers: set[Viewer] = set()
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Returns whether the video has ended."""
        return self._closed

    def is_present(self, viewer: Viewer) -> bool:
        """Returns whether this viewer was added and not removed."""
        return viewer in self._viewers

    def put(self, frame: StyledFrame) -> None:
        """Stores a new frame, or the last one again with a notice, and wakes all viewers."""
        self.views.put(frame)
        for viewer in list(self._viewers):
            if viewer.follows_run and viewer.split != frame.split:
                viewer.split = frame.split
                viewer.wake()
        self._wake_all()

    def close(self) -> None:
        """Ends the video for all viewers."""
        self._closed = True
        self._wake_all()

    def _wake_all(self) -> None:
        for event in (*self.listeners, *(viewer.has_update for viewer in self._viewers)):
            event.set()

    def is_watching(self, id: str) -> bool:
        """Returns whether a viewer of this id is connected."""
        return any(viewer.id == id for viewer in self._viewers)

    def count(self, transport: Transport) -> int:
        """Returns the number of viewers on this transport."""
        return sum(viewer.transport == transport for viewer in self._viewers)

    def add(self, viewer: Viewer) -> None:
        """Adds a viewer; it replaces an older connection with the same id. TooManyViewers if there is no room."""
        for older in [other for other in self._viewers if viewer.id and other.id == viewer.id]:
            self.remove(older)
        if len(self._viewers) >= self.max_viewers:
            raise TooManyViewers(f"there are {self.max_viewers} viewers already; close another page")
        self._viewers.add(viewer)
        if viewer.follows_run and self.views.newest is not None:
            viewer.split = self.views.newest.split
        if self.views.newest is not None or self._closed:
            viewer.has_update.set()

    def remove(self, viewer: Viewer) -> None:
        """Removes a viewer and ends its video; does nothing if it is absent."""
        if viewer in self._viewers:
            self._viewers.discard(viewer)
            viewer.wake()

    def set_split(self, id: str, split: float | None) -> bool:
        """Moves the slider of the viewer with this id; False if there is none."""
        found = [viewer for viewer in self._viewers if viewer.id == id]
        for viewer in found:
            viewer.split = split
            viewer.wake()
        return bool(found)

    async def next_view(self, viewer: Viewer) -> View:
        """Waits for a new frame or a moved slider; returns what the viewer sees. NoMoreFrames at the end."""
        while True:
            await viewer.has_update.wait()
            viewer.has_update.clear()
            if self._closed or viewer not in self._viewers:
                raise NoMoreFrames
            if self.views.newest is not None:
                return self.views.view(viewer.split)
