"""Encodes frames into a video file, each at its own time. `muxer` adds sound and the other side streams."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from cyclecast.errors import ConfigError, CyclecastError, OutputError
from cyclecast.video.alpha import has_alpha, write_alpha
from cyclecast.video.color import frame_from_bgr
from cyclecast.video.files.captions import with_captions
from cyclecast.video.files.encoders import ALPHA_OPTIONS, ENCODERS, ordinary_priority
from cyclecast.video.files.encoding import Encoding
from cyclecast.video.files.watchdog import Watchdog
from cyclecast.video.frame import Frame, StreamInfo

CONTAINERS = {
    ".mp4": "h264",
    ".m4v": "h264",
    ".mov": "h264",
    ".mkv": "h264",
    ".webm": "vp9",
}  # suffix -> codec by default
MILLISECOND = Fraction(1, 1000)  # Matroska's tick
MP4_FAMILY = (".mp4", ".m4v", ".mov")
GROWING_MP4 = {"flush_packets": "1", "movflags": "+frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"}  # µs
GROWING_MATROSKA = {"flush_packets": "1", "cluster_time_limit": "1000"}  # ms


@dataclass(frozen=True)
class Part:
    """A file with some of a video's encoded frames; the first one has pts 0 in it."""

    path: Path
    frames: int
    first: int
    """The pts of its first frame in the video, in ticks of the video's time base."""
    last: int
    end: int
    """Ticks after `first` until its last frame has been shown."""
    reordered: int
    """The most places by which a frame is decoded later than it is shown."""

    @property
    def counts_ticks(self) -> bool:
        """Times in the file are ticks of the video's time base, whatever its own says."""
        return self.path.suffix == ".mkv"


class VideoWriter:
    """Encodes frames of one size into a file. A context manager; `close` finishes the file.

    first: the pts that becomes 0. is_part: of a longer video; Matroska counts milliseconds, but a part in it counts ticks of the
    time base instead, so that times stay exact. growing: the file can be played while it is written, also if it is never
    finished: the encoder holds few frames back, and every packet goes to the system at once.
    file: `path`, open for writing, which the caller closes; only for a growing one. add_streams: adds others, for `mux`.
    Raises OutputError if the container cannot hold the codec or the file cannot be written,
    ConfigError for settings that the encoder does not accept.
    """

    def __init__(
        self,
        path: Path,
        info: StreamInfo,
        encoding: Encoding | None = None,
        first: int = 0,
        growing: bool = False,
        file: FileIO | None = None,
        is_part: bool = False,
        add_streams: Callable[[OutputContainer], None] | None = None,
    ) -> None:
        suffix = path.suffix.lower()
        if suffix not in CONTAINERS:
            raise OutputError(f"no container of that name; there are: {', '.join(CONTAINERS)}")
        encoding = encoding or Encoding(CONTAINERS[suffix])
        if encoding.codec not in ENCODERS:
            raise ConfigError(f"no codec named {encoding.codec!r}; there are: {', '.join(ENCODERS)}")
        self.path, self.info, self._first, self._file = path, info, first, file
        self.frames = 0
        self.last = first
        """The pts of the last frame."""
        self._counts_ticks = is_part and suffix == ".mkv"
        self._end = 0  # of the frame shown last, in ticks after `first`
        self._size = 0  # bytes of all packets
        self._order: list[int] = []  # pts in the order in which the encoder output them
        self._reformatter = VideoReformatter()
        self._durations: dict[int, int] = {}  # of frames inside the encoder, by pts: most encoders forget them
        self._delay: int | None = None  # of the first frame, between decoding and showing, in ticks
        self._open = contextlib.ExitStack()
        self._watchdog = Watchdog(encoding.encoder.name)
        self._open.callback(self._watchdog.close)
        try:
            self._container = cast(
                OutputContainer,
                self._open.enter_context(open_output(path, growing, file=file, is_only_video=add_streams is None)),
            )
            self._stream = self._add_video(encoding, growing)
            if add_streams is not None:
                add_streams(self._container)
            self._container.start_encoding()
        except CyclecastError:  # a ConfigError is a ValueError, too
            self._discard()
            raise
        except (av.FFmpegError, OSError, ValueError) as error:
            self._discard()
            raise OutputError(f"cannot write {encoding.codec} video into {suffix} ({reason(error)})") from error
        except BaseException:
            self._discard()
            raise

    def _add_video(self, encoding: Encoding, growing: bool) -> VideoStream:
        encoder, info = encoding.encoder, self.info
        options = encoder.options(encoding.crf, encoding.preset, width=info.width, height=info.height, rate=info.rate)
        if growing:
            options |= encoder.low_delay()
        if encoding.keeps_alpha:
            options |= ALPHA_OPTIONS.get(encoder.name, {})
        hwaccel = encoder.hwaccel()
        extra: dict[str, Any] = {"hwaccel": hwaccel} if hwaccel else {}
        rate = encoder.accepted_rate(info.rate)
        stream = cast(VideoStream, self._container.add_stream(encoder.name, rate=rate, options=options, **extra))
        context, color = stream.codec_context, info.color
        # 4:2:0 has no odd sizes: the last row or column is repeated once.
        context.width, context.height = even(info.width), even(info.height)
        context.pix_fmt = self._pix_fmt = encoder.pix_fmt(encoding.pix_fmt)
        context.time_base = stream.time_base = self.info.time_base
        context.sample_aspect_ratio = self.info.pixel_aspect
        context.thread_type = "AUTO"
        context.colorspace, context.color_range = color.matrix, color.range
        context.color_primaries, context.color_trc = color.primaries, color.transfer
        if encoding.codec == "hevc" and self.path.suffix.lower() in MP4_FAMILY:
            context.codec_tag = "hvc1"  # Apple's players open no other
        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints to the terminal: errors only
        try:
            with ordinary_priority():
                self._watchdog.call(context.open)
        except (av.FFmpegError, ValueError) as error:
            raise OutputError(f"the {encoding.codec} encoder does not take these settings ({reason(error)})") from error
        return stream

    def write(self, frame: Frame) -> None:
        """Encodes one frame. A time that is not later than the one before becomes a tick later, as a player would show it."""
        pts = max(frame.pts, self.last + 1 if self.frames else self._first)
        image, alpha = frame.image, frame.alpha
        height, width = image.shape[:2]
        if (width, height) != (self.info.width, self.info.height):
            raise OutputError(f"a frame of {width}x{height} in a video of {self.info.width}x{self.info.height}")
        if width % 2 or height % 2:
            image = pad_to_even(image)
            alpha = None if alpha is None else pad_to_even(alpha)
        encodable = frame_from_bgr(image, self.info.color, self._pix_fmt, self._reformatter)
        if has_alpha(self._pix_fmt):
            write_alpha(encodable, alpha)
        if frame.captions is not None:
            encodable = with_captions(encodable, frame.captions)
        encodable.pts, encodable.time_base = pts - self._first, self.info.time_base
        self._durations[pts - self._first] = frame.duration
        self._encode(encodable)
        self.last = pts
        self.frames += 1

    def _encode(self, frame: av.VideoFrame | None) -> None:
        """Puts one frame into the encoder (None: flushes it) and writes what the encoder outputs."""
        try:
            packets = self._watchdog.call(self._stream.encode, frame)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"the encoder failed ({reason(error)})") from error
        if frame is None and not self._order:  # the whole video: x265 sets no decoding times in one of one or two frames
            order = [packet.pts or 0 for packet in packets]
            for packet, dts in zip(packets, decoding_times(order, reordering(order)), strict=False):
                packet.dts = dts
        for packet in packets:
            if packet.pts is not None and packet.dts is not None:
                duration = self._durations.pop(packet.pts, 0) or packet.duration or 0
                packet.duration = duration
                self._order.append(packet.pts)
                self._delay = packet.pts - packet.dts if self._delay is None else self._delay
                self._end = max(self._end, packet.pts + duration)
        if frame is None and packets and self.path.suffix.lower() in MP4_FAMILY:
            extend_last(packets[-1], self._end, self._delay or 0)
        self.mux(packets)

    def part(self) -> Part:
        """Describes what was written; call it after `close`."""
        return Part(self.path, self.frames, self._first, self.last, self._end, reordering(self._order))

    def mux(self, packets: Sequence[av.Packet[Any]]) -> None:
        """Writes packets of any stream. Raises OutputError if that fails."""
        for packet in packets if self._counts_ticks else ():
            packet.time_base = MILLISECOND
        self._size += sum(packet.size for packet in packets)
        try:
            self._container.mux(packets)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"writing failed ({reason(error)})") from error

    def close(self) -> None:
        """Flushes the encoder and finishes the container."""
        try:
            self._encode(None)
        except BaseException:
            self._discard()
            raise
        try:
            self._open.close()
            size = (os.stat(self.path) if self._file is None else os.fstat(self._file.fileno())).st_size
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"writing failed ({reason(error)})") from error
        if size < self._size:  # FFmpeg reports no error where the last fragment of an MP4 does not fit
            raise OutputError(f"writing failed (the file has {size} bytes, its frames have {self._size}: the disk may be full)")

    def _discard(self) -> None:
        """Closes a file that is not kept, in whatever state it is."""
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self._open.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            self._discard()


def open_output(
    path: Path, growing: bool = False, any_tags: bool = False, file: FileIO | None = None, is_only_video: bool = True
) -> Any:
    """Opens PyAV's container for writing; it keeps all times. growing, file: as in `VideoWriter`.

    any_tags: MP4 and QuickTime files hold tags of any name, in a list of keys instead of the usual boxes. is_only_video: no sound
    has to be in sync with the frames.
    """
    # Sound often starts a little before 0 (AAC's priming): shifting everything to hide that would move the frames.
    options = {"avoid_negative_ts": "disabled"}
    is_mp4 = path.suffix.lower() in MP4_FAMILY
    if growing:  # it has an index for each second; FFmpeg's buffer would hold more than that
        options |= GROWING_MP4 if is_mp4 else GROWING_MATROSKA
        if is_mp4 and not is_only_video:  # frames are decoded before time 0: everything starts that much later
            options |= {"avoid_negative_ts": "make_non_negative", "movflags": f"{options['movflags']}+delay_moov"}
    elif is_mp4:  # the index in front: a player can start before it has the whole file
        options["movflags"] = "+faststart+use_metadata_tags" if any_tags else "+faststart"
    return av.open(os.path.abspath(path) if file is None else file, "w", options=options)


def reordering(order: Sequence[int]) -> int:
    """Returns by how many places, at most, a frame is decoded after its turn. order: distinct pts, in decoding order."""
    shown = {pts: place for place, pts in enumerate(sorted(order))}
    return max((place - shown[pts] for place, pts in enumerate(order)), default=0)


def decoding_times(pts: Sequence[int], reordered: int) -> list[int]:
    """Returns the decoding times of a video that starts with these frames, and `reordered` more: the presentation times."""
    shown = sorted(pts)
    step = shown[1] - shown[0] if len(shown) > 1 else 1
    return [shown[0] - step * n for n in range(reordered, 0, -1)] + shown


def extend_last(last: av.Packet[Any], end: int, delay: int) -> None:
    """Extends the last packet until `end`: MP4 adds up durations in decoding order, whose last frame is seldom the last shown.

    delay: of the first frame, between decoding and showing; all in ticks.
    """
    last.duration = max(last.duration or 0, end - (last.dts or 0) - delay)


def reason(error: Exception) -> str:
    """Returns FFmpeg's or the system's description of the error."""
    return str(getattr(error, "strerror", None) or error)


def pad_to_even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeats the last row or column of an image, or of its alpha, if its height or width is odd."""
    height, width = image.shape[:2]
    return np.asarray(cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)


def even(length: int) -> int:
    """Returns the smallest even number that is not below `length`."""
    return length + length % 2
