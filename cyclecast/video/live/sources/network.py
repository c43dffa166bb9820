"""Streams over a network or a pipe, through FFmpeg: RTSP, HTTP, UDP, RTMP and more, with the least delay that FFmpeg allows.

Frames that a server has buffered are decoded as fast as they arrive, until the newest is reached. Only HLS, which arrives in
segments, and video files on a server are played by their own clock.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import av
import cv2
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Discard

from cyclecast.errors import InputError
from cyclecast.video.color import BgrConverter
from cyclecast.video.files.decoding import LARGEST
from cyclecast.video.files.lists import LOCAL_LISTS, STREAMED_LISTS, formats_without
from cyclecast.video.frame import Color, Image
from cyclecast.video.live.sources.address import PROC_PIPE, file_path, redacted_address, url_scheme
from cyclecast.video.live.sources.http_images import (
    Answer,
    decode_jpeg,
    pending_jpegs,
    repeated_jpegs,
    request,
    streamed_jpegs,
)
from cyclecast.video.live.sources.network_errors import failure_reason
from cyclecast.video.live.sources.playback import in_real_time
from cyclecast.video.live.sources.relay import Relay, guard
from cyclecast.video.live.sources.source import CaptureSettings, LiveSource, PendingFrame
from cyclecast.video.live.sources.stream_sound import StreamSound

OPEN_TIMEOUT_S = 10.0  # to connect, and for each of the server's first answers
MAX_DAMAGED_PACKETS = 100  # in a row
MAX_CLOCK_STEP_S = 10.0  # a larger step forward restarts the clock
FFMPEG_OPTIONS = {
    "rtsp_flags": "prefer_tcp",  # no packet is lost; UDP only for cameras without TCP
    # Probe the first packets for a moment only, and decode them like all others. FFmpeg's nobuffer would discard them and the key
    # frame with them: the first frame would be that of the next key frame, seconds later.
    "analyzeduration": "300000",  # microseconds
    "fpsprobesize": "0",
    "overrun_nonfatal": "1",  # UDP packets that arrive too fast are dropped; the stream continues
    "live_start_index": "-2",  # HLS: start with the segment before the newest
}

# What a stream may be made of, whatever it names: no local file, and no list of files.
WEB = "http,https,httpproxy,tcp,tls,crypto,data"
PROTOCOLS = {
    "http": WEB,
    "https": WEB,
    "rtsp": "rtp,srtp,udp,tcp,tls",
    "rtsps": "rtp,srtp,udp,tcp,tls",
    "": "file",  # a named pipe
    "file": "file",
}  # scheme -> FFmpeg's protocols; others may use their own and those of the internet below it
BELOW = "tcp,tls,udp,rtp,http,https,ffrtmphttp,ffrtmpcrypt"

TimedFrame = tuple[float, av.VideoFrame]
"""(seconds, decoded frame)"""


def open_stream(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """Connects and waits for the first frame.

    A video file on a server and a shell's pipe may end; every other stream that ends is an InputError of `pending_frames`.
    InputError in one line, without the password, if the server does not answer or sends no video.
    """
    name = redacted_address(address)
    answer = request(address, OPEN_TIMEOUT_S / 2)
    if answer is not None and (answer.is_jpeg_stream or answer.is_jpeg):
        return open_images(answer, address, capture_settings)
    with ExitStack() as connection:  # closed here if anything fails, and otherwise with the frames
        if answer is not None:
            connection.callback(answer.close)
        container = connection.enter_context(connect(address, answer, max(OPEN_TIMEOUT_S, capture_settings.patience or 0.0)))
        stream = select_video_stream(container, name)
        sound = select_sound(container) if capture_settings.sound else None
        frames = _decode_frames(container, stream, name, connection.pop_all(), sound)
    first = next(frames, None)
    if first is None:
        raise InputError(f"{name}: ended before its first frame could be decoded; check that the sender runs")
    frame = first[1]
    description = f"{name}: {frame.width}x{frame.height} {stream.codec_context.codec.canonical_name}, {container.format.name}"
    color = Color(frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
    to_bgr = partial(_convert_to_bgr, BgrConverter(color), name)
    is_file, is_shell_pipe = (container.duration or 0) > 0, bool(PROC_PIPE.fullmatch(address))
    frames = _prepend(first, frames)
    if is_file or container.format.name.startswith("hls"):
        frames = in_real_time(_with_stream_time(frames, stream), MAX_CLOCK_STEP_S)
    end = None if is_file or is_shell_pipe else f"{name}: the stream has ended"
    pending_frames = _pending_frames(frames, to_bgr, end, sound)
    if is_file and capture_settings.loop and not is_shell_pipe:
        pending_frames = _loop(pending_frames, address, capture_settings.sound)
    return LiveSource(description, pending_frames, has_sound=sound is not None)


def open_images(answer: Answer, address: str, capture_settings: CaptureSettings) -> LiveSource:
    """Opens an address that sends JPEG images. Raises InputError if it ends before one can be decoded."""
    name = redacted_address(address)
    if answer.is_jpeg_stream:
        form, jpegs = "MJPEG", streamed_jpegs(answer, name)
    else:
        form = "a JPEG image, requested again and again"
        jpegs = repeated_jpegs(answer, lambda: Answer(address, OPEN_TIMEOUT_S), capture_settings.fps, name)
    for first in jpegs:
        with suppress(InputError):  # it is torn; the next one counts
            height, width = decode_jpeg(first[1], name).shape[:2]
            return LiveSource(f"{name}: {width}x{height} {form}", pending_jpegs(itertools.chain([first], jpegs), name))
    raise InputError(f"{name}: ended before its first image could be decoded; check that the sender runs")


def connect(address: str, answer: Answer | None, timeout: float) -> InputContainer:
    """Opens PyAV's container. InputError in one line if that fails.

    answer: an open answer of the address. If it is an endless stream, FFmpeg reads it, because some senders, such as
    `ffmpeg -listen 1`, take one connection only. timeout: seconds to connect and for the first packets; later ones may take any
    time, because the capture process is killed when its source is silent.
    """
    name, scheme = redacted_address(address), url_scheme(address)
    lists = STREAMED_LISTS if scheme in ("http", "https") else LOCAL_LISTS
    options = FFMPEG_OPTIONS | {
        "protocol_whitelist": PROTOCOLS.get(scheme, f"{scheme},{BELOW}"),
        "format_whitelist": formats_without(lists),
    }
    relay: Relay | None = None
    try:
        opened: Any = answer
        if answer is None or not answer.is_endless_video:
            if answer is not None:
                answer.close()  # before FFmpeg connects: a camera may take one connection only
            opened, guarded, relay = guard(file_path(address))
            options |= guarded
        container: InputContainer = av.open(opened, options=options, timeout=(timeout, None), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        failure = relay.failure if relay is not None and relay.failure is not None else error
        raise InputError(f"{name}: {failure_reason(failure, address, timeout)}") from error
    except ValueError as error:
        raise InputError(f"{name}: not a valid address; type rtsp://HOST/PATH or http://HOST/PATH") from error
    return container


def select_video_stream(container: InputContainer, name: str) -> av.VideoStream:
    """Returns the video stream, set up to decode without delay; disables all others. InputError if there is none."""
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream):
        raise InputError(f"{name}: has no video stream; check the address")
    if stream.codec_context is None:
        raise InputError(f"{name}: this build of FFmpeg does not know its video codec; set the camera to H.264")
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    stream.codec_context.options = {"max_pixels": str(LARGEST)}
    stream.codec_context.flags |= Flags.low_delay
    stream.thread_type = "SLICE"  # frame threads would delay each frame
    return stream


def select_sound(container: InputContainer) -> StreamSound | None:
    """Returns the sound of the stream, if it has any that can be decoded."""
    stream = container.streams.best("audio")
    if stream is None or stream.codec_context is None:
        return None
    stream.discard = Discard.default
    return StreamSound(stream)


def _decode_frames(
    container: InputContainer, stream: av.VideoStream, name: str, connection: ExitStack, sound: StreamSound | None = None
) -> Iterator[TimedFrame]:
    """Yields (`time.perf_counter()` on arrival, frame) to the end of the stream. Skips damaged packets and frames.

    connection: closed at the end, also if nobody takes the rest. Raises InputError if the connection is lost.
    """
    damaged = 0
    with connection:
        while True:
            try:
                for packet in container.demux(*([stream] if sound is None else [stream, sound.stream])):
                    if sound is not None and packet.stream.index != stream.index:
                        sound.decode(packet)
                        continue
                    at, damaged = time.perf_counter(), 0
                    if packet.size:  # an empty packet would flush the decoder
                        yield from ((at, frame) for frame in _decode_packet(stream, packet))
                yield from ((time.perf_counter(), frame) for frame in _decode_packet(stream, None))
                return
            except av.error.InvalidDataError as error:
                damaged += 1
                if damaged > MAX_DAMAGED_PACKETS:
                    raise InputError(f"{name}: {damaged} damaged packets in a row") from error
            except IndexError:  # PyAV raises it when a track appears that the header did not name
                damaged += 1
                if damaged > MAX_DAMAGED_PACKETS:
                    raise InputError(f"{name}: its tracks have changed") from None
            except (av.FFmpegError, OSError) as error:
                raise InputError(f"{name}: the connection is lost ({error.strerror or type(error).__name__})") from error


def _decode_packet(stream: av.VideoStream, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
    """Returns the packet's frames; of None, those that the decoder still holds; of a damaged packet, none."""
    try:
        return stream.decode(packet)
    except (av.FFmpegError, MemoryError):
        return []


def _prepend(first: TimedFrame, rest: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
    yield first
    yield from rest


def _with_stream_time(frames: Iterator[TimedFrame], stream: av.VideoStream) -> Iterator[TimedFrame]:
    """Replaces the time of arrival by the stream's own time, in seconds."""
    seconds = 0.0
    for _, frame in frames:
        if frame.pts is not None and stream.time_base is not None:
            seconds = float(frame.pts * stream.time_base)
        yield seconds, frame


def _pending_frames(
    frames: Iterator[TimedFrame], to_bgr: partial[Image], end: str | None, sound: StreamSound | None
) -> Iterator[PendingFrame]:
    """Yields a PendingFrame for each frame. end: the message of an InputError, if the stream must not end."""
    for at, frame in frames:
        yield PendingFrame(at, partial(to_bgr, frame), () if sound is None else sound.beside(frame, at))
    if end is not None:
        raise InputError(end)


def _loop(pending_frames: Iterator[PendingFrame], address: str, sound: bool) -> Iterator[PendingFrame]:
    """Plays a video file on a server again and again."""
    while True:
        yield from pending_frames
        pending_frames = open_stream(address, CaptureSettings(loop=False, sound=sound)).pending_frames


def _convert_to_bgr(convert: BgrConverter, name: str, frame: av.VideoFrame) -> Image:
    """Converts a frame to (H, W, 3) uint8 BGR. Raises InputError, whatever is wrong with the frame."""
    try:
        return convert(frame)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except (av.FFmpegError, cv2.error, ValueError, MemoryError) as error:
        raise InputError(f"{name}: a frame cannot be converted ({error})") from error
