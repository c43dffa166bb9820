"""The body of a request is counted as it arrives, whatever its header says."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.video.live.served import Served, eventually, serving
from tests.video.live.test_web_connections import connect, request


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


def status(client: socket.socket) -> int:
    return int(client.makefile("rb").readline().split()[1])


def test_a_body_is_limited_whatever_its_header_says(served: Served) -> None:
    """Padded to 20 digits, the length seems short to whoever reads the first digits only."""
    for length, expected in (("00000000000000070000", 413), ("00000000000000000011", 422), ("99999999999999999999", 413)):
        with connect(served) as client:
            client.sendall(request(served, f"Content-Length: {length}", "Content-Type: application/json") + b"x" * 11)
            assert status(client) == expected, length
    for length in ("000000000000000000000011", "1e3", "-1", "+11", "٣"):
        with connect(served) as client:
            client.sendall(request(served)[:-2] + f"Content-Length: {length}\r\n\r\n".encode() + b"x" * 11)
            assert status(client) in (400, 413), length


@pytest.mark.parametrize("lengths", [("Content-Length: 10", "Transfer-Encoding: chunked"), ("Transfer-Encoding: chunked",)])
def test_chunks_get_around_no_limit(served: Served, lengths: tuple[str, ...]) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with connect(served, timeout=5) as client:
        client.sendall(request(served, *lengths))
        sent = 0
        try:
            while sent < 64 << 20:
                client.sendall(chunk)
                sent += len(chunk)
        except (ConnectionError, TimeoutError):
            pass
    assert sent < 16 << 20  # what the buffers of both ends hold
    eventually(lambda: served.client.get("/healthz").status_code == 200, "it serves")


def test_a_body_with_two_lengths_is_rejected(served: Served) -> None:
    with connect(served) as client:
        client.sendall(request(served, "Content-Length: 10", "Transfer-Encoding: chunked") + b"0\r\n\r\n")
        assert status(client) == 411
