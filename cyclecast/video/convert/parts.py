"""Writes a video as a sequence of short files, so that a crash costs at most one of them."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from cyclecast.video.convert.callbacks import OnFrame
from cyclecast.video.convert.job import Job
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.convert.pipeline import StageSeconds
from cyclecast.video.files.encoding import Encoding
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.files.time_range import TimeRange
from cyclecast.video.files.writer import VideoWriter
from cyclecast.video.frame import Frame, StreamInfo

PART_FRAMES = 120  # frames in a part; each part begins with a key frame


class PartMaker(Protocol):
    """Converts the parts of a video elsewhere, as `Cluster` does: adds all that the job lacks, then finishes its source."""

    def __call__(
        self,
        video: VideoFile,
        time_range: TimeRange,
        options: ConvertOptions,
        encoding: Encoding,
        job: Job,
        on_frame: OnFrame | None,
        /,
    ) -> StageSeconds: ...


class PartWriter:
    """Encodes frames into parts of `PART_FRAMES` and adds each to the job when it is complete. A context manager.

    is_sequential: whether decoding was sequential up to the frame that was read last, see `ResumePoint`.
    """

    def __init__(self, job: Job, info: StreamInfo, encoding: Encoding, is_sequential: Callable[[], bool]) -> None:
        self._job, self._info, self._encoding, self._is_sequential = job, info, encoding, is_sequential
        self._index = job.next_index()
        self._writer: VideoWriter | None = None
        self._last: int | None = None  # pts of the last frame of the part before

    def write(self, frame: Frame) -> None:
        """Encodes one frame. Raises OutputError if it cannot be written."""
        if self._writer is None:
            first = frame.pts if self._last is None else max(frame.pts, self._last + 1)
            path = self._job.open_path(self._index, self._encoding.part_suffix)
            self._writer = VideoWriter(path, self._info, self._encoding, first, is_part=True)
        self._writer.write(frame)
        if self._writer.frames == PART_FRAMES:
            self._finish_part()

    def _finish_part(self) -> None:
        writer, self._writer = self._writer, None
        assert writer is not None
        writer.close()
        self._last = writer.last
        self._job.add_part(self._index, writer.part(), self._is_sequential())
        self._index += 1

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is None:
            return
        if error is None:
            self._finish_part()
        else:
            self._writer.__exit__(error_type, error, trace)
