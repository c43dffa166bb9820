"""What viewers see: the newest frame, for each position of their sliders. Each encoding of it is computed once for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import cv2

from cyclecast.video.frame import Image
from cyclecast.video.live.styling.styled_frame import StyledFrame
from cyclecast.video.resize import resize_image

JPEG_QUALITY = 82
MAX_SIDE = 1920  # pixels, the longer side of the frames that are sent
MAX_VIEWS = 32  # of one frame that are kept: requests may name any position


class View:
    """One frame as all viewers of one slider position see it; for one event loop."""

    def __init__(self, frame: StyledFrame) -> None:
        self.frame = frame
        self._encoded: dict[Callable[[StyledFrame], bytes], asyncio.Task[bytes]] = {}

    async def jpeg(self) -> bytes:
        """Encodes the frame as JPEG, at most `MAX_SIDE` pixels long."""
        return await self._encode(encode_jpeg)

    async def png(self) -> bytes:
        """Encodes the frame at full size, as PNG."""
        return await self._encode(encode_png)

    async def _encode(self, encode: Callable[[StyledFrame], bytes]) -> bytes:
        """Encodes in a thread, once: all calls get the same result."""
        if encode not in self._encoded:
            self._encoded[encode] = asyncio.get_running_loop().create_task(asyncio.to_thread(encode, self.frame))
        return await asyncio.shield(self._encoded[encode])  # a viewer who leaves must not cancel it for the others


class Views:
    """The views of the newest frame."""

    def __init__(self) -> None:
        self.newest: StyledFrame | None = None
        self._views: dict[float | None, View] = {}

    def put(self, frame: StyledFrame) -> None:
        """Replaces the frame. The same frame again changes nothing."""
        if frame is not self.newest:
            self.newest, self._views = frame, {}

    def view(self, split: float | None) -> View:
        """Returns the newest frame at this position of the slider, as `StyledFrame.split` does. Call it after the first `put`."""
        assert self.newest is not None
        if split not in self._views:
            if len(self._views) >= MAX_VIEWS:
                self._views.clear()
            self._views[split] = View(replace(self.newest, split=split))
        return self._views[split]


def encodable_image(frame: StyledFrame) -> Image:
    """Returns the frame as it is shown, at most `MAX_SIDE` pixels long, with even sides as video encoders require."""
    image = frame.image
    height, width = image.shape[:2]
    scale = min(1.0, MAX_SIDE / max(width, height))
    image = resize_image(image, (max(2, round(width * scale)), max(2, round(height * scale))))
    height, width = image.shape[:2]
    return image[: max(2, height & ~1), : max(2, width & ~1)]


def encode_jpeg(frame: StyledFrame) -> bytes:
    """Returns one frame as JPEG."""
    success, data = cv2.imencode(".jpg", encodable_image(frame), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert success
    return data.tobytes()


def encode_png(frame: StyledFrame) -> bytes:
    """Returns the frame as it is shown, at full size, as PNG."""
    success, data = cv2.imencode(".png", frame.image)
    assert success
    return data.tobytes()
