"""A file played in real time, again and again: what a camera would be, for those who have none at hand."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from cyclecast.errors import InputError, MissingInputError
from cyclecast.video.files.images import SUFFIXES, read_image
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.frame import Image
from cyclecast.video.live.sources.address import path_of
from cyclecast.video.live.sources.source import CaptureSettings, LiveSource, PendingFrame

T = TypeVar("T")

LATE = 1.0  # seconds behind its clock at which a film gives up catching up: the machine slept, or decoding is too slow
HOLD = 1.0  # seconds after which a picture that is held is given again, so that it is seen that there is a source


def open_playback(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """Plays a video in real time, looped if `capture_settings.loop`; or an image, once a second.

    InputError if it is neither. What is damaged is played as far as it can be.
    """
    path = Path(path_of(address))
    if not path.exists():
        raise MissingInputError(f"{address}: no such file; a camera is 0, 1 ..., a stream rtsp://..., a test picture pattern://")
    if path.suffix.lower() in SUFFIXES:
        image = read_image(path)
        described = f"{path.name}: a picture of {image.shape[1]}x{image.shape[0]}"
        return LiveSource(described, _given(_picture(image, capture_settings)))
    with VideoFile(path) as video:
        info = video.info
    described = f"{path.name}: {info.width}x{info.height} at {float(info.rate):.4g} fps, played in real time"
    return LiveSource(described + (", looped" if capture_settings.loop else ""), _given(_film(path, capture_settings.loop)))


def in_real_time(timed: Iterator[tuple[float, T | None]], longest: float = math.inf) -> Iterator[tuple[float, T]]:
    """(seconds, item) -> (`time.perf_counter()` at which it was due, item), at that moment, the first one now.

    What is held for more than a second is given again each second. Where the clock goes back, or forth by more than `longest`
    seconds, it begins anew. None is no item, but the end of the one before.
    """
    begin: float | None = None
    before, last = 0.0, None
    for seconds, item in timed:
        now = time.perf_counter()
        if begin is None or not before <= seconds <= before + longest or now - begin - seconds > LATE:
            begin = now - seconds
        due, before = begin + seconds, seconds
        while last is not None and due - now > HOLD:
            time.sleep(HOLD)
            now = time.perf_counter()
            yield now, last
        time.sleep(max(0.0, due - time.perf_counter()))
        if item is not None:
            yield due, item
            last = item


def _given(timed: Iterator[tuple[float, Image | None]]) -> Iterator[PendingFrame]:
    for at, image in in_real_time(timed):
        yield PendingFrame(at, partial(_same, image))


def _same(image: Image) -> Image:
    return image


def _picture(image: Image, capture_settings: CaptureSettings) -> Iterator[tuple[float, Image | None]]:
    """Once a second, or at the rate of the wish; shown for so long, and no more, if it is not to begin again."""
    number, step = 0, 1 / (capture_settings.fps or 1 / HOLD)
    while capture_settings.loop or number == 0:
        yield number * step, image
        number += 1
    yield step, None


def _film(path: Path, loop: bool) -> Iterator[tuple[float, Image | None]]:
    """Seconds from the first showing's beginning, and the frame; None at its end, for as long as the last one is shown."""
    begin = 0.0
    while True:
        end, frames = 0.0, 0
        with VideoFile(path) as video:
            base = video.info.time_base
            try:
                for frame in video:
                    yield begin + float(frame.pts * base), frame.image
                    frames, end = frames + 1, float((frame.pts + frame.duration) * base)
            except InputError:  # its clock jumps back, or its colors change to what is unknown: played as far as it goes
                if not frames:
                    raise
        begin += max(end, HOLD if frames == 1 else 0.001)
        if not loop:
            yield begin, None
            return
