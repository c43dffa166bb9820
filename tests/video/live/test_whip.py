"""WHIP: a WebRTC server gets frames with their clocks and sound, if the token is right."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cyclecast.video.clock import read_clock
from cyclecast.video.live.sinks.network.address import parse_output
from cyclecast.video.live.sinks.network.settings import StreamSettings
from tests.video.live.sessions import LIMIT, wait_for
from tests.video.live.test_outputs import session_to
from tests.video.live.test_recording import run_with

aiortc = pytest.importorskip("aiortc")

TOKEN = "whip-token-0815"


class WhipServer:
    """Answers offers with the right token at /whip, and decodes what arrives."""

    def __init__(self) -> None:
        self.clocks: list[tuple[float, float]] = []
        """(time in the frame, time of the frame), in seconds."""
        self.sound = 0
        """Frames of sound."""
        self.ended: list[str] = []
        """Paths of the sessions that the sender ended."""
        self._connections: list[Any] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                offer = self.rfile.read(int(self.headers["Content-Length"])).decode()
                is_allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}" and self.path == "/whip"
                status = 302 if self.path == "/moved" else 201 if is_allowed else 401
                answer = owner.run(owner.answer(offer)) if is_allowed else ""
                self.send_response(status)
                self.send_header("Location", "/sessions/1" if status == 201 else "/whip")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer.encode())

            def do_DELETE(self) -> None:
                if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                    owner.ended.append(self.path)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}/whip"
        threading.Thread(target=self._server.serve_forever).start()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT)

    async def answer(self, offer: str) -> str:
        connection = aiortc.RTCPeerConnection()
        self._connections.append(connection)
        connection.on("track", lambda track: asyncio.ensure_future(self._receive(track)))
        await connection.setRemoteDescription(aiortc.RTCSessionDescription(offer, "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        return str(connection.localDescription.sdp)

    async def _receive(self, track: Any) -> None:
        while True:
            try:
                frame = await track.recv()
            except aiortc.mediastreams.MediaStreamError:
                return
            if isinstance(frame, av.VideoFrame):
                clock = read_clock(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8))
                if clock is not None:
                    self.clocks.append((clock, float(frame.time or 0)))
            else:
                self.sound += 1

    async def _close(self) -> None:
        for connection in self._connections:
            await connection.close()
        await asyncio.sleep(0)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT)
        self._loop.close()


@pytest.fixture
def server() -> Iterator[WhipServer]:
    server = WhipServer()
    try:
        yield server
    finally:
        server.close()


def test_a_whip_server_gets_frames_and_sound_if_the_token_is_right(server: WhipServer, tmp_path: Path) -> None:
    messages: list[str] = []
    right, wrong = f"whip://{server.address}#token={TOKEN}", f"whip://{server.address}#token=wrong-{TOKEN}"
    tone = "lavfi:sine=frequency=440:sample_rate=48000,arealtime"
    moved = right.replace("/whip#", "/moved#")
    session = session_to(right, wrong, moved, messages=messages, audio=tone)
    report = run_with(session, lambda: wait_for(lambda: len(server.clocks) > 20 and server.sound > 20, "frames and sound"))
    assert [sink.failure is None for sink in report.sinks] == [True, False, False]
    assert "the server rejects the token (401); type #token=TOKEN" in str(report.sinks[1].failure)
    assert report.sinks[2].failure == "the server redirects to another address (302); type that one", "which may be anybody's"
    first = server.clocks[0]
    assert all(abs((clock - first[0]) - (time - first[1])) < 0.005 for clock, time in server.clocks)
    assert server.ended == ["/sessions/1"]
    assert TOKEN not in "\n".join(messages) + repr(report)


def test_the_token_of_whip_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLECAST_WHIP_TOKEN", TOKEN)
    output = parse_output("whip+https://h/x?y=1", StreamSettings())
    assert (output.url, output.options) == ("https://h/x?y=1", {"token": TOKEN})
    assert parse_output("whip://h/x#token=other", StreamSettings()).options == {"token": "other"}
