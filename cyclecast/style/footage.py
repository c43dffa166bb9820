"""The user's footage as images to learn from: frames of videos, spread evenly, and photos."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from cyclecast.errors import InputError, MissingInputError
from cyclecast.files import atomic_write
from cyclecast.style.stills import counted, is_hidden, read_opaque
from cyclecast.video.files.images import SUFFIXES, write_image
from cyclecast.video.files.opening import open_container
from cyclecast.video.files.reader import TimeRange, VideoFile
from cyclecast.video.frame import Image

MOST_FRAMES = 400
"""Frames to learn from, of all footage together."""
MOST_PER_VIDEO = 120
LARGEST_SIDE = 720  # pixels of the shorter side that is kept: styles are learned at the size of common footage
SMALLEST_SIDE = 64  # pixels; smaller images are icons
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".ts", ".mts", ".m2ts")
    + (".mpg", ".mpeg", ".wmv", ".flv", ".gif", ".ogv", ".3gp")
)  # in folders; a file that is named may have any
MOST_NOTICES = 3  # of skipped files, before they are only counted

log = logging.getLogger(__name__)


def list_footage(sources: Sequence[Path], is_excluded: Callable[[Path], bool] = lambda _: False) -> list[Path]:
    """The images and videos of files and folders, sorted within each folder, each once; hidden files are left out.

    is_excluded: for files of folders that are left out, too. Raises MissingInputError if a source does not exist, and InputError
    if a folder holds neither images nor videos.
    """
    paths: dict[Path, None] = {}
    for source in sources:
        if not source.exists():
            raise MissingInputError(f"{source}: no such file or folder; --footage expects images, videos or folders of them")
        if source.is_file():
            paths[source] = None
            continue
        found = sorted(
            path
            for path in source.rglob("*")
            if path.suffix.lower() in SUFFIXES | VIDEO_SUFFIXES
            and path.is_file()
            and not is_hidden(path, source)
            and not is_excluded(path)
        )
        if not found:
            raise InputError(f"{source}: no images and no videos in it; --footage expects what you want to style, or similar")
        paths |= dict.fromkeys(found)
    return list(paths)


def extract_frames(
    paths: Sequence[Path], folder: Path, on_progress: Callable[[int, int], None], on_message: Callable[[str], None]
) -> int:
    """Writes frames of the footage to `folder` as 000000.jpg, 000001.jpg, …, at most MOST_FRAMES; returns their number.

    paths: images and videos. The shorter side is LARGEST_SIDE pixels at most. Unreadable files are reported and skipped.
    InputError if none is readable, OutputError if the frames cannot be written. on_progress(done, total): files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if len(paths) > MOST_FRAMES:
        paths = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, MOST_FRAMES).round().astype(int))]
    videos = [path for path in paths if path.suffix.lower() not in SUFFIXES]
    share = max(1, min(MOST_PER_VIDEO, (MOST_FRAMES - len(paths) + len(videos)) // max(1, len(videos))))
    count, skipped = 0, list[str]()
    for number, path in enumerate(paths, start=1):
        try:
            for frame in spread_images(path, share):
                with atomic_write(folder / f"{count:06d}.jpg", overwrite=True) as partial:
                    write_image(partial, shrink_to(frame, LARGEST_SIDE))
                count += 1
        except InputError as error:
            log.debug("%s is skipped", path, exc_info=True)
            skipped.append(str(error))
        on_progress(number, len(paths))
    if not count:
        raise InputError(f"{skipped[0]}; --footage expects images or videos" if skipped else "no frames in the footage")
    report_skipped(skipped, on_message)
    return count


def report_skipped(skipped: Sequence[str], on_message: Callable[[str], None]) -> None:
    """Reports why files are skipped: the first ones with their reason, the others by their number."""
    for reason in skipped[:MOST_NOTICES]:
        on_message(f"skipped {reason}")
    if (more := len(skipped) - MOST_NOTICES) > 0:
        on_message(f"skipped {counted(more, 'more file')}")


def spread_images(path: Path, count: int) -> Iterator[Image]:
    """The image, or up to `count` frames of a video, (H, W, 3) uint8 BGR. InputError if it is neither, or too small."""
    images = iter([read_opaque(path)]) if path.suffix.lower() in SUFFIXES else spread_frames(path, count)
    for image in images:
        if min(image.shape[:2]) < SMALLEST_SIDE:
            raise InputError(f"{path}: {image.shape[1]}x{image.shape[0]} pixels, too small to learn from")
        yield image


def spread_frames(path: Path, count: int) -> Iterator[Image]:
    """Up to `count` frames of a video, evenly spread, (H, W, 3) uint8 BGR. InputError if it is no video."""
    with VideoFile(path) as video:
        total, rate = video.info.frames or count_packets(path), video.info.rate
        if total <= 20 * count:  # decoding all of it is as fast as seeking
            step = max(1, total // count)
            for number, frame in enumerate(video):
                if number % step == 0 and number // step < count:
                    yield frame.image
            return
    for number in range(count):
        time = Fraction(total * number, count) / rate
        with suppress(InputError), VideoFile(path, TimeRange(time, 2 / rate)) as part:  # of a damaged part
            yield from (frame.image for frame in islice(part, 1))


def count_packets(path: Path) -> int:
    """The frames of a video whose header counts none, as in a live recording, found without decoding it."""
    with open_container(path) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))


def shrink_to(image: Image, side: int) -> Image:
    """The image with a shorter side of `side` pixels, or unchanged if it is shorter already."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    if scale >= 1:
        return image
    size = max(side, round(width * scale)), max(side, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
