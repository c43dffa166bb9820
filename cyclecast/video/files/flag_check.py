"""Tells whether frames that FFmpeg flags as corrupt are damaged: with several threads it also flags intact ones."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

from cyclecast.errors import InputError
from cyclecast.video.files.decoding import DecodeStats, frames_of, main_stream
from cyclecast.video.files.opening import open_container

RUN_UP_S = 10  # seconds that are decoded before a flagged frame: more than the distance of key frames in a broadcast


class FlagCheck:
    """Decodes flagged frames of a file again, on one thread, which flags damaged frames only.

    Frame threads output a frame of two fields (PAFF) while another thread may still mark it as unfinished. Its pixels are
    right, its flag is not. time_base: of the video stream.
    """

    def __init__(self, path: Path, time_base: Fraction) -> None:
        self._path, self._run_up = path, round(RUN_UP_S / time_base)
        self._flags: Iterator[tuple[int, bool]] = iter(())
        self._last: int | None = None  # the place of the frame that was decoded last
        self._is_flagged = False

    def is_damaged(self, number: int, pts: int | None) -> bool:
        """Returns whether a flagged frame is damaged; if it is not found again, it is. Call it in the order of the frames.

        number: of the frame, counted from 1 at the start of the file. pts: its time in the file; None if reading cannot begin in
        the middle of the file.
        """
        place = number if pts is None else pts
        try:
            if self._last is None or place < self._last or (pts is not None and place > self._last + self._run_up):
                self._flags = _flags_on_one_thread(self._path, None if pts is None else pts - self._run_up)
                self._last, self._is_flagged = next(self._flags)
            while self._last < place:
                self._last, self._is_flagged = next(self._flags)
        except (StopIteration, av.FFmpegError, OSError, InputError):
            return True
        return self._last != place or self._is_flagged


def _flags_on_one_thread(path: Path, start: int | None) -> Iterator[tuple[int, bool]]:
    """Yields (pts, flag) of each frame from the key frame before the time `start`; (number, flag) of all frames if it is None."""
    with open_container(path) as container:
        stream = main_stream(container, path)
        stream.codec_context.thread_count = 1
        if start is not None:
            container.seek(start, stream=stream, backward=True, any_frame=False)
        for number, frame in enumerate(frames_of(container, stream, DecodeStats()), 1):
            place = number if start is None else frame.pts
            if place is not None:
                yield place, frame.is_corrupt
