"""JPEG after JPEG in one answer that does not end: for browsers and networks that WebRTC does not get through."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import cv2
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cyclecast.video.live.sinks.web.viewers import ProcessResult, Viewer, Viewers, sendable
from cyclecast.video.live.styling.styled_frame import StyledFrame

QUALITY = 82
STALLED = 20.0  # seconds that a viewer may take for one picture
BOUNDARY = b"picture"


class Mjpeg(Response):
    """Sends pictures as quickly as this viewer takes them. TooMany in its constructor if there is no room."""

    def __init__(self, viewers: Viewers, viewer: Viewer) -> None:
        super().__init__(media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}")
        del self.headers["content-length"]
        self._viewers, self._viewer = viewers, viewer
        viewers.add(viewer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._viewers.remove(self._viewer)
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait({sending, leaving})
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        # Each boundary is sent along with the picture before it: browsers show a picture when they have seen its end.
        start = b"--" + BOUNDARY + b"\r\n"
        with suppress(ProcessResult, asyncio.TimeoutError):
            while True:
                shown = await self._viewers.next(self._viewer)
                data = await asyncio.get_running_loop().run_in_executor(None, jpeg, shown)
                head = start + b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                body = head + data + b"\r\n--" + BOUNDARY + b"\r\n"
                start = b""
                await asyncio.wait_for(send({"type": "http.response.body", "body": body, "more_body": True}), STALLED)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def left(receive: Receive) -> None:
    """Returns when the other side has."""
    while (await receive())["type"] != "http.disconnect":
        pass


def jpeg(shown: StyledFrame) -> bytes:
    """One picture."""
    done, data = cv2.imencode(".jpg", sendable(shown), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return data.tobytes()
