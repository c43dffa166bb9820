"""One VP8 stream for all WebRTC viewers who see the same: a frame is encoded once, and every viewer gets the same packets.

Viewers with another position of the slider have a stream of their own, and so have those whose network is much weaker, or else
one phone would spoil the video for all. A key frame is encoded for the whole stream when one of its viewers needs one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import av
from aiortc.mediastreams import VIDEO_TIME_BASE

from cyclecast.video.live.sinks.web.viewers import NoMoreFrames, Viewer, Viewers
from cyclecast.video.live.sinks.web.vp8 import LowLatencyVp8Encoder, video_frame_from_styled
from cyclecast.video.live.styling.styled_frame import StyledFrame

if TYPE_CHECKING:
    Packet = av.Packet[Any]

TICKS_PER_SECOND = 90_000  # RTP's clock for video
MAX_QUEUED = 8  # packets that a viewer may be late; after that it gets none until the next key frame
KEY_INTERVAL_S = 0.3  # between two key frames that viewers ask for
JUDGE_AFTER_S = 5.0  # of watching: until then, a receiver's estimate of its network is too low
WEAK_SHARE, STRONG_SHARE = 0.5, 0.8  # of the ideal bit rate: below the first a network is weak, above the second no longer

Key = tuple[float | None, bool]  # the slider, and whether the network is weak

log = logging.getLogger(__name__)


class Subscription:
    """What one viewer receives. `close` it in the end."""

    def __init__(self, streams: SharedVideo, viewer: Viewer) -> None:
        self._streams, self.viewer = streams, viewer
        self.capacity: float | None = None
        """Bits per second that the receiver estimates; None: unknown."""
        self.is_weak = False
        self.since = time.monotonic()
        self._packets: asyncio.Queue[Packet | None] = asyncio.Queue()
        self._needs_key = True

    async def next_packet(self) -> Packet:
        """Waits for the next encoded frame. NoMoreFrames at the end."""
        packet = await self._packets.get()
        if packet is None:
            raise NoMoreFrames
        return packet

    def offer(self, packet: Packet | None) -> None:
        """Adds a packet, unless this viewer cannot decode it; None: there are no more."""
        if packet is not None:
            if self._packets.qsize() >= MAX_QUEUED:  # its connection is blocked
                while not self._packets.empty():
                    self._packets.get_nowait()
                self.request_key()
            if self._needs_key and not packet.is_keyframe:
                return
            self._needs_key = False
        self._packets.put_nowait(packet)

    def request_key(self) -> None:
        """Asks for a key frame, with which the viewer can begin, or go on after a loss."""
        self._needs_key = True
        self._streams.request_key(self)

    def set_capacity(self, bits_per_second: float) -> None:
        """Records the receiver's estimate of its network."""
        self.capacity = bits_per_second
        self._streams.judge(self)

    def close(self) -> None:
        """Ends the video for this viewer."""
        self._streams.leave(self)
        self.offer(None)


class _Stream:
    """One encoder and its viewers."""

    def __init__(self, viewers: Viewers, key: Key, start: float, max_bitrate: float | None) -> None:
        self.key, self.members = key, set[Subscription]()
        self.has_update, self.wants_key = asyncio.Event(), False
        self.encoder = LowLatencyVp8Encoder(max_bitrate)
        self._viewers, self._start, self._pts, self._key_at = viewers, start, -1, 0.0
        self._thread = ThreadPoolExecutor(1, "vp8")
        viewers.listeners.add(self.has_update)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while True:
                await self.has_update.wait()
                self.has_update.clear()
                if self._viewers.is_closed:
                    break
                if self._viewers.views.newest is None:
                    continue
                frame = self._viewers.views.view(self.key[0]).frame
                loop = asyncio.get_running_loop()
                packet = await loop.run_in_executor(self._thread, self._encode, frame, self._is_key_due())
                if packet.is_keyframe:
                    self.wants_key, self._key_at = False, time.monotonic()
                elif self.wants_key:
                    loop.call_later(KEY_INTERVAL_S, self.has_update.set)  # also if no frame comes
                for member in list(self.members) if packet.size else ():
                    member.offer(packet)
        except Exception:
            log.exception("encoding the video failed")
        for member in list(self.members):
            member.offer(None)

    def _is_key_due(self) -> bool:
        return self.wants_key and time.monotonic() - self._key_at > KEY_INTERVAL_S

    def _encode(self, styled: StyledFrame, is_key: bool) -> Packet:
        capacities = [member.capacity for member in list(self.members) if member.capacity and is_settled(member)]
        if capacities:
            self.encoder.target_bitrate = round(min(capacities))
        frame = video_frame_from_styled(styled)
        self._pts = max(self._pts + 1, round(TICKS_PER_SECOND * (time.perf_counter() - self._start)))
        frame.pts, frame.time_base = self._pts, VIDEO_TIME_BASE
        data = self.encoder.encode_frame(frame, is_key)
        packet = av.Packet(data)
        packet.pts, packet.time_base = frame.pts, VIDEO_TIME_BASE
        packet.is_keyframe = bool(data) and not data[0] & 1  # the first bit of VP8
        return packet

    def close(self) -> None:
        """Ends the encoder, after the frame that it may be encoding."""
        self._viewers.listeners.discard(self.has_update)
        self._task.cancel()
        self._thread.submit(self.encoder.close)
        self._thread.shutdown(wait=False)


class SharedVideo:
    """All VP8 streams; for one event loop. max_bitrate: bits per second of each; None: what the size of the frames needs."""

    def __init__(self, viewers: Viewers, max_bitrate: float | None = None) -> None:
        self._viewers, self._start, self._max_bitrate = viewers, time.perf_counter(), max_bitrate
        self._streams: dict[Key, _Stream] = {}
        self._stream_of: dict[Subscription, _Stream] = {}

    def subscribe(self, viewer: Viewer) -> Subscription:
        """Begins the video for a viewer. It follows the viewer's slider, and ends when the viewer is removed."""
        subscription = Subscription(self, viewer)
        viewer.on_change = lambda: self._refresh(subscription)
        self._join(subscription)
        return subscription

    def count(self) -> int:
        """Returns the number of encoders."""
        return len(self._streams)

    def request_key(self, subscription: Subscription) -> None:
        """Has the next frame of the viewer's stream encoded as a key frame."""
        stream = self._stream_of.get(subscription)
        if stream is not None:
            stream.wants_key = True
            stream.has_update.set()

    def judge(self, subscription: Subscription) -> None:
        """Moves a viewer with a much weaker network to another stream, and back when the network is better."""
        stream = self._stream_of.get(subscription)
        if stream is None or subscription.capacity is None or not is_settled(subscription):
            return
        share = subscription.capacity / max(1, stream.encoder.ideal_bitrate)
        is_weak = share < (STRONG_SHARE if subscription.is_weak else WEAK_SHARE)
        if is_weak != subscription.is_weak:
            subscription.is_weak, subscription.since = is_weak, time.monotonic()
            self._refresh(subscription)

    def leave(self, subscription: Subscription) -> None:
        """Takes a viewer out of its stream, which ends with its last viewer."""
        stream = self._stream_of.pop(subscription, None)
        if stream is not None:
            stream.members.discard(subscription)
            if not stream.members:
                self._streams.pop(stream.key, None)
                stream.close()

    def _join(self, subscription: Subscription) -> None:
        key = subscription.viewer.split, subscription.is_weak
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = _Stream(self._viewers, key, self._start, self._max_bitrate)
        stream.members.add(subscription)
        self._stream_of[subscription] = stream
        subscription.request_key()

    def _refresh(self, subscription: Subscription) -> None:
        """Moves a viewer whose slider or network has changed into the right stream; ends the video of a removed one."""
        stream = self._stream_of.get(subscription)
        if stream is None:
            return
        if not self._viewers.is_present(subscription.viewer):
            return subscription.close()
        key = subscription.viewer.split, subscription.is_weak
        if key == stream.key:
            return None
        if stream.members == {subscription} and key not in self._streams:  # a slider that is dragged keeps its encoder
            del self._streams[stream.key]
            stream.key = key
            self._streams[key] = stream
            return stream.has_update.set()
        self.leave(subscription)
        return self._join(subscription)


def is_settled(subscription: Subscription) -> bool:
    """Returns whether the receiver's estimate of its network can be trusted."""
    return time.monotonic() - subscription.since > JUDGE_AFTER_S
