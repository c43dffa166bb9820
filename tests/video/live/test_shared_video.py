"""What many viewers see is encoded once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import av
import numpy as np
import pytest

pytest.importorskip("aiortc", reason="needs the extra web")

from cyclecast.video.frame import Image  # noqa: E402
from cyclecast.video.live.sinks.web import shared_video, view  # noqa: E402
from cyclecast.video.live.sinks.web.shared_video import MAX_QUEUED, SharedVideo, Subscription  # noqa: E402
from cyclecast.video.live.sinks.web.viewers import NoMoreFrames, Viewer, Viewers  # noqa: E402
from cyclecast.video.live.sinks.web.vp8 import LowLatencyVp8Encoder  # noqa: E402
from cyclecast.video.live.styling.styled_frame import StyledFrame  # noqa: E402
from tests.conftest import moving_frames  # noqa: E402

T = TypeVar("T")
LIMIT = 30.0  # seconds for each wait


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 2 * LIMIT))


def frames(count: int, width: int = 160, height: int = 96) -> list[StyledFrame]:
    """Returns a moving bar; the source is its negative."""
    images = moving_frames(count, width, height)
    return [StyledFrame(n + 1, time.perf_counter(), 255 - image, image, "m") for n, image in enumerate(images)]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the name of each encoding that was computed."""
    calls: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append(name)
            return function(*arguments)

        return call

    for name in ("encode_jpeg", "encode_png"):
        monkeypatch.setattr(view, name, counted(name, getattr(view, name)))
    monkeypatch.setattr(LowLatencyVp8Encoder, "encode_frame", counted("vp8", LowLatencyVp8Encoder.encode_frame))
    return calls


def test_a_jpeg_is_encoded_once_for_all_viewers_of_the_same(encoded: list[str]) -> None:
    async def work() -> None:
        viewers = Viewers()
        alike, other = [Viewer(str(n), "mjpeg", None) for n in range(15)], Viewer("other", "mjpeg", 0.5)
        for viewer in (*alike, other):
            viewers.add(viewer)
        for number, frame in enumerate(frames(3), 1):
            viewers.put(frame)
            *same, different = await asyncio.gather(*[jpeg_of(viewers, viewer) for viewer in (*alike, other)])
            assert len(set(same)) == 1 and different != same[0]
            assert encoded == ["encode_jpeg"] * 2 * number
        late = asyncio.create_task(jpeg_of(viewers, alike[0]))
        viewers.put(frames(1)[0])
        await asyncio.sleep(0)
        late.cancel()
        assert await jpeg_of(viewers, alike[1]), "a viewer who leaves takes nobody's frame away"

    async def jpeg_of(viewers: Viewers, viewer: Viewer) -> bytes:
        return await (await viewers.next_view(viewer)).jpeg()

    run(work())


def test_snapshots_of_one_frame_are_encoded_once(encoded: list[str]) -> None:
    async def work() -> None:
        views = view.Views()
        first, second = frames(2)
        for frame in (first, first, second):
            views.put(frame)
            assert len(set(await asyncio.gather(*[views.view(None).png() for _ in range(4)]))) == 1
        assert encoded == ["encode_png"] * 2
        for split in range(100):
            views.view(split / 100)
        assert len(views._views) <= view.MAX_VIEWS

    run(work())


class Receiver:
    """Decodes what a viewer receives."""

    def __init__(self, streams: SharedVideo, viewers: Viewers, name: str, split: float | None = None) -> None:
        self.viewer = Viewer(name, "webrtc", split)
        viewers.add(self.viewer)
        self.subscription: Subscription = streams.subscribe(self.viewer)
        self._decoder = av.CodecContext.create("libvpx", "r")

    async def next(self) -> tuple[Any, Image]:
        """Returns the next packet, and its frame: decoding fails without the key frame before it."""
        packet = await asyncio.wait_for(self.subscription.next_packet(), LIMIT)
        (frame,) = self._decoder.decode(av.Packet(bytes(packet)))
        return packet, np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


def is_like(image: Image, expected: Image) -> bool:
    return bool(np.abs(image.astype(int) - expected).mean() < 12)


def test_viewers_who_see_the_same_get_the_same_packets(encoded: list[str]) -> None:
    async def work() -> None:
        viewers = Viewers()
        streams = SharedVideo(viewers)
        receivers = [Receiver(streams, viewers, str(n)) for n in range(3)]
        assert streams.count() == 1
        shown = frames(6)
        for frame in shown:
            viewers.put(frame)
            packets = [await receiver.next() for receiver in receivers]
            assert all(packet is packets[0][0] for packet, _ in packets) and is_like(packets[0][1], frame.styled)
        assert len(encoded) == 6
        late = Receiver(streams, viewers, "late")  # no new frame comes, and it still sees the last one
        packet, image = await late.next()
        assert packet.is_keyframe and is_like(image, shown[-1].styled) and streams.count() == 1
        encoder = streams._stream_of[late.subscription].encoder
        assert encoder.codec is not None
        for receiver in (*receivers, late):
            viewers.remove(receiver.viewer)
        assert streams.count() == 0 and not viewers.listeners
        deadline = time.monotonic() + LIMIT
        while encoder.codec is not None and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert encoder.codec is None, "its memory is freed at once, not by the garbage collector"
        with pytest.raises(NoMoreFrames):
            while True:
                await late.subscription.next_packet()

    run(work())


def test_a_slider_takes_a_viewer_into_another_stream_and_back() -> None:
    async def work() -> None:
        viewers = Viewers()
        streams = SharedVideo(viewers)
        one, other = Receiver(streams, viewers, "one"), Receiver(streams, viewers, "other")
        (frame,) = frames(1)
        viewers.put(frame)
        assert is_like((await one.next())[1], frame.styled) and is_like((await other.next())[1], frame.styled)
        viewers.set_split("one", 1.0)
        assert is_like(await until_key(one), frame.source) and streams.count() == 2
        stream = streams._stream_of[one.subscription]
        for split in (0.9, 0.95, 1.0):  # the slider is dragged
            viewers.set_split("one", split)
        assert streams._stream_of[one.subscription] is stream and streams.count() == 2
        viewers.put(frame)
        viewers.set_split("one", None)
        assert streams.count() == 1
        assert is_like(await until_key(one), frame.styled)
        assert one.subscription._packets.qsize() < MAX_QUEUED

    async def until_key(receiver: Receiver) -> Image:
        while True:
            packet, image = await receiver.next()
            if packet.is_keyframe:
                return image

    run(work())


async def shown_to(viewers: Viewers, receiver: Receiver, is_done: Callable[[Any], bool]) -> None:
    """Puts new frames until a packet is what is wanted."""
    limit = time.monotonic() + LIMIT
    while True:
        assert time.monotonic() < limit
        viewers.put(frames(1)[0])
        if is_done((await receiver.next())[0]):
            return


def test_a_key_frame_is_encoded_on_request_and_after_a_queue_that_nobody_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_video, "KEY_INTERVAL_S", 0.05)

    async def work() -> None:
        viewers = Viewers()
        streams = SharedVideo(viewers)
        one, stuck = Receiver(streams, viewers, "one"), Receiver(streams, viewers, "stuck")
        await shown_to(viewers, one, lambda packet: packet.is_keyframe)
        await shown_to(viewers, one, lambda packet: not packet.is_keyframe)
        one.subscription.request_key()
        await shown_to(viewers, one, lambda packet: packet.is_keyframe)
        for frame in frames(30):
            viewers.put(frame)
            await one.next()
            assert stuck.subscription._packets.qsize() <= MAX_QUEUED
        assert (await stuck.next())[0].is_keyframe, "whatever was dropped, it can be decoded"

    run(work())


def test_a_weak_network_spoils_the_video_of_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_video, "JUDGE_AFTER_S", 0.0)

    async def work() -> None:
        viewers = Viewers()
        streams = SharedVideo(viewers)
        strong, weak = Receiver(streams, viewers, "strong"), Receiver(streams, viewers, "weak")
        await shown_to(viewers, strong, lambda packet: True)
        ideal = streams._stream_of[strong.subscription].encoder.ideal_bitrate
        strong.subscription.set_capacity(3 * ideal)
        weak.subscription.set_capacity(0.7 * ideal)
        assert streams.count() == 1, "a little less is enough for both"
        weak.subscription.set_capacity(0.3 * ideal)
        assert streams.count() == 2 and not strong.subscription.is_weak
        await shown_to(viewers, weak, lambda packet: True)
        assert streams._stream_of[weak.subscription].encoder.target_bitrate < 0.5 * ideal
        assert streams._stream_of[strong.subscription].encoder.target_bitrate == ideal
        weak.subscription.set_capacity(0.7 * ideal)
        assert streams.count() == 2, "not at once"
        weak.subscription.set_capacity(2 * ideal)
        assert streams.count() == 1
        await shown_to(viewers, weak, lambda packet: packet.is_keyframe)

    run(work())


def test_the_end_of_the_run_ends_the_video() -> None:
    async def work() -> None:
        viewers = Viewers()
        receiver = Receiver(SharedVideo(viewers), viewers, "one")
        viewers.put(frames(1)[0])
        await receiver.next()
        viewers.close()
        with pytest.raises(NoMoreFrames):
            await asyncio.wait_for(receiver.subscription.next_packet(), LIMIT)

    run(work())
