"""Who is watching, and the newest picture for each: everybody takes it when ready, and nobody waits for another."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Literal

from cyclecast.video.frame import Image
from cyclecast.video.live.styling.styled_frame import StyledFrame
from cyclecast.video.resize import resized

MOST = 16  # viewers at a time
LARGEST = 1920  # pixels, the longer side of what is sent


class TooMany(Exception):
    """There is no room for another viewer."""


class ProcessResult(Exception):
    """There are no more pictures."""


@dataclass(eq=False)
class Viewer:
    """One that watches. `id` is the viewer's own word for itself, by which it moves its slider."""

    id: str
    kind: Literal["webrtc", "mjpeg"]
    split: float | None
    due: asyncio.Event = field(default_factory=asyncio.Event)
    """There is something to send: a new picture, or the slider was moved."""


class Viewers:
    """All of them; for one event loop."""

    def __init__(self) -> None:
        self.newest: StyledFrame | None = None
        self._all: set[Viewer] = set()
        self._ended = False

    def put(self, shown: StyledFrame) -> None:
        """A new picture, or a held one with its notice."""
        self.newest = shown
        for viewer in self._all:
            viewer.due.set()

    def end(self) -> None:
        """Nothing comes any more; wakes all who wait."""
        self._ended = True
        for viewer in self._all:
            viewer.due.set()

    def has(self, id: str) -> bool:
        """Whether one of this id is watching."""
        return any(viewer.id == id for viewer in self._all)

    def count(self, kind: str) -> int:
        return sum(viewer.kind == kind for viewer in self._all)

    def add(self, viewer: Viewer) -> None:
        """It takes the place of an older one of its id. TooMany if there is no room."""
        for older in [other for other in self._all if viewer.id and other.id == viewer.id]:
            self.remove(older)
            older.due.set()
        if len(self._all) >= MOST:
            raise TooMany(f"{MOST} viewers are the most; close another page")
        self._all.add(viewer)
        if self.newest is not None or self._ended:
            viewer.due.set()

    def remove(self, viewer: Viewer) -> None:
        """As often as anybody likes."""
        self._all.discard(viewer)

    def move(self, id: str, split: float | None) -> bool:
        """Moves the slider of whoever has this id; False if nobody has."""
        found = [viewer for viewer in self._all if viewer.id == id]
        for viewer in found:
            viewer.split = split
            viewer.due.set()
        return bool(found)

    async def next(self, viewer: Viewer) -> StyledFrame:
        """The newest picture with the viewer's split, as soon as it is not what was given last. Ended if there are no more."""
        while True:
            await viewer.due.wait()
            viewer.due.clear()
            if self._ended or viewer not in self._all:
                raise ProcessResult
            if self.newest is not None:
                return replace(self.newest, split=viewer.split)


def sendable(shown: StyledFrame) -> Image:
    """What to show, within the largest size, its sides even as encoders want them."""
    image = shown.image
    height, width = image.shape[:2]
    scale = min(1.0, LARGEST / max(width, height))
    image = resized(image, (max(2, round(width * scale)), max(2, round(height * scale))))
    height, width = image.shape[:2]
    return image[: max(2, height & ~1), : max(2, width & ~1)]
