"""The live video over WebRTC to another program, and another program's camera as the source."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import aioice
import av
import httpx
import ifaddr
import numpy as np
import pytest
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from cyclecast.video.clock import draw_clock
from cyclecast.video.frame import Image
from cyclecast.video.live.capture.push_feed import PushFeed
from cyclecast.video.live.sinks.web.vp8 import LowLatencyVp8Encoder, video_frame_from_styled
from cyclecast.video.live.styling.styled_frame import StyledFrame
from cyclecast.video.scene import Scene
from tests.video.live.served import LIMIT, Served, age, is_swapped, serving

T = TypeVar("T")
Newest = Callable[[], Awaitable[Image]]


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 2 * LIMIT))


@pytest.fixture(autouse=True)
def network() -> None:
    if all(str(ip.ip) == "127.0.0.1" or ip.is_IPv6 for adapter in ifaddr.get_adapters() for ip in adapter.ips):
        pytest.skip("needs a network interface: WebRTC ignores the loopback interface")


async def until(condition: Callable[[], Awaitable[object]], what: str) -> None:
    limit = time.monotonic() + LIMIT
    while not await condition():
        assert time.monotonic() < limit, f"never: {what}"
        await asyncio.sleep(0.02)


async def post(served: Served, path: str, **body: Any) -> httpx.Response:
    return await asyncio.to_thread(served.post, path, **body)


async def state(served: Served, viewer: str = "") -> Any:
    return await asyncio.to_thread(served.state, viewer)


async def connect(served: Served, peer: RTCPeerConnection, path: str, **body: Any) -> None:
    """Sends an offer and sets the answer."""
    await peer.setLocalDescription(await peer.createOffer())
    answer = await post(served, path, sdp=peer.localDescription.sdp, type="offer", **body)
    assert answer.status_code == 200, answer.text
    await peer.setRemoteDescription(RTCSessionDescription(**answer.json()))


@asynccontextmanager
async def watching(
    served: Served, viewer: str = "one", split: float | None = None
) -> AsyncIterator[Callable[[], Awaitable[Image]]]:
    """Connects a viewer; the function that it yields returns the next frame that arrives."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    transceiver = peer.addTransceiver("video", "recvonly")
    await connect(served, peer, "/offer", viewer=viewer, split=split)
    track = transceiver.receiver.track

    async def newest() -> Image:
        frame = await track.recv()
        assert isinstance(frame, av.VideoFrame)
        return np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)

    try:
        yield newest
    finally:
        await peer.close()


class Camera(MediaStreamTrack):
    """A camera that shows one color (BGR) and the clock, at 25 frames per second."""

    kind = "video"

    def __init__(self, color: tuple[int, int, int]) -> None:
        super().__init__()
        self._color, self._number = color, 0

    async def recv(self) -> av.VideoFrame:
        await asyncio.sleep(0.04)
        image = np.full((240, 320, 3), self._color, np.uint8)
        draw_clock(image, time.perf_counter())
        frame = av.VideoFrame.from_ndarray(image, "bgr24")
        self._number += 1
        frame.pts, frame.time_base = self._number, Fraction(1, 25)
        return frame


@asynccontextmanager
async def sending(served: Served, color: tuple[int, int, int], viewer: str) -> AsyncIterator[RTCPeerConnection]:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver(Camera(color), "sendonly")
    await connect(served, peer, "/camera", viewer=viewer)
    try:
        yield peer
    finally:
        await peer.close()


def test_a_viewer_receives_the_newest_frame_with_low_latency() -> None:
    async def work(served: Served) -> list[float]:
        async with watching(served) as newest:
            await newest()
            assert (await state(served, "one"))["watching"]
            ages = []
            for _ in range(20):
                image = await newest()
                assert image.shape == (240, 320, 3)  # even sides, though those of the source are odd
                ages.append(age(image))
            began = time.monotonic()
            await asyncio.to_thread(served.end)
            assert time.monotonic() - began < 2.5  # though somebody watches
            return ages

    with serving("pattern://321x241@15") as served:
        ages = run(work(served))
    assert min(ages) > -0.01 and np.median(ages) < 0.5


def test_a_viewer_sees_the_style_and_its_own_slider() -> None:
    async def work(served: Served) -> None:
        async with watching(served, "one") as one, watching(served, "other", split=0.5) as other:

            async def halves(newest: Newest) -> tuple[bool, bool]:
                image = await newest()
                return is_swapped(image[:, :140]), is_swapped(image[:, 180:])

            await until(lambda: is_now(one, (False, False)), "the source's colors")
            assert (await post(served, "/api/model", name="swapped")).status_code == 204
            await until(lambda: is_now(one, (True, True)), "the style")
            await until(lambda: is_now(other, (False, True)), "the source on the left of the other's slider")
            assert (await post(served, "/api/split", viewer="one", split=1.0)).status_code == 200
            await until(lambda: is_now(one, (False, False)), "the source alone")
            await until(lambda: is_now(other, (False, True)), "the other's slider as it was")

    async def is_now(newest: Newest, wanted: tuple[bool, bool]) -> bool:
        image = await newest()
        return (is_swapped(image[:, :140]), is_swapped(image[:, 180:])) == wanted

    with serving() as served:
        run(work(served))


def test_a_viewer_that_leaves_frees_its_files_and_threads() -> None:
    def open_files() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0

    async def visit(served: Served) -> None:
        async with watching(served) as newest:
            await newest()

        async def empty() -> bool:
            return bool((await state(served))["viewers"] == 0)

        await until(empty, "the viewer is removed")

    with serving() as served:
        run(visit(served))
        before = open_files(), threading.active_count()
        for _ in range(4):
            run(visit(served))
        assert open_files() <= before[0] + 2 and threading.active_count() <= before[1] + 6  # a few encoder threads stay


def test_invalid_offers_leave_nothing_behind() -> None:
    async def offer(media: list[str], channel: bool = False) -> str:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        for medium in media:
            peer.addTransceiver(medium, "recvonly")
        if channel:
            peer.createDataChannel("x")
        await peer.setLocalDescription(await peer.createOffer())
        sdp = str(peer.localDescription.sdp)
        await peer.close()
        return sdp

    with serving() as served:
        for sdp in (
            run(offer(["audio"])),
            run(offer(["video", "audio"])),
            run(offer(["video"], channel=True)),
            run(offer(["video"])).replace("VP8", "VP7"),
            run(offer(["video"])).replace("a=ice-ufrag", "a=ice-nothing"),
        ):
            response = served.post("/offer", sdp=sdp, type="offer", viewer="broken")
            assert response.status_code == 400 and "\n" not in response.json()["error"], response.text
        assert served.viewers() == 0


def test_the_latest_camera_is_the_source() -> None:
    async def work(served: Served, push_feed: PushFeed) -> None:
        async def shows(blue: bool) -> bool:
            newest = served.session.newest
            return newest is not None and is_swapped(newest.styled) == blue

        assert (await state(served))["accepts_camera"] and (await state(served))["captured"] == 0 and push_feed.outage is None
        async with sending(served, (200, 60, 20), "one"):
            await until(lambda: shows(True), "the first camera's blue, styled into red")
            newest = served.session.newest
            assert newest is not None and newest.styled.shape == (240, 320, 3) and -0.01 < age(newest.styled) < 1
            assert (await state(served, "one"))["sending"]
            async with sending(served, (20, 60, 200), "other"):
                await until(lambda: shows(False), "the second camera's red, styled into blue")
                one, other = (await state(served, "one")), (await state(served, "other"))
                assert not one["sending"] and other["sending"] and other["outage"] is None
            await until(lambda: is_gone(push_feed, True), "the camera is disconnected")
            assert push_feed.outage is not None and push_feed.outage[0] == "its browser has stopped"
            held = served.session.meter.held
            await until(lambda: is_held(served, held), "the last frame is held")
        async with sending(served, (200, 60, 20), "one"):
            await until(lambda: shows(True), "the first camera again")
            assert push_feed.outage is None and push_feed.reconnects == 1

    async def is_gone(push_feed: PushFeed, wanted: bool) -> bool:
        return (push_feed.outage is not None) == wanted

    async def is_held(served: Served, before: int) -> bool:
        return served.session.meter.held > before

    with serving("browser", styles=("swapped",)) as served:
        assert isinstance(served.session.feed, PushFeed)
        run(work(served, served.session.feed))


def test_the_encoder_preserves_brush_strokes() -> None:
    scene = Scene(640, 360)
    encoder, decoder = LowLatencyVp8Encoder(), av.CodecContext.create("libvpx", "r")
    worst = 100.0
    for index in range(12):
        image = scene.draw(index / 12)
        frame = video_frame_from_styled(StyledFrame(index, 0.0, image, image, "same"))
        frame.pts, frame.time_base = index * 6000, Fraction(1, 90_000)
        payloads, timestamp = encoder.encode(frame, force_keyframe=index == 8)
        data = b"".join(bytes(payload)[4:] if payload[0] & 0x80 else bytes(payload)[1:] for payload in payloads)
        assert timestamp == index * 6000 and (data[0] & 1 == 0) == (index in (0, 8))  # VP8 says so in its first bit
        (decoded,) = decoder.decode(av.Packet(data))
        error = decoded.to_ndarray(format="bgr24").astype(float) - image
        worst = min(worst, 10 * np.log10(255**2 / np.mean(error**2)))
    assert worst > 30
    rate = encoder.target_bitrate
    encoder.target_bitrate = rate // 4  # the capacity that the receiver estimates
    assert encoder.target_bitrate == rate  # not at once: each change costs a key frame


@pytest.mark.parametrize("path", ["/offer", "/camera"])
def test_an_offer_names_few_addresses_to_which_packets_are_sent(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each candidate of an offer gets several packets, whoever owns its address."""
    added: list[Any] = []

    async def add(connection: aioice.Connection, candidate: aioice.Candidate | None) -> None:
        added.extend([candidate] if candidate is not None else [])

    async def offer(served: Served) -> None:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peer.addTransceiver("video", "recvonly" if path == "/offer" else "sendonly")
        await peer.setLocalDescription(await peer.createOffer())
        lines = peer.localDescription.sdp.splitlines()
        at = next(number for number, line in enumerate(lines) if line.startswith("a=candidate:"))
        lines[at:at] = [f"a=candidate:{number} 1 udp 2130706431 127.0.0.1 {20_000 + number} typ host" for number in range(900)]
        answer = await post(served, path, sdp="\r\n".join([*lines, ""]), type="offer")
        assert answer.status_code == 200, answer.text
        await peer.close()

    monkeypatch.setattr(aioice.Connection, "add_remote_candidate", add)
    with serving("browser" if path == "/camera" else "pattern://320x240@15") as served:
        run(offer(served))
    assert 1 <= len(added) <= 16
