"""The video as JPEG after JPEG in one endless response: for browsers and networks without WebRTC."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cyclecast.video.live.sinks.web.viewers import NoMoreFrames, Viewer, Viewers

SEND_TIMEOUT_S = 20.0  # for one frame, after which the viewer is disconnected
BOUNDARY = b"frame"


class MjpegResponse(Response):
    """Sends frames as fast as this viewer receives them. TooManyViewers from the constructor if there is no room.

    max_bitrate: bits per second, at most; frames are skipped for it. None: no limit.
    """

    def __init__(self, viewers: Viewers, viewer: Viewer, max_bitrate: float | None = None) -> None:
        super().__init__(media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}")
        del self.headers["content-length"]
        self._viewers, self._viewer, self._max_bitrate = viewers, viewer, max_bitrate
        viewers.add(viewer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs until the viewer disconnects or the run ends."""
        sending = asyncio.ensure_future(self._send(send))
        disconnected = asyncio.ensure_future(wait_for_disconnect(receive))
        try:
            await asyncio.wait({sending, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._viewers.remove(self._viewer)
            for task in (sending, disconnected):
                task.cancel()
            await asyncio.wait({sending, disconnected})
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        # Send each boundary together with the frame before it: browsers show a frame once they see its end.
        opening = b"--" + BOUNDARY + b"\r\n"
        with suppress(NoMoreFrames, asyncio.TimeoutError):
            while True:
                data = await (await self._viewers.next_view(self._viewer)).jpeg()
                header = opening + b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                body = header + data + b"\r\n--" + BOUNDARY + b"\r\n"
                opening = b""
                due = asyncio.get_running_loop().time() + (8 * len(body) / self._max_bitrate if self._max_bitrate else 0)
                await asyncio.wait_for(send({"type": "http.response.body", "body": body, "more_body": True}), SEND_TIMEOUT_S)
                await asyncio.sleep(due - asyncio.get_running_loop().time())
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def wait_for_disconnect(receive: Receive) -> None:
    """Returns when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
