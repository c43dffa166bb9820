"""RTSP over TLS: from cameras with certificates of their own, directly and through the relay, and no message shows a secret."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cyclecast.errors import InputError
from cyclecast.video.live.sources import relay
from cyclecast.video.live.sources.network import open_stream
from cyclecast.video.live.sources.source import CaptureSettings
from tests.video.live.streams import Sender
from tests.video.live.test_web_access import certificate

SECRETS = ("anna", "pass", "live", "SECRET")


def address(port: int) -> str:
    return f"rtsps://anna:pass%40word@127.0.0.1:{port}/live?token=SECRET1"


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    """The port of an RTSP server behind TLS with a self-signed certificate."""
    pytest.importorskip("cryptography")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path))
    with Sender("rtsp") as sender, socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                client, _ = listening.accept()
                with (
                    context.wrap_socket(client, server_side=True) as secured,
                    socket.create_connection(("127.0.0.1", int(sender.port))) as server,
                ):
                    threading.Thread(target=pump, args=(secured, server), daemon=True).start()
                    pump(server, secured)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


@pytest.mark.parametrize("is_relayed", [False, True], ids=["direct", "relayed"])
def test_rtsps_is_received(tls_port: int, is_relayed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_relayed:
        monkeypatch.setattr(relay, "reach", lambda address: 2)
    assert (relay.guard(address(tls_port))[2] is not None) == is_relayed
    source = open_stream(address(tls_port), CaptureSettings())
    assert source.description == f"rtsps://127.0.0.1:{tls_port}: 320x240 h264, rtsp"
    assert next(source.pending_frames).decode().shape == (240, 320, 3)


@pytest.mark.parametrize("is_relayed", [False, True], ids=["direct", "relayed"])
@pytest.mark.parametrize("greeting", [None, b"RTSP/1.0 200 OK\r\n\r\n"], ids=["closed", "no TLS"])
def test_a_failure_of_rtsps_shows_no_secret(greeting: bytes | None, is_relayed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_relayed:
        monkeypatch.setattr(relay, "reach", lambda address: 2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def answer() -> None:
            client, _ = listening.accept()
            with client:
                if greeting is not None:
                    client.recv(1 << 16)
                    client.sendall(greeting)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(InputError, match=rf"^rtsps://127\.0\.0\.1:{port}: ") as caught:
            open_stream(address(port), CaptureSettings())
        thread.join(10)
    assert not any(secret in str(caught.value) for secret in SECRETS)
