"""WebRTC through aiortc: the video to viewers, and a browser's camera to us."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import av
import cv2
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.mediastreams import MediaStreamError

from cyclecast.errors import InputError
from cyclecast.video.frame import Image
from cyclecast.video.live.capture.push_feed import PushFeed
from cyclecast.video.live.sinks.web.shared_video import SharedVideo, Subscription
from cyclecast.video.live.sinks.web.viewers import NoMoreFrames, TooManyViewers, Viewer, Viewers
from cyclecast.video.live.sinks.web_options import WebOptions
from cyclecast.video.live.sources.source import PendingFrame

CONNECT_TIMEOUT_S = 15.0  # from a browser's offer to its connection
CLOSE_TIMEOUT_S = 1.0
MAX_CANDIDATES = 16  # of a browser: to each address that an offer names, several packets are sent
# Private in aiortc, which has no public way to set an encoder, or to learn of a request for a key frame.
ENCODER_ATTRIBUTE, KEY_FRAME_METHOD = "_RTCRtpSender__encoder", "_send_keyframe"

log = logging.getLogger(__name__)


class InvalidOffer(Exception):
    """An offer that cannot be answered; the message is one line."""


class StyledTrack(MediaStreamTrack):
    """The video track of one viewer: frames that are encoded already."""

    kind = "video"

    def __init__(self, subscription: Subscription) -> None:
        super().__init__()
        self._subscription = subscription

    async def recv(self) -> av.Packet[av.VideoStream]:
        """Waits for an encoded frame. MediaStreamError when there are no more."""
        try:
            return await self._subscription.next_packet()
        except NoMoreFrames:
            self.stop()
            raise MediaStreamError from None


class Packer(Vp8Encoder):
    """Cuts encoded frames into RTP payloads for one viewer, and passes the receiver's estimate of its network on."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription  # aiortc's constructor sets a bit rate
        super().__init__()

    @property
    def target_bitrate(self) -> int:
        """Bits per second that the receiver estimates; 0: unknown."""
        return round(self._subscription.capacity or 0)

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        self._subscription.set_capacity(bitrate)


class PeerConnections:
    """The WebRTC connections to browsers, for the event loop that creates it. `close` ends them all."""

    def __init__(self, viewers: Viewers, options: WebOptions | None = None) -> None:
        options = options or WebOptions()
        self._viewers, self._streams = viewers, SharedVideo(viewers, options.viewer_bitrate)
        self._ice_servers = [RTCIceServer(**server) for server in options.ice_servers()]
        self._connections: dict[RTCPeerConnection, tuple[Viewer | None, asyncio.TimerHandle]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._camera: RTCPeerConnection | None = None
        self.camera_viewer: str | None = None
        """The id of the viewer whose camera is the source."""

    async def send_video(self, sdp: str, viewer: Viewer) -> str:
        """Answers an offer to receive the video. InvalidOffer or TooManyViewers if that fails."""
        self._viewers.add(viewer)
        connection = self._connect(viewer)
        try:
            subscription = self._streams.subscribe(viewer)
            transceiver = connection.addTransceiver(StyledTrack(subscription), "sendonly")
            codecs = RTCRtpSender.getCapabilities("video").codecs
            transceiver.setCodecPreferences([codec for codec in codecs if codec.name.upper() in ("VP8", "RTX")])
            connect_sender(transceiver.sender, subscription)
            await accept_offer(connection, sdp)
            return await create_answer(connection)
        except Exception as error:
            raise self._reject(connection, error) from error

    async def receive_camera(self, sdp: str, viewer_id: str, push_feed: PushFeed) -> str:
        """Answers an offer to send a camera's video, which fills the feed from now on. Disconnects the camera before it.

        InvalidOffer if that fails.
        """
        connection = self._connect(None)
        try:
            transceiver = await accept_offer(connection, sdp)
            transceiver.direction = "recvonly"
            answer = await create_answer(connection)
        except Exception as error:
            raise self._reject(connection, error) from error
        previous, self._camera, self.camera_viewer = self._camera, connection, viewer_id
        if previous is not None:
            self._start_task(self._disconnect(previous))
        self._start_task(self._receive_frames(push_feed, connection, transceiver.receiver.track))
        return answer

    async def close(self) -> None:
        """Closes all connections."""
        for connection in list(self._connections):
            self._start_task(self._disconnect(connection))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * CLOSE_TIMEOUT_S)

    def _connect(self, viewer: Viewer | None) -> RTCPeerConnection:
        """Creates a connection; closes it if it is not established in time, and forgets it however it ends."""
        connection = RTCPeerConnection(RTCConfiguration(self._ice_servers, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))

        def on_state_change() -> None:
            if connection.connectionState == "connected":
                timer.cancel()
            elif connection.connectionState in ("failed", "closed"):
                self._start_task(self._disconnect(connection))

        loop = asyncio.get_running_loop()
        timer = loop.call_later(CONNECT_TIMEOUT_S, lambda: self._start_task(self._disconnect(connection)))
        connection.on("connectionstatechange", on_state_change)
        self._connections[connection] = viewer, timer
        return connection

    def _reject(self, connection: RTCPeerConnection, error: Exception) -> Exception:
        """Drops the connection. Returns what to raise: an invalid offer may break anything inside aiortc."""
        self._start_task(self._disconnect(connection))
        if isinstance(error, TooManyViewers | InvalidOffer):
            return error
        log.debug("a WebRTC offer cannot be answered", exc_info=True)
        return InvalidOffer(one_line(error))

    async def _disconnect(self, connection: RTCPeerConnection) -> None:
        viewer, timer = self._connections.pop(connection, (None, None))
        if timer is None:
            return
        timer.cancel()
        if viewer is not None:
            self._viewers.remove(viewer)
        if self._camera is connection:
            self._camera = self.camera_viewer = None
        with suppress(asyncio.TimeoutError, ConnectionError):
            await asyncio.wait_for(connection.close(), CLOSE_TIMEOUT_S)

    async def _receive_frames(self, push_feed: PushFeed, connection: RTCPeerConnection, track: MediaStreamTrack) -> None:
        """Puts the camera's frames into the feed for as long as this browser is the source."""
        reason = "its browser has stopped"
        try:
            while True:
                frame = await track.recv()
                if self._camera is not connection:
                    break
                if isinstance(frame, av.VideoFrame):
                    push_feed.put(PendingFrame(time.perf_counter(), partial(bgr_from_video_frame, frame)))
        except MediaStreamError:
            pass
        except Exception as error:
            log.exception("receiving a browser's camera failed")
            reason = one_line(error)
        if self._camera in (connection, None):
            push_feed.lose(reason)
        await self._disconnect(connection)

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def accept_offer(connection: RTCPeerConnection, sdp: str) -> RTCRtpTransceiver:
    """Sets the remote description. Raises InvalidOffer unless it offers exactly one video.

    Uses only the first `MAX_CANDIDATES` addresses: packets are sent to each, even if it is not the browser's.
    """
    sdp = limit_candidates(sdp)
    await connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
    transceivers = connection.getTransceivers()
    offered = [transceiver.kind for transceiver in transceivers if transceiver.mid is not None]
    if offered != ["video"] or len(transceivers) > 1 or connection.sctp is not None:
        raise InvalidOffer("expected one video and nothing else")
    return transceivers[0]


def limit_candidates(sdp: str) -> str:
    """Returns the offer with its first `MAX_CANDIDATES` ICE candidates."""
    count, lines = 0, list[str]()
    for line in sdp.splitlines(keepends=True):
        if line.lstrip().lower().startswith("a=candidate:"):
            count += 1
            if count > MAX_CANDIDATES:
                continue
        lines.append(line)
    return "".join(lines)


async def create_answer(connection: RTCPeerConnection) -> str:
    """Returns the answer's SDP, with our ICE candidates."""
    await connection.setLocalDescription(await connection.createAnswer())
    return str(connection.localDescription.sdp)


def connect_sender(sender: RTCRtpSender, subscription: Subscription) -> None:
    """Passes what the receiver reports on: its network, and that it needs a key frame. RuntimeError for another aiortc."""
    if getattr(sender, ENCODER_ATTRIBUTE, sender) is not None or not hasattr(sender, KEY_FRAME_METHOD):
        raise RuntimeError("this version of aiortc is not supported: pip install 'cyclecast[web]'")
    setattr(sender, ENCODER_ATTRIBUTE, Packer(subscription))
    setattr(sender, KEY_FRAME_METHOD, subscription.request_key)


def bgr_from_video_frame(frame: av.VideoFrame) -> Image:
    """Converts a decoded frame to (H, W, 3) uint8 BGR. Raises InputError if it is damaged."""
    try:
        if frame.format.name == "yuv420p" and not (frame.width % 2 or frame.height % 2):
            return np.asarray(cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2BGR_I420), np.uint8)
        return np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
    except (av.FFmpegError, cv2.error, ValueError, MemoryError) as error:
        raise InputError(f"a frame of the browser's camera cannot be converted ({one_line(error)})") from error


def one_line(error: Exception) -> str:
    """Returns the error's message in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
