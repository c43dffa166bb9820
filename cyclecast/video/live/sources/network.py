"""Streams over a network or a pipe, through FFmpeg: RTSP, HTTP, UDP, RTMP and more, with as little delay as it can.

Nothing here waits for a picture's time: what a server has kept is decoded as fast as it comes, until the newest is there. Only
what comes in pieces (HLS), and a film that lies on a server, are played by their own clock.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Discard

from cyclecast.errors import InputError
from cyclecast.video.color import ToBgr
from cyclecast.video.files.decoding import LARGEST
from cyclecast.video.frame import Color, Image
from cyclecast.video.live.sources.address import OPENED, path_of, scheme_of, shown_address
from cyclecast.video.live.sources.playback import in_real_time
from cyclecast.video.live.sources.source import CaptureSettings, LiveSource, PendingFrame

OPENING = 10.0  # seconds to connect, and to wait for each thing that a server says at first
SILENCE = 10.0  # seconds without a packet; the process is killed earlier, but a playlist may take so long to be renewed
TORN = 100  # pieces in a row that are no packets
JUMP = 10.0  # seconds that a clock may go forth
OPTIONS = {
    "rtsp_flags": "prefer_tcp",  # nothing is lost on the way; UDP only where a camera knows no other
    # The first packets are looked at for a moment only, and then decoded like all others. FFmpeg's nobuffer would throw them
    # away, and with them the key frame: pictures would begin at the next one, seconds later.
    "analyzeduration": "300000",  # microseconds
    "fpsprobesize": "0",
    "overrun_nonfatal": "1",  # UDP that comes too fast is lost, not the end
    "live_start_index": "-2",  # HLS: the piece before the newest
}
ABSENT = "is not a protocol of this build of FFmpeg; expected rtsp, http, https, udp, rtp, rtmp or tcp, or a pipe"


def open_stream(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """Connects, waits for the first frame. `pending_frames` ends with a video or a shell's pipe, otherwise with an InputError.

    InputError in one line, without the password, if nobody answers, or nothing that is a picture comes.
    """
    name = shown_address(address)
    container = connect(address)
    stream = pictures_of(container, name)
    frames = _decoded(container, stream, name)
    first = next(frames, None)
    if first is None:
        raise InputError(f"{name}: ended before a picture of it could be decoded")
    at, frame = first
    described = f"{name}: {frame.width}x{frame.height} {stream.codec_context.codec.canonical_name}, {container.format.name}"
    bgr = partial(_upright, ToBgr(Color(frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)), name)
    is_film, is_inherited = (container.duration or 0) > 0, bool(OPENED.fullmatch(address))
    if is_film or container.format.name.startswith("hls"):
        frames = in_real_time(_timed(first, frames, stream), JUMP)
    else:
        frames = _with(first, frames)
    pending_frames = _pending_frames(frames, bgr, None if is_film or is_inherited else f"{name}: the stream has ended")
    return LiveSource(
        described, _again(pending_frames, address) if is_film and capture_settings.loop and not is_inherited else pending_frames
    )


def connect(address: str) -> InputContainer:
    """PyAV's container. InputError in one line if there is none."""
    try:
        return av.open(path_of(address), options=OPTIONS, timeout=(OPENING, SILENCE), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{shown_address(address)}: {reason(error, address)}") from error
    except ValueError as error:  # of what is no address at all
        raise InputError(f"{shown_address(address)}: is no address") from error


def reason(error: Exception, address: str) -> str:
    """Why there is no stream, or no more of it, in words."""
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        if "@" in address:
            return "it does not take this user and password; signs such as @ and / in them are written %40 and %2F"
        return f"it wants a user and a password: {scheme_of(address)}://USER:PASSWORD@HOST/..."
    if isinstance(error, av.error.HTTPNotFoundError):
        return "the server has nothing under this path (404)"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there (connection refused)"
    if isinstance(error, av.error.ExitError | TimeoutError):
        return f"no answer within {OPENING:g} s"
    if isinstance(error, av.error.ProtocolNotFoundError):
        return f"{scheme_of(address)}:// {ABSENT}"
    if isinstance(error, av.error.InvalidDataError):
        return "what comes from it is no video that is known here"
    if isinstance(error, EOFError):
        return "it ends before a picture has come"
    return unknown_host(address) or f"no video can be read from it ({getattr(error, 'strerror', type(error).__name__)})"


def unknown_host(address: str) -> str | None:
    """That there is no such host, in words; FFmpeg calls that an input/output error."""
    try:
        host = urlsplit(shown_address(address)).hostname
    except ValueError:
        return None
    try:
        socket.getaddrinfo(host or "localhost", None)
    except (OSError, UnicodeError):
        return f"there is no host of the name {host}, or no network"
    return None


def pictures_of(container: InputContainer, name: str) -> av.VideoStream:
    """Its video, ready to be decoded without delay; the other tracks are not even read. InputError if it has none."""
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream):
        raise InputError(f"{name}: has no pictures in it")
    if stream.codec_context is None:
        raise InputError(f"{name}: the codec of its video is unknown here")
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    stream.codec_context.options = {"max_pixels": str(LARGEST)}
    stream.codec_context.flags |= Flags.low_delay
    stream.thread_type = "SLICE"  # threads that work on several frames hold each of them back
    return stream


def _decoded(container: InputContainer, stream: av.VideoStream, name: str) -> Iterator[tuple[float, av.VideoFrame]]:
    """(`time.perf_counter()` when it came, frame), to the end of the stream; what is damaged is passed over."""
    torn = 0
    while True:
        try:
            for packet in container.demux(stream):
                at, torn = time.perf_counter(), 0
                if packet.size:  # an empty one would end the decoder's work
                    yield from ((at, frame) for frame in _frames(stream, packet))
            yield from ((time.perf_counter(), frame) for frame in _frames(stream, None))
            return
        except av.error.InvalidDataError as error:
            torn += 1
            if torn > TORN:
                raise InputError(f"{name}: what comes from it is no video any more") from error
        except IndexError:  # how PyAV tells that a track appeared which was not there at first
            torn += 1
            if torn > TORN:
                raise InputError(f"{name}: its tracks have changed") from None
        except (av.FFmpegError, OSError) as error:
            what = "nothing comes any more" if isinstance(error, av.error.ExitError | TimeoutError) else "the connection is lost"
            raise InputError(f"{name}: {what} ({error.strerror})") from error


def _frames(stream: av.VideoStream, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
    """None: those that the decoder still has."""
    try:
        return stream.decode(packet)
    except (av.FFmpegError, MemoryError):
        return []


def _with(
    first: tuple[float, av.VideoFrame], rest: Iterator[tuple[float, av.VideoFrame]]
) -> Iterator[tuple[float, av.VideoFrame]]:
    yield first
    yield from rest


def _timed(
    first: tuple[float, av.VideoFrame], rest: Iterator[tuple[float, av.VideoFrame]], stream: av.VideoStream
) -> Iterator[tuple[float, av.VideoFrame]]:
    """By the stream's own clock, in seconds."""
    seconds = 0.0
    for _, frame in _with(first, rest):
        if frame.pts is not None and stream.time_base is not None:
            seconds = float(frame.pts * stream.time_base)
        yield seconds, frame


def _pending_frames(
    frames: Iterator[tuple[float, av.VideoFrame]], bgr: partial[Image], end: str | None
) -> Iterator[PendingFrame]:
    """end: the error in which it ends, if it should have gone on."""
    for at, frame in frames:
        yield PendingFrame(at, partial(bgr, frame))
    if end is not None:
        raise InputError(end)


def _again(pending_frames: Iterator[PendingFrame], address: str) -> Iterator[PendingFrame]:
    """A film, begun again at its end."""
    while True:
        yield from pending_frames
        pending_frames = open_stream(address, CaptureSettings(loop=False)).pending_frames


def _upright(bgr: ToBgr, name: str, frame: av.VideoFrame) -> Image:
    try:
        return bgr(frame)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
