"""The user's footage as images to learn from: frames of videos, spread evenly, and photos."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from cyclecast.errors import CyclecastError, InputError, MissingInputError
from cyclecast.video.files.images import SUFFIXES, read_image, write_image
from cyclecast.video.files.reader import TimeRange, VideoFile
from cyclecast.video.frame import Image

MOST_FRAMES = 400
"""Frames to learn from, of all footage together."""
MOST_PER_VIDEO = 120
LARGEST_SIDE = 720  # pixels of the shorter side that is kept: styles are learned at the size of common footage
SMALLEST_SIDE = 64  # pixels; smaller images are icons
VIDEO_SUFFIXES = frozenset(
    {
        ".mp4",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".m4v",
        ".ts",
        ".mts",
        ".m2ts",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".gif",
        ".ogv",
        ".3gp",
    }
)

log = logging.getLogger(__name__)


def list_footage(sources: Sequence[Path]) -> list[Path]:
    """The images and videos of files and folders, sorted within each folder; hidden files are left out.

    Raises MissingInputError if a source does not exist, and InputError if a folder holds neither images nor videos.
    """
    paths: list[Path] = []
    for source in sources:
        if not source.exists():
            raise MissingInputError(f"{source}: no such file or folder; --footage expects images, videos or folders of them")
        if source.is_file():
            paths.append(source)
            continue
        found = sorted(
            path
            for path in source.rglob("*")
            if path.suffix.lower() in SUFFIXES | VIDEO_SUFFIXES
            and path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(source).parts)
        )
        if not found:
            raise InputError(f"{source}: no images and no videos in it; --footage expects what you want to style, or similar")
        paths += found
    return paths


def extract_frames(
    sources: Sequence[Path], folder: Path, on_progress: Callable[[int, int], None], on_message: Callable[[str], None]
) -> int:
    """Writes frames of the footage to `folder` as 000000.jpg, 000001.jpg, …, at most MOST_FRAMES; returns their number.

    The shorter side is LARGEST_SIDE pixels at most. Unreadable files are reported and skipped. InputError if none is readable.
    on_progress(done, total): files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = list_footage(sources)
    if len(paths) > MOST_FRAMES:
        paths = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, MOST_FRAMES).round().astype(int))]
    videos = [path for path in paths if path.suffix.lower() not in SUFFIXES]
    share = max(1, min(MOST_PER_VIDEO, (MOST_FRAMES - len(paths) + len(videos)) // max(1, len(videos))))
    count = 0
    for number, path in enumerate(paths, start=1):
        try:
            frames = iter([read_image(path)]) if path.suffix.lower() in SUFFIXES else spread_frames(path, share)
            for frame in frames:
                if min(frame.shape[:2]) < SMALLEST_SIDE:
                    raise InputError(f"{path}: {frame.shape[1]}x{frame.shape[0]} pixels, too small to learn from")
                write_image(folder / f"{count:06d}.jpg", shrink_to(frame, LARGEST_SIDE))
                count += 1
        except CyclecastError as error:
            log.debug("%s is skipped", path, exc_info=True)
            on_message(f"skipped {error}")
        on_progress(number, len(paths))
    if not count:
        raise InputError(f"{', '.join(map(str, sources))}: nothing in it can be read as an image or a video")
    return count


def spread_frames(path: Path, count: int) -> Iterator[Image]:
    """Up to `count` frames of a video, evenly spread, (H, W, 3) uint8 BGR. InputError if it is no video."""
    with VideoFile(path) as video:
        total, rate = video.info.frames, video.info.rate
        if total is None or total <= 20 * count:  # decoding all of it is as fast as seeking
            step = max(1, (total or count) // count)
            for number, frame in enumerate(video):
                if number % step == 0 and number // step < count:
                    yield frame.image
            return
    for number in range(count):
        time = Fraction(total * number, count) / rate
        with VideoFile(path, TimeRange(time, 2 / rate)) as part:
            yield next(iter(part)).image


def shrink_to(image: Image, side: int) -> Image:
    """The image with a shorter side of `side` pixels, or unchanged if it is shorter already."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    if scale >= 1:
        return image
    size = max(side, round(width * scale)), max(side, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
