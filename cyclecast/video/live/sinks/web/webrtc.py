"""WebRTC, by aiortc: the picture to a viewer, and a browser's camera to us. On local networks: no STUN, no TURN."""

from __future__ import annotations

import asyncio
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
    RTCPeerConnection,
    RTCRtpSender,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.mediastreams import VIDEO_TIME_BASE, MediaStreamError

from cyclecast.video.frame import Image
from cyclecast.video.live.capture.push_feed import PushFeed
from cyclecast.video.live.sinks.web.viewers import ProcessResult, Viewer, Viewers, sendable
from cyclecast.video.live.sinks.web.vp8 import QuickVp8
from cyclecast.video.live.sources.source import PendingFrame
from cyclecast.video.live.styling.styled_frame import StyledFrame

TICKS = 90_000  # per second: RTP's clock for video
TO_CONNECT = 15.0  # seconds that a browser may take from its offer to its connection
TO_CLOSE = 1.0  # seconds for the goodbyes
ENCODER = "_RTCRtpSender__encoder"  # where aiortc's senders keep it: there is no other way to give one an encoder of our own


class BadOffer(Exception):
    """An offer that cannot be answered, in one line."""


class Picture(MediaStreamTrack):
    """A viewer's track: the newest picture, whenever there is another and the encoder has time."""

    kind = "video"

    def __init__(self, viewers: Viewers, viewer: Viewer) -> None:
        super().__init__()
        self._viewers, self._viewer = viewers, viewer
        self._begin, self._pts = time.perf_counter(), -1

    async def recv(self) -> av.VideoFrame:
        """Waits for a picture. MediaStreamError when there are no more."""
        try:
            shown = await self._viewers.next(self._viewer)
        except ProcessResult:
            self.stop()
            raise MediaStreamError from None
        frame = await asyncio.get_running_loop().run_in_executor(None, video_frame, shown)
        self._pts = max(self._pts + 1, round(TICKS * (time.perf_counter() - self._begin)))
        frame.pts, frame.time_base = self._pts, VIDEO_TIME_BASE
        return frame


class Peers:
    """The browsers that are connected. For the event loop that it is made in; `close` ends them all."""

    def __init__(self, viewers: Viewers) -> None:
        self._viewers = viewers
        self._all: dict[RTCPeerConnection, tuple[Viewer | None, asyncio.TimerHandle]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._camera: RTCPeerConnection | None = None
        self.sender: str | None = None
        """The id of whoever's camera is the source."""

    async def show(self, sdp: str, viewer: Viewer) -> str:
        """Answers an offer to receive the picture. BadOffer or TooMany if that cannot be done."""
        self._viewers.add(viewer)
        peer = self._peer(viewer)
        try:
            transceiver = peer.addTransceiver(Picture(self._viewers, viewer), "sendonly")
            codecs = RTCRtpSender.getCapabilities("video").codecs
            transceiver.setCodecPreferences([codec for codec in codecs if codec.name.upper() in ("VP8", "RTX")])
            give_encoder(transceiver.sender)
            await offered(peer, sdp)
            return await answer(peer)
        except Exception as error:  # whatever a broken offer trips over there
            self._start(self._drop(peer))
            raise BadOffer(one_line(error)) from error

    async def receive(self, sdp: str, id: str, push_feed: PushFeed) -> str:
        """Answers an offer to send a camera's picture, which goes into the inbox from now on; who sent before is told to stop.

        BadOffer if that cannot be done.
        """
        peer = self._peer(None)
        try:
            transceiver = await offered(peer, sdp)
            transceiver.direction = "recvonly"
            found = await answer(peer)
        except Exception as error:
            self._start(self._drop(peer))
            raise BadOffer(one_line(error)) from error
        before, self._camera, self.sender = self._camera, peer, id
        if before is not None:
            self._start(self._drop(before))
        self._start(self._fill(push_feed, peer, transceiver.receiver.track))
        return found

    async def close(self) -> None:
        """Says goodbye to all."""
        for peer in list(self._all):
            self._start(self._drop(peer))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * TO_CLOSE)

    def _peer(self, viewer: Viewer | None) -> RTCPeerConnection:
        """A new connection, given up if it does not come about in time, and forgotten when it ends in whatever way."""
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))

        def changed() -> None:
            if peer.connectionState == "connected":
                timer.cancel()
            elif peer.connectionState in ("failed", "closed"):
                self._start(self._drop(peer))

        timer = asyncio.get_running_loop().call_later(TO_CONNECT, lambda: self._start(self._drop(peer)))
        peer.on("connectionstatechange", changed)
        self._all[peer] = viewer, timer
        return peer

    async def _drop(self, peer: RTCPeerConnection) -> None:
        viewer, timer = self._all.pop(peer, (None, None))
        if timer is None:
            return
        timer.cancel()
        if viewer is not None:
            self._viewers.remove(viewer)
        if self._camera is peer:
            self._camera = self.sender = None
        with suppress(asyncio.TimeoutError, ConnectionError):
            await asyncio.wait_for(peer.close(), TO_CLOSE)

    async def _fill(self, push_feed: PushFeed, peer: RTCPeerConnection, track: MediaStreamTrack) -> None:
        """Every picture of the camera into the inbox, as long as this browser is the source."""
        with suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                if self._camera is not peer:
                    break
                assert isinstance(frame, av.VideoFrame)
                push_feed.put(PendingFrame(time.perf_counter(), partial(picture, frame)))
        if self._camera in (peer, None):
            push_feed.lose("its browser has stopped")
        await self._drop(peer)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def offered(peer: RTCPeerConnection, sdp: str) -> RTCRtpTransceiver:
    """Takes in an offer, which must be of one video and nothing else."""
    await peer.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
    transceivers = peer.getTransceivers()
    kinds = [transceiver.kind for transceiver in transceivers if transceiver.mid is not None]
    if kinds != ["video"] or len(transceivers) > 1 or peer.sctp is not None:
        raise BadOffer("it must be of one video and nothing else")
    return transceivers[0]


async def answer(peer: RTCPeerConnection) -> str:
    """The answer, with our addresses in it."""
    await peer.setLocalDescription(await peer.createAnswer())
    return str(peer.localDescription.sdp)


def give_encoder(sender: RTCRtpSender) -> None:
    """Makes a sender encode as we want it."""
    if getattr(sender, ENCODER, sender) is not None:
        raise RuntimeError("this version of aiortc keeps its encoders elsewhere: pip install 'cyclecast[web]'")
    setattr(sender, ENCODER, QuickVp8())


def video_frame(shown: StyledFrame) -> av.VideoFrame:
    """What to encode: yuv420p, BT.601 in the limited range, as VP8 has it."""
    planes = np.asarray(cv2.cvtColor(sendable(shown), cv2.COLOR_BGR2YUV_I420), np.uint8)
    return av.VideoFrame.from_ndarray(planes, "yuv420p")


def picture(frame: av.VideoFrame) -> Image:
    """A decoded frame -> (H, W, 3) uint8 BGR."""
    if frame.format.name == "yuv420p" and not (frame.width % 2 or frame.height % 2):
        return np.asarray(cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2BGR_I420), np.uint8)
    return np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
