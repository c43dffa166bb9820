"""Frames of a video file, upright, each with its own time."""

from __future__ import annotations

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


def open_container(path: Path) -> InputContainer:
    """PyAV's container for reading; InputError in one line if it is none."""
    try:
        return av.open(str(path), metadata_errors="replace")
    except av.FFmpegError as error:
        if not path.exists():
            raise InputError(f"{path}: no such file") from error
        raise InputError(f"{path}: cannot be read as a video ({error.strerror})") from error


class VideoFile:
    """The first video stream of a file: `info`, and frames by iterating once. A context manager.

    InputError if the file is missing, is no video, has no picture, or is damaged on the way.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container = open_container(path)
        try:
            if not self._container.streams.video:
                raise InputError(f"{path}: has no video stream")
            self._stream = self._container.streams.video[0]
            self._stream.thread_type = "AUTO"
            self._frames = self._decode()
            self._first = next(self._frames, None)
            if self._first is None:
                raise InputError(f"{path}: no frame of it can be decoded")
            self.info = self._describe(self._first)
        except BaseException:
            self._container.close()
            raise

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
        )

    def _decode(self) -> Iterator[av.VideoFrame]:
        try:
            yield from self._container.decode(self._stream)
        except av.FFmpegError as error:
            raise InputError(f"{self.path}: damaged: {error.strerror}") from error

    def __iter__(self) -> Iterator[Frame]:
        """Every frame to the end of the stream: a count in the header is a hint, not a promise."""
        step = max(1, round(1 / (self.info.rate * self.info.time_base)))  # ticks, for frames that say nothing
        pts = -step
        frame = self._first
        while frame is not None:
            pts = pts + step if frame.pts is None else frame.pts
            yield Frame(upright(frame), pts, frame.duration or 0)
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
