"""Files played in real time, in a loop: a stand-in for a camera."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from cyclecast.errors import InputError, MissingInputError
from cyclecast.video.files.images import SUFFIXES, read_image
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.frame import Image
from cyclecast.video.live.sound.chunk import Samples, SoundChunk
from cyclecast.video.live.sources.address import file_path
from cyclecast.video.live.sources.file_sound import FileSound
from cyclecast.video.live.sources.source import CaptureSettings, LiveSource, PendingFrame

T = TypeVar("T")

MAX_DELAY_S = 1.0  # behind the video's clock, after which playback stops catching up: decoding is too slow
REPEAT_S = 1.0  # a still frame is repeated at this interval, which shows that the source is alive


@dataclass(frozen=True)
class Played:
    """A frame of a file, and the sound that begins around it."""

    image: Image
    sound: tuple[tuple[float, Samples], ...] = ()
    """(seconds after the frame, samples)"""


def open_playback(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """Plays a video in real time (looped if `capture_settings.loop`), or repeats an image once a second.

    Skips damaged frames. Raises InputError if the file is neither a video nor an image.
    """
    path = Path(file_path(address))
    if not path.exists():
        raise MissingInputError(
            f"{address}: no such file; type 0 for a camera, rtsp://HOST/PATH for a stream, pattern:// for a test pattern"
        )
    if path.is_dir():
        raise InputError(f"{address}: is a folder; type the name of a video or an image in it")
    if path.suffix.lower() in SUFFIXES:
        image = read_image(path)
        description = f"{path.name}: a {image.shape[1]}x{image.shape[0]} image"
        return LiveSource(description, _pending_frames(_repeat_image(image, capture_settings)))
    with VideoFile(path) as video:
        info = video.info
    has_sound = capture_settings.sound and FileSound.exists(path)
    description = f"{path.name}: {info.width}x{info.height} at {float(info.rate):.4g} fps, played in real time"
    if capture_settings.loop:
        description += ", looped"
    frames = _video_frames(path, capture_settings.loop, has_sound)
    return LiveSource(description, _pending_frames(frames), has_sound=has_sound)


def in_real_time(timed_items: Iterator[tuple[float, T | None]], max_step: float = math.inf) -> Iterator[tuple[float, T]]:
    """Waits for each item's time: (seconds, item) -> (`time.perf_counter()` when it was due, item). The first is due now.

    Repeats an item every second while it is current. Restarts the clock where it jumps back, or forth by more than `max_step`
    seconds. An item that is None only marks the end of the one before.
    """
    start: float | None = None
    previous, current = 0.0, None
    for seconds, item in timed_items:
        now = time.perf_counter()
        if start is None or not previous <= seconds <= previous + max_step or now - start - seconds > MAX_DELAY_S:
            start = now - seconds
        due, previous = start + seconds, seconds
        while current is not None and due - now > REPEAT_S:
            time.sleep(REPEAT_S)
            now = time.perf_counter()
            yield now, current
        time.sleep(max(0.0, due - time.perf_counter()))
        if item is not None:
            yield due, item
            current = item


def _pending_frames(timed_frames: Iterator[tuple[float, Played | None]]) -> Iterator[PendingFrame]:
    previous = None
    for at, played in in_real_time(timed_frames):
        sound = played.sound if played is not previous else ()  # a repeated frame was heard already
        previous = played
        chunks = tuple(SoundChunk(at + offset, samples) for offset, samples in sound)
        yield PendingFrame(at, partial(_identity, played.image), chunks)


def _identity(image: Image) -> Image:
    return image


def _repeat_image(image: Image, capture_settings: CaptureSettings) -> Iterator[tuple[float, Played | None]]:
    """Yields the image, with its time in seconds, once a second or at the requested rate; without a loop, once and then None."""
    number, interval = 0, 1 / (capture_settings.fps or 1 / REPEAT_S)
    while capture_settings.loop or number == 0:
        yield number * interval, Played(image)
        number += 1
    yield interval, None


def _video_frames(path: Path, loop: bool, has_sound: bool) -> Iterator[tuple[float, Played | None]]:
    """Yields each frame with its time in seconds since the first playback began; at the end None, when the last frame ends."""
    start = 0.0
    while True:
        end, frames = 0.0, 0
        with ExitStack() as files:
            video = files.enter_context(VideoFile(path))
            time_base = video.info.time_base
            sound = files.enter_context(FileSound(path, float(video.info.start))) if has_sound else None
            try:
                for frame in video:
                    seconds = float(frame.pts * time_base)
                    yield start + seconds, Played(frame.image, sound.around(seconds) if sound is not None else ())
                    frames, end = frames + 1, float((frame.pts + frame.duration) * time_base)
            except InputError:  # the clock jumps back, or the colors change to an unknown matrix: restart from the beginning
                if not frames:
                    raise
        start += max(end, REPEAT_S if frames == 1 else 0.001)
        if not loop:
            yield start, None
            return
