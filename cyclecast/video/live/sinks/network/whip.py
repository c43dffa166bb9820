"""Sends encoded frames and sound to a WebRTC server over WHIP (RFC 9725), through aiortc. Runs in the process of the output."""

from __future__ import annotations

import asyncio
import concurrent.futures
import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any
from urllib.parse import urljoin, urlsplit

import av
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)

from cyclecast.errors import OutputError
from cyclecast.video.files.encoders import ChosenEncoder
from cyclecast.video.files.rate_control import streaming_options
from cyclecast.video.frame import Image
from cyclecast.video.live.sinks.network.frame_encoder import FrameEncoder, UnusableOutput, open_context
from cyclecast.video.live.sound.chunk import SoundChunk
from cyclecast.video.live.sound.track import SoundTrack, open_sound

ANSWER_TIMEOUT_S = 8.0  # for the answer of the server, and for the connection after it
CLOSE_TIMEOUT_S = 1.0
PROFILE = {"profile": "baseline"}  # of H.264: what every WebRTC server and browser decodes
KEY_FRAME_METHOD = "_send_keyframe"  # private in aiortc, which has no public way to learn of a request for a keyframe


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: another server must not get the token."""

    def redirect_request(self, *arguments: object) -> None:
        """Returns nothing, which makes the answer an HTTPError."""


class PacketTrack(MediaStreamTrack):
    """A track of packets that are encoded already. Belongs to the event loop."""

    def __init__(self, media: str) -> None:
        self.kind = media
        super().__init__()
        self.packets: asyncio.Queue[Any] = asyncio.Queue()

    async def recv(self) -> Any:
        """Waits for the next packet."""
        return await self.packets.get()


class WhipOutput:
    """A stream to a WHIP server; as `MuxedOutput`. options: {"token": TOKEN}, sent as a bearer token, or empty.

    Raises UnusableOutput if the server rejects the token or has no such address, OutputError if it cannot be reached.
    """

    def __init__(
        self,
        url: str,
        muxer: str,
        options: dict[str, str],
        *,
        size: tuple[int, int],
        rate: float,
        encoder: ChosenEncoder,
        bit_rate: int,
        keyframe_interval: float,
        sound: bool,
    ) -> None:
        self._url, self._headers = url, {"Authorization": f"Bearer {options['token']}"} if "token" in options else {}
        self._http = urllib.request.build_opener(NoRedirects)
        self._start: float | None = None
        self._session: str | None = None  # the address that ends the session
        context: Any = av.CodecContext.create(encoder.name, "w", encoder.hwaccel())
        context.framerate = Fraction(rate).limit_denominator(1001)
        profile = PROFILE if encoder.hardware in (None, "nvenc") else {}
        context.options = streaming_options(encoder, bit_rate, max(1, round(rate * keyframe_interval))) | profile
        open_context(context, encoder, size)
        self._encoder = FrameEncoder(context.encode, encoder.pix_fmt(), keyframe_interval)
        self._sound: SoundTrack | None = open_sound("libopus") if sound else None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="webrtc", daemon=True).start()
        self._run(self._connect(), 2 * ANSWER_TIMEOUT_S)

    def _run(self, work: Coroutine[Any, Any, None], seconds: float) -> None:
        try:
            asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)
        except (TimeoutError, concurrent.futures.TimeoutError) as error:  # the same from Python 3.11 on
            raise OutputError(f"no connection within {seconds:g} s") from error

    async def _connect(self) -> None:
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._video, self._audio = PacketTrack("video"), PacketTrack("audio") if self._sound is not None else None
        if self._audio is not None:
            self._connection.addTransceiver(self._audio, "sendonly")
        transceiver = self._connection.addTransceiver(self._video, "sendonly")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([codec for codec in codecs if codec.name.upper() in ("H264", "RTX")])
        if not hasattr(transceiver.sender, KEY_FRAME_METHOD):
            raise UnusableOutput("this version of aiortc is not supported: pip install 'cyclecast[web]'")
        setattr(transceiver.sender, KEY_FRAME_METHOD, self._encoder.request_keyframe)
        await self._connection.setLocalDescription(await self._connection.createOffer())
        answer = await asyncio.to_thread(self._post, self._connection.localDescription.sdp)
        connected = asyncio.Event()

        def on_state_change() -> None:
            if self._connection.connectionState in ("connected", "failed", "closed"):
                connected.set()

        self._connection.on("connectionstatechange", on_state_change)
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        except Exception as error:  # whatever a server's answer breaks inside aiortc
            raise OutputError(f"the answer of the server cannot be used ({type(error).__name__})") from error
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(connected.wait(), ANSWER_TIMEOUT_S)
        if self._connection.connectionState != "connected":
            raise OutputError("the server has answered, but no UDP packets get through; check the firewall")

    def _post(self, offer: str) -> str:
        """Returns the answer of the server to the offer."""
        headers = self._headers | {"Content-Type": "application/sdp"}
        request = urllib.request.Request(self._url, offer.encode(), headers, method="POST")
        try:
            with self._http.open(request, timeout=ANSWER_TIMEOUT_S) as response:
                location = response.headers.get("Location")
                self._session = urljoin(self._url, location) if location else None
                return str(response.read(1 << 20).decode("utf-8", "replace"))
        except urllib.error.HTTPError as error:
            error.close()  # it holds the connection
            if error.code in (401, 403):
                raise UnusableOutput(f"the server rejects the token ({error.code}); type #token=TOKEN") from error
            if error.code in (404, 405):
                raise UnusableOutput(f"the server takes no WHIP at this path ({error.code})") from error
            if error.code in range(300, 400):
                raise UnusableOutput(f"the server redirects to another address ({error.code}); type that one") from error
            raise OutputError(f"the server answers {error.code}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise OutputError(getattr(reason, "strerror", None) or type(reason).__name__) from error

    def write(self, image: Image, at: float, chunks: Sequence[SoundChunk] = ()) -> None:
        """As `MuxedOutput.write`."""
        if self._connection.connectionState in ("failed", "closed"):
            raise OutputError("the server has ended the connection")
        self._start = at if self._start is None else self._start
        if self._sound is not None and self._audio is not None:
            self._put(self._audio, self._sound.encode(chunks, self._start, at))
        self._put(self._video, self._encoder.encode(image, at - self._start))

    def _put(self, track: PacketTrack, packets: Sequence[Any]) -> None:
        for packet in packets:
            self._loop.call_soon_threadsafe(track.packets.put_nowait, packet)

    def close(self) -> None:
        """Ends the session at the server."""
        if self._session is not None:
            is_same_server = urlsplit(self._session)[:2] == urlsplit(self._url)[:2]  # another one does not get the token
            with suppress(OSError, ValueError, http.client.HTTPException):
                request = urllib.request.Request(self._session, headers=self._headers if is_same_server else {}, method="DELETE")
                self._http.open(request, timeout=CLOSE_TIMEOUT_S).close()
        with suppress(OutputError):
            self._run(self._connection.close(), CLOSE_TIMEOUT_S)
