"""Reads the frames of a video file, upright, each with its own time."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
from av.codec.hwaccel import HWAccel

from cyclecast.errors import InputError
from cyclecast.phrases import count_noun
from cyclecast.video.alpha import COMPOSED
from cyclecast.video.color import HDR_TRANSFERS, orientation, output_color
from cyclecast.video.files.captions import has_captions
from cyclecast.video.files.decoding import (
    DecodeStats,
    can_seek,
    frames_of,
    has_alpha_additions,
    main_stream,
    missing_bytes,
    packets_of,
)
from cyclecast.video.files.deinterlacing import Deinterlacer
from cyclecast.video.files.flag_check import FlagCheck
from cyclecast.video.files.opening import open_container
from cyclecast.video.files.time_range import ResumePoint, TimeRange
from cyclecast.video.files.timeline import ClockMender, Timeline, read_timeline
from cyclecast.video.files.upright import UprightFrames, is_transparent
from cyclecast.video.frame import Color, Frame, StreamInfo

LATEST_START = Fraction(1)  # second; a file whose clock begins later is moved to 0 in the output
FREE_CLOCKS = {"mpeg", "mpegts"}  # containers whose clock begins anywhere: they are always moved to 0


class VideoFile:
    """The main video stream of a file: `info`, and frames by iterating once. A context manager.

    deinterlace: make interlaced frames progressive. Frames that cannot be decoded are skipped; `damage` counts them, completely
    after the last frame. Raises InputError if the file is missing, is no video, has no frame that can be decoded, or if its
    clock jumps back and is not mended.
    """

    def __init__(
        self, path: Path, time_range: TimeRange | None = None, hwaccel: HWAccel | None = None, deinterlace: bool = True
    ) -> None:
        self.path, self._hwaccel = path, hwaccel
        self.notices: list[str] = []
        """What was changed, in phrases: HDR, interlaced frames, sizes that change. Complete after the last frame."""
        self._deinterlacer = Deinterlacer(self.notices.append) if deinterlace else None
        self.sequential = True
        """As `ResumePoint.sequential`, for the frames so far."""
        self.has_captions = False
        """A frame so far came with closed captions."""
        self.alpha_notice: str | None = COMPOSED
        """The notice about the first transparent pixel, as frames are composed on black; None: frames keep their alpha."""
        self._time_range = time_range or TimeRange()
        self._resume_point = ResumePoint(0, 0, True)
        self._timeline = Timeline()
        self._open()
        try:
            self.info = self._describe()
        except BaseException:
            self._container.close()
            raise

    def _open(self) -> None:
        """Opens the file and decodes its first frame."""
        self._container = open_container(self.path, self._hwaccel)
        self._stats, self._packets_before = DecodeStats(), 0
        try:
            self._stream = main_stream(self._container, self.path)
            is_hardware_only = self._hwaccel and not getattr(self._hwaccel, "allow_software_fallback", True)
            if is_hardware_only and has_alpha_additions(self._stream):
                raise InputError(f"{self.path}: its transparency is decoded in software only; use --decoder auto")
            # The header also counts frames outside of the edit list, and empty ones, which repeat a frame.
            entries = self._stream.index_entries if self._stream.frames else ()
            self._expected = sum(entry.size > 0 for entry in entries) or self._stream.frames
            self._missing = missing_bytes(self.path)
            self._timeline = read_timeline(self.path, self._time_range.mends_clock)
            self._frames = self._progressive()
            first = next(self._frames, None)
            if first is None:
                raise InputError(f"{self.path}: no frame of it can be decoded")
            self._first = first
        except BaseException:
            self._container.close()
            raise

    @property
    def damage(self) -> str | None:
        """A phrase for what was wrong with the frames so far; None: nothing. Complete after the last frame."""
        problems, packets = self._stats.problems(), self._packets_before + self._stats.packets
        if self._time_range.duration is None and packets < self._expected:
            lost = self._expected - packets
            problems.append(f"{lost} of {self._expected} frames {'is' if lost == 1 else 'are'} missing")
        elif self._time_range.duration is None and self._missing:
            problems.append(f"its last {count_noun(self._missing, 'byte', 'are')} missing")
        elif self._stats.unreadable:
            problems.append("it cannot be read to its end")
        if "video" in self._timeline.later:
            problems.append("another video begins later in it, as in concatenated files; split it there")
        return f"damaged: {', '.join(problems)}" if problems else None

    def _describe(self) -> StreamInfo:
        stream, context, first = self._stream, self._stream.codec_context, self._first
        time_base, rate = stream.time_base, stream.average_rate or stream.guessed_rate
        if time_base is None:
            raise InputError(f"{self.path}: its video stream has no time base")
        rate = rate or Fraction(25)
        seconds = stream.duration * time_base if stream.duration else Fraction(self._container.duration or 0, 1_000_000)
        frames = stream.frames or round(seconds * rate)
        if self._time_range != TimeRange():
            seconds = max(Fraction(0), (seconds or frames / rate) - self._time_range.start)
            frames = round(rate * (seconds if self._time_range.duration is None else min(seconds, self._time_range.duration)))
        width, height = first.width, first.height
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if orientation(first)[0]:
            width, height, aspect = height, width, 1 / aspect
        color = Color(context.colorspace, context.color_range, context.color_primaries, context.color_trc)
        if color.transfer in HDR_TRANSFERS:
            self.notices.append(f"HDR ({HDR_TRANSFERS[color.transfer]}) was mapped to the range of a screen, BT.709")
        if notice := self._timeline.notice():
            self.notices.append(notice)
            frames = 0  # the header's duration is wrong
        has_alpha = is_transparent(self._container, stream, first)
        if has_alpha_additions(stream) and not has_alpha:
            self.notices.append("transparency was left out: this FFmpeg has no decoder for it")
        self._upright = UprightFrames(color, (width, height), has_alpha, self.notices.append)
        return StreamInfo(
            width=width,
            height=height,
            rate=rate,
            time_base=time_base,
            frames=frames or None,
            color=output_color(color, first.format.is_rgb),
            pixel_aspect=aspect,
            start=self._start((first.pts or 0) * time_base) + self._time_range.start,
            pix_fmt=first.format.name,
            has_alpha=has_alpha,
        )

    def _start(self, first: Fraction) -> Fraction:
        """Returns what is subtracted from all times: 0 for most files; otherwise the time at which the file begins."""
        if first < 0:
            return first
        begin = Fraction(self._container.start_time or 0, 1_000_000)
        is_free = self._container.format.name in FREE_CLOCKS and begin > 0
        return begin if is_free or begin >= LATEST_START else Fraction(0)

    def _progressive(self) -> Iterator[av.VideoFrame]:
        """Yields the frames of `_decode`, deinterlaced."""
        return self._deinterlacer(self._decode()) if self._deinterlacer else self._decode()

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Decodes to the end of the file, from where the container is, whatever the header says."""
        stats, last = self._stats, None
        flag_check = FlagCheck(self.path, self._stream.time_base) if self._stream.time_base else None
        clock, is_damaged = ClockMender(self._timeline), flag_check.is_damaged if flag_check else None
        for frame in frames_of(self._container, self._stream, stats, clock, is_damaged):
            yield frame
            last = frame.pts
        if stats.packets > stats.frames + len(stats.undecodable) and (last is not None or not stats.frames):
            yield from self._end_behind(last)

    def _end_behind(self, last: int | None) -> Iterator[av.VideoFrame]:
        """Decodes the frames after `last` (None: all) again on one thread, where packets gave neither a frame nor an error.

        At the end of a file PyAV drops the frames of all decoding threads once there is an error among them.
        """
        stats, known = DecodeStats(), self._stats.undecodable
        with open_container(self.path, self._hwaccel) as container:
            stream = main_stream(container, self.path)
            stream.codec_context.thread_count = 1
            if last is not None and not self._timeline.jumps:
                try:
                    container.seek(last, stream=stream, backward=True, any_frame=False)
                except (av.FFmpegError, OSError):
                    return
            for frame in frames_of(container, stream, stats, ClockMender(self._timeline)):
                count_noun = sum(at >= stats.entry for at in known)
                self._stats.undecodable = known + stats.undecodable[count_noun:]
                if last is None or (frame.pts is not None and frame.pts > last):
                    self._stats.frames += 1
                    self._stats.patched_frames += frame.is_corrupt
                    yield frame
        count_noun = sum(at >= stats.entry for at in known)
        self._stats.undecodable = known + stats.undecodable[count_noun:]

    def times(self) -> list[int]:
        """Returns the pts of each frame in the time range, as in `Frame.pts`, from the packets; nothing is decoded."""
        start = round(self.info.start / self.info.time_base)
        end = None if self._time_range.duration is None else round(self._time_range.duration / self.info.time_base)
        with open_container(self.path) as container:
            clock, times = ClockMender(self._timeline), list[int | None]()
            for packet in packets_of(container, main_stream(container, self.path), DecodeStats()):
                if packet and clock.shift(packet):
                    times.append(packet.dts if self._stats.packed else packet.pts)
            shown = sorted(time - start for time in times if time is not None)
        return [pts for pts in shown if (pts >= 0 or not self._time_range.start) and (end is None or pts < end)]

    def resume_at(self, resume_point: ResumePoint) -> None:
        """Lets iteration begin after this point, where an earlier run with the same time range stopped."""
        self._resume_point = resume_point
        if self.info.has_alpha and not self._time_range.start:
            self._upright(self._first, self.alpha_notice)  # reports transparency before this point

    def _seek(self, pts: int) -> bool:
        """Goes to the last key frame at or before `pts` of the stream. Returns False, at the start of the file, without one.

        From a key frame on, decoding gives the same frames as a run from the start.
        """
        first = self._first.pts
        if first is None or pts <= first or self._timeline.jumps or self._stats.packed:
            return False
        if not can_seek(self._container, self._stream):
            return False
        try:
            self._container.seek(pts, stream=self._stream, backward=True, any_frame=False)
            self._stats = DecodeStats()
            self._frames = self._progressive()
            frame = next(self._frames, None)
        except (av.FFmpegError, OSError):
            frame = None
        index = [entry.timestamp for entry in self._stream.index_entries] if self._expected else []
        # The first packet has no frame of its own where an encoder refreshes bit by bit: its "key frame" starts a refresh.
        is_clean = frame is not None and frame.pts == self._stats.first and not self._stats.is_damaged
        if frame is None or frame.pts is None or frame.pts > pts or not is_clean or len(index) < self._expected:
            self._container.close()
            self._open()
            return False
        self._packets_before = bisect.bisect_left(index, self._stats.entry)  # the packets that the seek skipped exist
        self._first = frame
        return True

    def __iter__(self) -> Iterator[Frame]:
        """Yields every frame of the time range that can be decoded, at its own time less `info.start`."""
        info, done = self.info, self._resume_point
        start = round(info.start / info.time_base)
        end = None if self._time_range.duration is None else round(self._time_range.duration / info.time_base)
        first = done.pts if done.frames else -1  # the frame before is needed, too: a deinterlaced frame depends on it
        if done.sequential and first + start > 0:
            self._seek(first + start)
        to_skip = 0 if done.sequential else done.frames  # frames of the time range
        is_reached = not (done.frames and done.sequential)
        for frame, pts, duration in self._timed(start):
            if pts < 0 and self._time_range.start:
                continue
            if end is not None and pts >= end:
                return
            if not is_reached:
                is_reached = pts >= done.pts
                if pts <= done.pts:
                    continue
            if to_skip:
                to_skip -= 1
                continue
            captions = frame if has_captions(frame) else None
            self.has_captions = self.has_captions or captions is not None
            try:
                image, alpha = self._upright(frame, self.alpha_notice)
            except InputError as error:
                raise InputError(f"{self.path}: {error}") from error
            yield Frame(image, pts, duration, captions, alpha)

    def _timed(self, start: int) -> Iterator[tuple[av.VideoFrame, int, int]]:
        """Yields (frame, pts, duration) from `_first` on."""
        info = self.info
        step = max(1, round(1 / (info.rate * info.time_base)))  # ticks, for frames without a time or duration
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
                raise InputError(f"{self.path}: its clock jumps back by {back:.1f} s, as in concatenated files; split it there")
            is_ordinary = not self._stats.is_damaged and not (self._deinterlacer and self._deinterlacer.found_late)
            self.sequential = self.sequential and is_ordinary and pts == frame.pts and (last is None or pts > last)
            last = pts
            yield frame, pts - start, frame.duration or step
            frame = next(self._frames, None)

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
