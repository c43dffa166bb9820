"""Frames of a video file, upright, each with its own time."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from cyclecast.errors import InputError, MissingInputError
from cyclecast.video.color import HDR, ToBgr, delivered, orientation
from cyclecast.video.files.decoding import DecodeStats, can_be_entered, frames_of, main_stream, missing_bytes, packets_of
from cyclecast.video.frame import Color, Frame, Image, StreamInfo

LATEST_START = Fraction(1)  # second; a file that begins later, begins at 0 in the output


@dataclass(frozen=True)
class TimeRange:
    """The part of a film that is wanted: from `start` seconds of its own clock, for `duration` seconds (None: to its end)."""

    start: Fraction = Fraction(0)
    duration: Fraction | None = None


@dataclass(frozen=True)
class ResumePoint:
    """Where an earlier run stopped: after so many frames, the last of which had this pts."""

    frames: int
    pts: int
    steady: bool
    """Up to there every frame came with a time of its own and could be decoded, so a file may be entered in its middle."""


def open_container(path: Path, hwaccel: HWAccel | None = None) -> InputContainer:
    """PyAV's container for reading; InputError in one line if it is none, or has nothing that `hwaccel` decodes."""
    try:  # absolute, or a colon in a name would read as a protocol
        return av.open(os.path.abspath(path), metadata_errors="replace", hwaccel=hwaccel)
    except (av.FFmpegError, OSError) as error:
        if not os.path.exists(path):
            raise MissingInputError(f"{path}: no such file") from error
        raise InputError(f"{path}: cannot be read as a video ({error.strerror})") from error
    except RuntimeError as error:  # how PyAV says that hardware knows none of the codecs
        raise InputError(f"{path}: {error}") from error


class VideoFile:
    """The main video stream of a file: `info`, and frames by iterating once. A context manager.

    What cannot be decoded is passed over and, once the frames are through, told by `damage`. InputError if the file is
    missing, is no video, has no picture that can be decoded, ends before `window` begins, or its clock jumps back.
    """

    def __init__(self, path: Path, window: TimeRange | None = None, hwaccel: HWAccel | None = None) -> None:
        self.path, self._hwaccel = path, hwaccel
        self.notices: list[str] = []
        """What is not as it was, in words: HDR, sizes that change; complete after the last frame."""
        self.steady = True
        """As `ResumePoint.steady`, of the frames so far."""
        self._window = window or TimeRange()
        self._done = ResumePoint(0, 0, True)
        self._open()
        try:
            self.info = self._describe()
        except BaseException:
            self._container.close()
            raise

    def _open(self) -> None:
        """At the first frame."""
        self._container = open_container(self.path, self._hwaccel)
        self._count, self._before = DecodeStats(), 0
        try:
            self._stream = main_stream(self._container, self.path)
            # What the header counts may lie outside of the edit list, or be of no size: a picture that is shown once more.
            entries = self._stream.index_entries if self._stream.frames else ()
            self._expected = sum(entry.size > 0 for entry in entries) or self._stream.frames
            self._missing = missing_bytes(self.path)
            self._frames = self._decode()
            first = next(self._frames, None)
            if first is None:
                raise InputError(f"{self.path}: no frame of it can be decoded")
            self._first = first
        except BaseException:
            self._container.close()
            raise

    @property
    def damage(self) -> str | None:
        """What was wrong with the frames so far, in words; complete after the last one."""
        told, packets = self._count.told(), self._before + self._count.packets
        if self._window.duration is None and packets < self._expected:
            told.append(f"{self._expected - packets} of {self._expected} frames are missing")
        elif self._window.duration is None and self._missing:
            told.append(f"its last {self._missing} bytes are missing")
        elif self._count.unreadable:
            told.append("it cannot be read to its end")
        return f"damaged: {', '.join(told)}" if told else None

    def _describe(self) -> StreamInfo:
        stream, context, first = self._stream, self._stream.codec_context, self._first
        time_base, rate = stream.time_base, stream.average_rate or stream.guessed_rate
        if time_base is None:
            raise InputError(f"{self.path}: its video stream has no time base")
        rate = rate or Fraction(25)
        seconds = stream.duration * time_base if stream.duration else Fraction(self._container.duration or 0, 1_000_000)
        frames = stream.frames or round(seconds * rate)
        if self._window != TimeRange():
            seconds = max(Fraction(0), (seconds or frames / rate) - self._window.start)
            frames = round(rate * (seconds if self._window.duration is None else min(seconds, self._window.duration)))
        width, height = first.width, first.height
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if orientation(first)[0]:
            width, height, aspect = height, width, 1 / aspect
        color = Color(context.colorspace, context.color_range, context.color_primaries, context.color_trc)
        if color.transfer in HDR:
            self.notices.append(f"HDR ({HDR[color.transfer]}) was mapped to the range of a screen, BT.709")
        self._bgr = ToBgr(color)
        return StreamInfo(
            width=width,
            height=height,
            rate=rate,
            time_base=time_base,
            frames=frames or None,
            color=delivered(color, first.format.is_rgb),
            pixel_aspect=aspect,
            start=self._start((first.pts or 0) * time_base) + self._window.start,
        )

    def _start(self, first: Fraction) -> Fraction:
        """0 for the usual file, whose times are kept as they are; else what brings its first moment to 0."""
        if first < 0:
            return first
        begin = Fraction(self._container.start_time or 0, 1_000_000)
        return begin if begin >= LATEST_START else Fraction(0)

    def _decode(self) -> Iterator[av.VideoFrame]:
        """All that can be decoded, from where the container is to the end, whatever the header says."""
        count, last = self._count, None
        for frame in frames_of(self._container, self._stream, count):
            yield frame
            last = frame.pts
        if count.packets > count.frames + len(count.undecodable) and (last is not None or not count.frames):
            yield from self._end_behind(last)

    def _end_behind(self, last: int | None) -> Iterator[av.VideoFrame]:
        """The frames after `last` (None: all), decoded on one thread, when there are packets that gave neither frame nor error.

        PyAV drops what several threads have in hand at the end of a file once there is an error among it.
        """
        count, known = DecodeStats(), self._count.undecodable
        with open_container(self.path, self._hwaccel) as container:
            stream = main_stream(container, self.path)
            stream.codec_context.thread_count = 1
            if last is not None:
                try:
                    container.seek(last, stream=stream, backward=True, any_frame=False)
                except (av.FFmpegError, OSError):
                    return
            for frame in frames_of(container, stream, count):
                told = sum(at >= count.entry for at in known)
                self._count.undecodable = known + count.undecodable[told:]
                if last is None or (frame.pts is not None and frame.pts > last):
                    self._count.frames += 1
                    self._count.patched_frames += frame.is_corrupt
                    yield frame
        told = sum(at >= count.entry for at in known)
        self._count.undecodable = known + count.undecodable[told:]

    def times(self) -> list[int]:
        """When each picture of the window is shown, in ticks as `Frame.pts`, by what its packet says; nothing is decoded."""
        start = round(self.info.start / self.info.time_base)
        end = None if self._window.duration is None else round(self._window.duration / self.info.time_base)
        with open_container(self.path) as container:
            packets = packets_of(container, main_stream(container, self.path), DecodeStats())
            shown = sorted(packet.pts - start for packet in packets if packet and packet.pts is not None)
        return [pts for pts in shown if (pts >= 0 or not self._window.start) and (end is None or pts < end)]

    def go_on(self, place: ResumePoint) -> None:
        """Makes iteration begin after this place, where an earlier run of the same window stopped."""
        self._done = place

    def _enter(self, pts: int) -> bool:
        """Goes to the last key frame no later than `pts` of the stream; False, and back at the start, if there is none.

        What is decoded from a key frame on is what it would be in a run from the start.
        """
        first = self._first.pts
        if first is None or pts <= first or not can_be_entered(self._container, self._stream):
            return False
        try:
            self._container.seek(pts, stream=self._stream, backward=True, any_frame=False)
            self._count = DecodeStats()
            self._frames = self._decode()
            frame = next(self._frames, None)
        except (av.FFmpegError, OSError):
            frame = None
        index = [entry.timestamp for entry in self._stream.index_entries] if self._expected else []
        # A later frame than the first packet's: what is called a key frame is where an image begins to be renewed, bit by bit.
        is_clean = frame is not None and frame.pts == self._count.first and not self._count.flawed
        if frame is None or frame.pts is None or frame.pts > pts or not is_clean or len(index) < self._expected:
            self._container.close()
            self._open()
            return False
        self._before = bisect.bisect_left(index, self._count.entry)  # the packets passed over were there
        self._first = frame
        return True

    def __iter__(self) -> Iterator[Frame]:
        """Every frame of the window that can be decoded, each at its own time less `info.start`."""
        info, done = self.info, self._done
        start = round(info.start / info.time_base)
        end = None if self._window.duration is None else round(self._window.duration / info.time_base)
        wanted = done.pts if done.frames else 0
        if done.steady and wanted + start > 0:
            self._enter(wanted + start)
        passed = 0 if done.steady else done.frames  # still to be passed over, of those in the window
        reached = not (done.frames and done.steady)
        for frame, pts, duration in self._timed(start):
            if pts < 0 and self._window.start:
                continue
            if end is not None and pts >= end:
                return
            if not reached:
                reached = pts >= done.pts
                if pts <= done.pts:
                    continue
            if passed:
                passed -= 1
                continue
            yield Frame(self._upright(frame), pts, duration)

    def _timed(self, start: int) -> Iterator[tuple[av.VideoFrame, int, int]]:
        """(frame, pts, duration) from `_first` on."""
        info = self.info
        step = max(1, round(1 / (info.rate * info.time_base)))  # ticks, for frames that say nothing
        longest_step_back = round(1 / info.time_base)
        frame: av.VideoFrame | None = self._first
        last: int | None = None
        while frame is not None:
            pts = frame.pts
            if last is None:
                pts = 0 if pts is None else pts
            elif pts is None:
                pts = last + step
            elif pts < last - longest_step_back:
                back = float((last - pts) * info.time_base)
                raise InputError(
                    f"{self.path}: its clock jumps back by {back:.1f} s, as in files strung together; split it there"
                )
            self.steady = self.steady and pts == frame.pts and (last is None or pts > last) and not self._count.flawed
            last = pts
            yield frame, pts - start, frame.duration or step
            frame = next(self._frames, None)

    def _upright(self, frame: av.VideoFrame) -> Image:
        """As `ToBgr`; a frame of another size than the first is brought to that."""
        try:
            image = self._bgr(frame)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error
        wanted = (self.info.width, self.info.height)
        if image.shape[1::-1] != wanted:
            note = f"frames that are not of the first one's size, such as {image.shape[1]}x{image.shape[0]}, were resized"
            if not self.notices or not self.notices[-1].startswith("frames that are not"):
                self.notices.append(note)
            image = np.asarray(cv2.resize(image, wanted, interpolation=cv2.INTER_AREA), np.uint8)
        return image

    def close(self) -> None:
        """Lets go of the file."""
        self._container.close()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
