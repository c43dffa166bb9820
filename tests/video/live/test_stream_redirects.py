"""A hostile server leads FFmpeg neither to addresses of this machine nor to local files, and lists are named as what they are."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest

from cyclecast.errors import InputError
from cyclecast.video.live.sources import relay
from cyclecast.video.live.sources.network import open_stream
from cyclecast.video.live.sources.source import CaptureSettings
from cyclecast.video.scene import Scene
from tests.video.live.streams import Sender

PUBLIC, THIS_MACHINE = "127.0.0.2", "127.0.0.1"  # the first one stands for an address on the internet


@pytest.fixture(autouse=True)
def public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with socket.socket() as probe:
            probe.bind((PUBLIC, 0))
    except OSError:
        pytest.skip(f"{PUBLIC} is no address of this machine")
    reach = relay.reach
    monkeypatch.setattr(relay, "reach", lambda address: 2 if str(address) == PUBLIC else reach(address))


class Server:
    """An HTTP server: its answers, and the paths that were asked for."""

    def __init__(self, host: str) -> None:
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.server = ThreadingHTTPServer((host, 0), self._handler())
        self.port = self.server.server_address[1]
        self.url = f"http://{host}:{self.port}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner.asked.append(self.path)
                status, headers, body = owner.pages.get(self.path, (404, {}, b""))
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@contextmanager
def serving(host: str) -> Iterator[Server]:
    server = Server(host)
    thread = threading.Thread(target=server.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.server.shutdown()
        thread.join()
        server.server.server_close()


@pytest.fixture
def hostile() -> Iterator[Server]:
    with serving(PUBLIC) as server:
        yield server


@pytest.fixture
def victim(clip: Path) -> Iterator[Server]:
    """A service that only this machine reaches."""
    with serving(THIS_MACHINE) as server:
        server.pages["/admin"] = (200, {}, clip.read_bytes())
        yield server


ONCE = CaptureSettings(loop=False)


def playlist(*segments: str, key: str = "") -> bytes:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", *([f'#EXT-X-KEY:METHOD=AES-128,URI="{key}"'] if key else [])]
    return "\n".join([*lines, *(line for segment in segments for line in ("#EXTINF:1,", segment)), "#EXT-X-ENDLIST", ""]).encode()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_this_machine_is_refused(hostile: Server, victim: Server, status: int) -> None:
    hostile.pages["/video.mp4"] = (status, {"Location": f"{victim.url}/admin"}, b"")
    with pytest.raises(
        InputError,
        match=rf"leads to {THIS_MACHINE}, which is nearer than the address that you typed; if you trust it, type that one$",
    ):
        open_stream(f"{hostile.url}/video.mp4", ONCE)
    assert victim.asked == []


def test_no_proxy_makes_no_exception(hostile: Server, victim: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    hostile.pages["/video.mp4"] = (302, {"Location": f"{victim.url}/admin"}, b"")
    with pytest.raises(InputError):
        open_stream(f"{hostile.url}/video.mp4", ONCE)
    assert victim.asked == []


@pytest.mark.parametrize("how", ["a segment", "a key", "a playlist", "a redirected segment"])
def test_a_playlist_leads_to_nothing_on_this_machine(hostile: Server, victim: Server, how: str) -> None:
    hostile.pages["/moved.ts"] = (302, {"Location": f"{victim.url}/admin"}, b"")
    hostile.pages["/a.ts"] = (200, {}, b"\x47" + b"\0" * 187)
    hostile.pages["/live.m3u8"] = (
        200,
        {"Content-Type": "application/vnd.apple.mpegurl"},
        {
            "a segment": playlist(f"{victim.url}/admin.ts"),
            "a key": playlist(f"{hostile.url}/a.ts", key=f"{victim.url}/key"),
            "a playlist": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{victim.url}/other.m3u8\n".encode(),
            "a redirected segment": playlist(f"{hostile.url}/moved.ts"),
        }[how],
    )
    with pytest.raises(InputError):
        open_stream(f"{hostile.url}/live.m3u8", ONCE)
    assert victim.asked == []


def test_local_files_are_no_part_of_a_stream(hostile: Server, clip: Path) -> None:
    hostile.pages["/live.m3u8"] = (200, {}, playlist(f"file://{clip}"))
    hostile.pages["/list"] = (200, {}, f"ffconcat version 1.0\nfile '{clip}'\n".encode())
    for path in ("/live.m3u8", "/list"):
        with pytest.raises(InputError):
            open_stream(hostile.url + path, ONCE)


def test_redirects_between_public_addresses_and_ordinary_streams_work(hostile: Server, clip: Path) -> None:
    hostile.pages["/moved.mp4"] = (302, {"Location": f"{hostile.url}/video.mp4"}, b"")
    hostile.pages["/video.mp4"] = (200, {}, clip.read_bytes())
    source = open_stream(f"{hostile.url}/moved.mp4", ONCE)
    assert len([frame.decode() for frame in source.pending_frames]) == 12


def test_who_types_an_address_of_this_machine_may_be_redirected_there(victim: Server) -> None:
    victim.pages["/moved"] = (302, {"Location": f"{victim.url}/admin"}, b"")
    assert "64x48" in open_stream(f"{victim.url}/moved", ONCE).description


def test_errors_of_a_server_stay_as_they_are(hostile: Server) -> None:
    with pytest.raises(InputError, match="the server has no stream at this path"):
        open_stream(f"{hostile.url}/nothing", ONCE)
    with socket.socket() as free:
        free.bind((PUBLIC, 0))
        with pytest.raises(InputError, match="connection refused"):
            open_stream(f"http://{PUBLIC}:{free.getsockname()[1]}/video", ONCE)


@pytest.mark.parametrize(
    ("protocol", "path"), [("rtsp", "/live"), ("http", "/stream.ts"), ("http", "/mjpeg"), ("http", "/hls/live.m3u8")]
)
def test_honest_servers_are_received_through_the_relay(protocol: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "reach", lambda address: 2)
    relay.http_proxy.cache_clear()
    with Sender(protocol) as sender:
        assert relay.guard(sender.address(path))[2] is not None
        for _ in range(50):  # until the first segment of HLS is there
            try:
                source = open_stream(sender.address(path), ONCE)
                break
            except InputError:
                time.sleep(0.1)
        assert all(next(source.pending_frames).decode().shape[2] == 3 for _ in range(5))


def test_a_camera_is_reached_through_the_proxy_of_the_user(victim: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    image = cv2.imencode(".jpg", Scene(96, 64).draw(0))[1].tobytes()
    victim.pages["http://camera.invalid/snapshot.jpg"] = 200, {"Content-Type": "image/jpeg"}, image
    monkeypatch.setenv("http_proxy", victim.url)
    source = open_stream("http://camera.invalid/snapshot.jpg", ONCE)
    assert "96x64 a JPEG image" in source.description
    assert next(source.pending_frames).decode().shape == (64, 96, 3)


@pytest.mark.parametrize("before", [b"", b"$\0\0\0", b"\r\n"])
def test_an_rtsp_server_redirects_to_nothing(victim: Server, before: bytes) -> None:
    asked: list[bytes] = []

    def answer(listening: socket.socket) -> None:
        client, _ = listening.accept()
        with client:
            asked.append(client.recv(4096))
            client.sendall(
                before + f"RTSP/1.0 302 Moved\r\nCSeq: 1\r\nLocation: rtsp://{THIS_MACHINE}:{victim.port}/x\r\n\r\n".encode()
            )
            client.settimeout(2)
            client.recv(4096)

    with socket.create_server((PUBLIC, 0)) as listening:
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        other = "|not a video" if before == b"\r\n" else ""  # FFmpeg takes an empty line for an answer, and may give up first
        with pytest.raises(InputError, match=r"redirects to rtsp://127\.0\.0\.1:\d+; if you trust it, type that address" + other):
            open_stream(f"rtsp://{PUBLIC}:{listening.getsockname()[1]}/live", ONCE)
        thread.join()
    assert asked[0].startswith(b"OPTIONS rtsp://") and victim.asked == []


@pytest.mark.parametrize(
    ("address", "level"),
    [
        *((address, 0) for address in ("127.0.0.1", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "::", "::ffff:127.0.0.1")),
        *((address, 0) for address in ("64:ff9b::7f00:1", "2002:7f00:1::")),
        *((address, 1) for address in ("10.0.0.7", "192.168.1.1", "172.16.0.1", "fd00::2", "::ffff:10.0.0.1", "100.64.0.1")),
        *((address, 2) for address in ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8")),
    ],
)
def test_how_near_an_address_is(address: str, level: int) -> None:
    assert relay.reach(ipaddress.ip_address(address)) == level
