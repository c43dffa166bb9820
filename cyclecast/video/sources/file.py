"""Frames of a video file, upright, each with its own time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import InputContainer

from cyclecast.errors import InputError
from cyclecast.video.frame import Colour, Frame, Image, StreamInfo

# swscale's BILINEAR | FULL_CHR_H_INT | ACCURATE_RND: without the last two a plain grey comes back 5 levels off, tinted.
EXACT_COLOURS = 0x2 | 0x2000 | 0x40000
LATEST_START = Fraction(1)  # second; a file that begins later, begins at 0 in the output


def open_container(path: Path) -> InputContainer:
    """PyAV's container for reading; InputError in one line if it is none."""
    try:  # absolute, or a colon in a name would read as a protocol
        return av.open(os.path.abspath(path), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        if not os.path.exists(path):
            raise InputError(f"{path}: no such file") from error
        raise InputError(f"{path}: cannot be read as a video ({error.strerror})") from error


class VideoFile:
    """The main video stream of a file: `info`, and frames by iterating once. A context manager.

    What cannot be decoded is passed over and, once the frames are through, told by `damage`. InputError if the file is
    missing, is no video, has no picture that can be decoded, or its clock jumps back.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container = open_container(path)
        self._packets = self._undecodable = 0
        try:
            stream = self._container.streams.best("video")  # a cover picture is none
            if not isinstance(stream, av.VideoStream):
                raise InputError(f"{path}: has no video stream")
            self._stream = stream
            self._stream.thread_type = "AUTO"
            self._frames = self._decode()
            self._first = next(self._frames, None)
            if self._first is None:
                raise InputError(f"{path}: no frame of it can be decoded")
            self.info = self._describe(self._first)
        except BaseException:
            self._container.close()
            raise

    @property
    def damage(self) -> str | None:
        """What was wrong with the frames so far, in words; complete after the last one."""
        told = []
        if self._undecodable:
            told.append(f"{self._undecodable} packets cannot be decoded")
        if self._packets < self._stream.frames:
            told.append(f"{self._stream.frames - self._packets} of {self._stream.frames} frames are missing")
        return f"damaged: {', '.join(told)}" if told else None

    def _describe(self, first: av.VideoFrame) -> StreamInfo:
        stream, context = self._stream, self._stream.codec_context
        time_base, rate = stream.time_base, stream.average_rate or stream.guessed_rate
        if time_base is None:
            raise InputError(f"{self.path}: its video stream has no time base")
        rate = rate or Fraction(25)
        seconds = stream.duration * time_base if stream.duration else Fraction(self._container.duration or 0, 1_000_000)
        width, height = first.width, first.height
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if first.rotation % 180:
            width, height, aspect = height, width, 1 / aspect
        return StreamInfo(
            width=width,
            height=height,
            rate=rate,
            time_base=time_base,
            frames=stream.frames or round(seconds * rate) or None,
            colour=Colour(context.colorspace, context.color_range, context.color_primaries, context.color_trc),
            pixel_aspect=aspect,
            start=self._start((first.pts or 0) * time_base),
        )

    def _start(self, first: Fraction) -> Fraction:
        """0 for the usual file, whose times are kept as they are; else what brings its first moment to 0."""
        if first < 0:
            return first
        begin = Fraction(self._container.start_time or 0, 1_000_000)
        return begin if begin >= LATEST_START else Fraction(0)

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Packet by packet, so that a damaged one costs its own frames only; to the end, whatever the header says."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (
                av.FFmpegError,
                IndexError,
            ):  # unreadable from here on; the latter is how PyAV meets a stream it did not expect
                self._undecodable += 1
                return
            if packet is None:
                return
            self._packets += packet.size > 0
            try:
                yield from packet.decode()
            except av.FFmpegError:
                self._undecodable += 1

    def __iter__(self) -> Iterator[Frame]:
        """Every frame that can be decoded, each at its own time less `info.start`."""
        step = max(1, round(1 / (self.info.rate * self.info.time_base)))  # ticks, for frames that say nothing
        start, longest_step_back = round(self.info.start / self.info.time_base), round(1 / self.info.time_base)
        pts = start - step
        frame = self._first
        while frame is not None:
            now = pts + step if frame.pts is None else frame.pts
            if now < pts - longest_step_back:
                back = float((pts - now) * self.info.time_base)
                raise InputError(
                    f"{self.path}: its clock jumps back by {back:.1f} s, as in files strung together; split it there"
                )
            pts = now
            yield Frame(upright(frame), pts - start, frame.duration or 0)
            frame = next(self._frames, None)

    def close(self) -> None:
        """Lets go of the file."""
        self._container.close()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def upright(frame: av.VideoFrame) -> Image:
    """(H, W, 3) uint8 BGR, converted with the frame's own matrix and range, turned as its display matrix says."""
    image = np.asarray(frame.to_ndarray(format="bgr24", interpolation=EXACT_COLOURS), np.uint8)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
