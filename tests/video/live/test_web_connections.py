"""Slow and silent clients: none of them keeps others from the page."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.video.live.served import LIMIT, LOOPBACK, Served, connections, eventually, serving
from tests.video.live.test_web_access import certificate

TOKEN = "a-token-of-mine"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


def connect(served: Served, timeout: float = LIMIT) -> socket.socket:
    host, _, port = served.origin.partition("://")[2].rpartition(":")
    return socket.create_connection((host, int(port)), timeout)


def is_closed(client: socket.socket, within: float) -> bool:
    """Returns whether the server closes the connection silently within this time."""
    client.settimeout(within)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def request(served: Served, *headers: str, method: str = "POST", path: str = "/api/mirror") -> bytes:
    lines = (f"{method} {path} HTTP/1.1", f"Host: {served.origin.partition('://')[2]}", f"Origin: {served.origin}", *headers)
    return "\r\n".join((*lines, "", "")).encode()


@pytest.mark.parametrize("says", [b"", b"GET / HTTP/1.1\r\nHost: "])
def test_silent_clients_keep_nobody_out(served: Served, says: bytes) -> None:
    with ExitStack() as open_clients, httpx.Client(base_url=served.origin, trust_env=False, timeout=5) as visitor:
        for _ in range(300):
            open_clients.enter_context(connect(served)).sendall(says)
        start = time.monotonic()
        assert visitor.get("/").status_code == 200 and visitor.get("/api/state").status_code == 200
        assert time.monotonic() - start < 5


def test_silent_clients_take_few_of_the_files_that_a_process_may_open(served: Served) -> None:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("no /proc here")
    before = len(os.listdir(folder))
    clients = [connect(served) for _ in range(300)]
    try:
        assert served.client.get("/api/state").status_code == 200
        assert len(os.listdir(folder)) - before - len(clients) <= connections.MAX_CONNECTIONS
    finally:
        for client in clients:
            client.close()


def test_a_viewer_stays_while_silent_clients_come(served: Served) -> None:
    with ExitStack() as open_clients, served.client.stream("GET", "/stream.mjpg") as stream:
        video = stream.iter_raw()
        next(video)
        for _ in range(300):
            open_clients.enter_context(connect(served))
        for _ in range(20):
            assert next(video)


def test_one_address_has_a_share_of_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_PER_ADDRESS", 3)
    with serving() as served, ExitStack() as open_clients:  # a server of its own: no connection of another test counts
        clients = [open_clients.enter_context(connect(served)) for _ in range(4)]
        assert is_closed(clients[0], 5)
        assert not any(is_closed(client, 0.1) for client in clients[1:])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> float:
    """Shortens the deadline of a whole request, and returns it in seconds."""
    assert connections.REQUEST_TIMEOUT_S == 10
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT_S", 0.6)
    return 0.6


@pytest.mark.parametrize("says", ["nothing", "a header in drops", "a body in drops", "a second request in drops"])
def test_a_request_has_a_deadline(served: Served, impatient: float, says: str) -> None:
    with connect(served) as client:
        start, drops = time.monotonic(), b""
        if says == "a header in drops":
            drops = request(served, "X: " + "y" * 1000)
        elif says == "a body in drops":
            client.sendall(request(served, "Content-Length: 1000"))
            drops = b" " * 1000
        elif says == "a second request in drops":
            client.sendall(request(served, method="GET", path="/healthz"))
            answer = b""
            while b'"ok"' not in answer:
                answer += client.recv(4096)
            drops = request(served, "X: " + "y" * 1000)
        closed = False
        while not closed and time.monotonic() - start < 5:
            if drops:
                try:
                    client.sendall(drops[:1])
                except ConnectionError:
                    break
                drops = drops[1:]
            closed = is_closed(client, 0.05)
        assert impatient * 0.9 < time.monotonic() - start < 4 * impatient + 1


def test_the_deadline_is_for_requests_not_for_responses(served: Served, impatient: float) -> None:
    start = time.monotonic()
    with served.client.stream("GET", "/stream.mjpg") as stream:
        for part in stream.iter_raw():
            assert part
            if time.monotonic() - start > 4 * impatient:
                break


def test_a_slow_client_gets_its_whole_response(impatient: float) -> None:
    with serving("pattern://1920x1080@5") as served, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, _, port = served.origin.partition("://")[2].rpartition(":")
        client.connect((host, int(port)))
        client.sendall(request(served, method="GET", path="/snapshot.png"))
        start, data = time.monotonic(), b""
        while part := client.recv(16384):
            data += part
            if time.monotonic() - start < 3 * impatient:
                time.sleep(0.02)
        header, _, body = data.partition(b"\r\n\r\n")
        assert b"content-length: %d\r\n" % len(body) in header + b"\r\n" and len(body) > 512 * 1024


def test_tls_has_the_same_deadline(tmp_path: Path, impatient: float) -> None:
    cert, key = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=str(cert))
    with serving(address=f"{LOOPBACK}?cert={cert}&key={key}") as served:
        with connect(served) as silent:
            assert is_closed(silent, 5)
        with connect(served) as raw, trust.wrap_socket(raw, server_hostname="127.0.0.1") as client:
            assert is_closed(client, 5)


def test_silent_clients_keep_nobody_out_of_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=str(cert))
    with (
        serving(address=f"{LOOPBACK}?cert={cert}&key={key}") as served,
        ExitStack() as open_clients,
        httpx.Client(base_url=served.origin, verify=trust, timeout=5, trust_env=False) as visitor,
    ):
        for _ in range(200):
            open_clients.enter_context(connect(served))
        assert visitor.get("/healthz").status_code == 200


def test_a_client_that_takes_no_response_is_disconnected(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALLED_TIMEOUT_S", 0.5)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, _, port = served.origin.partition("://")[2].rpartition(":")
        client.connect((host, int(port)))
        client.sendall(request(served, method="GET", path="/stream.mjpg"))
        eventually(lambda: served.viewers() == 1, "a viewer")
        eventually(lambda: served.viewers() == 0, "the viewer is dropped", seconds=15)


def test_accept_errors_are_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without a file descriptor left; it serves again when there is one."""
    accept, failures = asyncio.BaseEventLoop.sock_accept, [0]
    loop_type = asyncio.SelectorEventLoop
    accept = loop_type.sock_accept

    async def fail(loop: asyncio.SelectorEventLoop, listening: socket.socket) -> object:
        failures[0] += 1
        if failures[0] <= 50:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return await accept(loop, listening)

    monkeypatch.setattr(loop_type, "sock_accept", fail)
    monkeypatch.setattr(connections, "ACCEPT_RETRY_S", 0.001)
    with serving() as served:
        assert served.client.get("/healthz").status_code == 200
        assert failures[0] > 50
        reports = [line for line in served.messages if "Too many open files" in line]
        assert reports == ["web page: accepts no connections (Too many open files); trying again"]
