"""The web page beyond the local network: STUN and TURN servers, and limits for viewers and their bandwidth."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import av
import numpy as np
import pytest

from cyclecast.errors import ConfigError
from cyclecast.video.live.sinks.web_options import WebOptions
from tests.commands import run_command
from tests.video.live.served import LOOPBACK, Served, serving

pytest.importorskip("aiortc", reason="needs the extra web")

from aioice import stun  # noqa: E402
from aiortc import RTCConfiguration, RTCPeerConnection  # noqa: E402
from aiortc.mediastreams import VIDEO_TIME_BASE  # noqa: E402

from cyclecast.video.live.sinks.web.vp8 import LowLatencyVp8Encoder  # noqa: E402

PASSWORD, TOKEN = "secret of the relay", "a-token-of-mine"
MAPPED, RELAYED = ("203.0.113.7", 4242), ("203.0.113.9", 4343)


@contextmanager
def ice_server(user: str, password: str, realm: str = "test") -> Iterator[int]:
    """Yields the port of a server that answers STUN's Binding and, for this user, TURN's Allocate."""
    key = hashlib.md5(f"{user}:{realm}:{password}".encode()).digest()

    def answer(request: stun.Message) -> stun.Message:
        def response(message_class: stun.Class) -> stun.Message:
            return stun.Message(request.message_method, message_class, request.transaction_id)

        if request.message_method == stun.Method.BINDING:
            found = response(stun.Class.RESPONSE)
            found.attributes["XOR-MAPPED-ADDRESS"] = MAPPED
        elif "MESSAGE-INTEGRITY" not in request.attributes:
            found = response(stun.Class.ERROR)
            found.attributes |= {"ERROR-CODE": (401, "Unauthorized"), "REALM": realm, "NONCE": b"once"}
        else:
            request.check_message_integrity(key)
            assert request.attributes["USERNAME"] == user
            found = response(stun.Class.RESPONSE)
            found.attributes |= {"LIFETIME": 600, "XOR-MAPPED-ADDRESS": MAPPED, "XOR-RELAYED-ADDRESS": RELAYED}
            found.add_message_integrity(key)
        return found

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                data, address = server.recvfrom(65536)
                if data == b"end":
                    return
                if data[0] < 0x40:  # else it is for the other peer
                    server.sendto(bytes(answer(stun.parse_message(data))), address)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.sendto(b"end", server.getsockname())
            thread.join()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with ice_server("me@home", PASSWORD) as port:
        turn = f"turn://me%40home:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}"
        options = WebOptions(stun=f"stun://127.0.0.1:{port}", turn=turn, max_viewers=2, viewer_mbps=0.5)
        assert PASSWORD not in repr(options)
        with serving(address=f"{LOOPBACK}?token={TOKEN}", web_options=options) as served:
            assert served.client.get("/api/ice").status_code == 401, "the password is for those who may watch"
            served.client.headers["Authorization"] = f"Bearer {TOKEN}"
            yield served


def test_the_page_offers_its_address_on_the_internet_and_a_relay(served: Served) -> None:
    async def offer() -> str:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peer.addTransceiver("video", "recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        try:
            answer = await asyncio.to_thread(served.post, "/offer", sdp=peer.localDescription.sdp, type="offer")
            return str(answer.json()["sdp"])
        finally:
            await peer.close()

    candidates = re.findall(r"a=candidate:.* (\S+) (\d+) typ (\w+)", asyncio.run(offer()))
    assert (*map(str, MAPPED), "srflx") in candidates and (*map(str, RELAYED), "relay") in candidates
    first, second = served.client.get("/api/ice").json()["iceServers"]
    assert first["urls"].startswith("stun:127.0.0.1:") and second["urls"].startswith("turn:127.0.0.1:")
    assert (second["username"], second["credential"]) == ("me@home", PASSWORD)
    assert PASSWORD not in served.client.get("/api/state").text + str(served.messages)


def test_the_number_of_viewers_and_their_bandwidth_are_limited(served: Served) -> None:
    assert served.state()["max_viewers"] == 2
    with ExitStack() as stack:
        first = stack.enter_context(served.client.stream("GET", "/stream.mjpg"))
        stack.enter_context(served.client.stream("GET", "/stream.mjpg"))
        full = served.client.get("/stream.mjpg")
        assert full.status_code == 503 and full.json()["error"] == "there are 2 viewers already; close another page"
        began, sizes = time.monotonic(), list[int]()
        for data in first.iter_raw():
            sizes += [int(size) for size in re.findall(rb"Content-Length: (\d+)", data)]
            if len(sizes) > 5:
                break
        assert time.monotonic() - began > 0.9 * 8 * sum(sizes[:-1]) / 0.5e6, "each frame in its time, at most"


def test_the_encoder_keeps_the_bandwidth_of_a_viewer() -> None:
    for limit, bitrate in ((None, 500_000), (0.2e6, 200_000), (50e6, 500_000)):
        encoder = LowLatencyVp8Encoder(limit)
        frame = av.VideoFrame.from_ndarray(np.zeros((240, 160), np.uint8), "yuv420p")
        frame.pts, frame.time_base = 0, VIDEO_TIME_BASE
        encoder.encode_frame(frame)
        assert encoder.target_bitrate == encoder.ideal_bitrate == bitrate
        encoder.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stun": "host:3478"}, "--stun: expected stun://HOST:3478"),
        ({"stun": "stun://host/path"}, "--stun: expected stun://HOST:3478"),
        ({"stun": "stun://[::1]:3478"}, "--stun: expected stun://HOST:3478"),  # aiortc reads names and IPv4 only
        ({"turn": f"turn://{PASSWORD}@host"}, "--turn: expected turn://USER:PASSWORD@HOST:3478"),
        ({"turn": f"turn:me:{PASSWORD}@host"}, "--turn: expected turn://USER:PASSWORD@HOST:3478"),
        ({"turn": f"turn://me:{PASSWORD}@host:99999"}, "--turn: expected turn://USER:PASSWORD@HOST:3478"),
        ({"max_viewers": 0}, "max_viewers must be from 1 to 100, got 0"),
        ({"viewer_mbps": float("nan")}, "viewer_mbps must be from 0.1 to 1000, got nan"),
        ({"web_app": "javascript:alert(1)"}, "--web-app: expected https://HOST/PATH"),
        ({"web_app": "styles/"}, "--web-app: expected https://HOST/PATH"),
    ],
)
def test_invalid_options_are_an_error_without_the_password(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        WebOptions(**options)  # type: ignore[arg-type]
    assert str(raised.value).startswith(words) and PASSWORD not in str(raised.value)


def test_a_relay_over_tls_has_its_own_port() -> None:
    (server,) = WebOptions(turn="turns://me:word@host").ice_servers()
    assert server["urls"] == "turns:host:5349?transport=tcp"


def test_options_of_the_page_need_the_page() -> None:
    for option in (("--max-viewers", "4"), ("--viewer-mbps", "2"), ("--stun", "stun://host"), ("--web-app", "https://a.b")):
        done = run_command("live", "pattern://160x96@30", "--sink", "null", *option)
        assert done.returncode == 1 and done.stderr.endswith("are for the web page: add --sink web\n")
