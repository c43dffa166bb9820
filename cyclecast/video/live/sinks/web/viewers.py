"""Who is watching, and the newest frame for each: every viewer takes it when ready, and none waits for another."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Literal

from cyclecast.video.frame import Image
from cyclecast.video.live.styling.styled_frame import StyledFrame
from cyclecast.video.resize import resize_image

MAX_VIEWERS = 16  # at the same time
MAX_SIDE = 1920  # pixels, the longer side of the frames that are sent

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
    has_update: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is something to send: a new frame, or the slider has moved."""


class Viewers:
    """All viewers; for one event loop."""

    def __init__(self) -> None:
        self.newest: StyledFrame | None = None
        self._viewers: set[Viewer] = set()
        self._closed = False

    def put(self, frame: StyledFrame) -> None:
        """Stores a new frame, or the last one again with a notice, and wakes all viewers."""
        self.newest = frame
        for viewer in self._viewers:
            viewer.has_update.set()

    def close(self) -> None:
        """Ends the video for all viewers."""
        self._closed = True
        for viewer in self._viewers:
            viewer.has_update.set()

    def is_watching(self, id: str) -> bool:
        """Whether a viewer of this id is connected."""
        return any(viewer.id == id for viewer in self._viewers)

    def count(self, transport: Transport) -> int:
        """Returns the number of viewers on this transport."""
        return sum(viewer.transport == transport for viewer in self._viewers)

    def add(self, viewer: Viewer) -> None:
        """Adds a viewer; it replaces an older connection with the same id. TooManyViewers if there is no room."""
        for older in [other for other in self._viewers if viewer.id and other.id == viewer.id]:
            self.remove(older)
            older.has_update.set()
        if len(self._viewers) >= MAX_VIEWERS:
            raise TooManyViewers(f"there are {MAX_VIEWERS} viewers already; close another page")
        self._viewers.add(viewer)
        if self.newest is not None or self._closed:
            viewer.has_update.set()

    def remove(self, viewer: Viewer) -> None:
        """Removes a viewer; does nothing if it is not there."""
        self._viewers.discard(viewer)

    def set_split(self, id: str, split: float | None) -> bool:
        """Moves the slider of the viewer with this id; False if there is none."""
        found = [viewer for viewer in self._viewers if viewer.id == id]
        for viewer in found:
            viewer.split = split
            viewer.has_update.set()
        return bool(found)

    async def next_frame(self, viewer: Viewer) -> StyledFrame:
        """Waits for a new frame or a moved slider; returns the newest frame with the viewer's split. NoMoreFrames at the end."""
        while True:
            await viewer.has_update.wait()
            viewer.has_update.clear()
            if self._closed or viewer not in self._viewers:
                raise NoMoreFrames
            if self.newest is not None:
                return replace(self.newest, split=viewer.split)


def encodable_image(frame: StyledFrame) -> Image:
    """Returns the frame as it is shown, at most `MAX_SIDE` pixels long, with even sides as video encoders require."""
    image = frame.image
    height, width = image.shape[:2]
    scale = min(1.0, MAX_SIDE / max(width, height))
    image = resize_image(image, (max(2, round(width * scale)), max(2, round(height * scale))))
    height, width = image.shape[:2]
    return image[: max(2, height & ~1), : max(2, width & ~1)]
