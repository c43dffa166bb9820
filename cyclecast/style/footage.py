"""Extracts images to learn from: evenly spaced frames of the user's videos, and photos."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path

from cyclecast.errors import InputError, MissingInputError
from cyclecast.files import atomic_write, is_hidden
from cyclecast.phrases import count_noun
from cyclecast.style.stills import read_opaque
from cyclecast.training.data import resize_short_side
from cyclecast.training.data.images import spaced_indices
from cyclecast.video.files.images import SUFFIXES, write_image
from cyclecast.video.files.opening import VIDEO_SUFFIXES, open_container
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.files.time_range import TimeRange
from cyclecast.video.frame import Image

MOST_FRAMES = 400
"""Frames to learn from, of all footage together."""
MOST_PER_VIDEO = 120
LARGEST_SIDE = 720  # pixels of the shorter side, at most: styles are learned at the size of common footage
SMALLEST_SIDE = 64  # pixels; smaller images are icons
MOST_NOTICES = 3  # of skipped files, before they are only counted

log = logging.getLogger(__name__)


def list_footage(sources: Sequence[Path], is_excluded: Callable[[Path], bool] = lambda _: False) -> list[Path]:
    """Lists images and videos: the files, and those in the folders, sorted within each folder, each once.

    Hidden files in a folder are left out, and those for which is_excluded returns True. Raises MissingInputError if a source
    does not exist, and InputError if a folder holds neither images nor videos.
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
            and not is_hidden(path.relative_to(source))
            and not is_excluded(path)
        )
        if not found:
            raise InputError(f"{source}: no images and no videos in it; --footage expects what you want to style, or similar")
        paths |= dict.fromkeys(found)
    return list(paths)


def extract_frames(
    paths: Sequence[Path], folder: Path, on_progress: Callable[[int, int], None], on_message: Callable[[str], None]
) -> int:
    """Writes at most MOST_FRAMES frames of the footage to `folder` as 000000.jpg, 000001.jpg, …; returns their number.

    paths: images and videos. Frames whose shorter side has more than LARGEST_SIDE pixels are shrunk to that. Unreadable files
    are reported and skipped. on_progress: called with the numbers of files that are read and of all. Raises InputError if no
    file is readable, OutputError if the frames cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if len(paths) > MOST_FRAMES:
        paths = [paths[index] for index in spaced_indices(len(paths), MOST_FRAMES)]
    videos = [path for path in paths if path.suffix.lower() not in SUFFIXES]
    share = max(1, min(MOST_PER_VIDEO, (MOST_FRAMES - len(paths) + len(videos)) // max(1, len(videos))))
    count, skipped = 0, list[str]()
    for number, path in enumerate(paths, start=1):
        try:
            for frame in sample_images(path, share):
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
    """Reports skipped files: the first ones with their reasons, the others as a number."""
    for reason in skipped[:MOST_NOTICES]:
        on_message(f"skipped {reason}")
    if (more := len(skipped) - MOST_NOTICES) > 0:
        on_message(f"skipped {count_noun(more, 'more file')}")


def sample_images(path: Path, count: int) -> Iterator[Image]:
    """Yields the image, or up to `count` frames of the video, (H, W, 3) uint8 BGR.

    Raises InputError if the file is neither, or too small.
    """
    images = iter([read_opaque(path)]) if path.suffix.lower() in SUFFIXES else sample_frames(path, count)
    for image in images:
        if min(image.shape[:2]) < SMALLEST_SIDE:
            raise InputError(f"{path}: {image.shape[1]}x{image.shape[0]} pixels, too small to learn from")
        yield image


def sample_frames(path: Path, count: int) -> Iterator[Image]:
    """Yields up to `count` evenly spaced frames of a video, (H, W, 3) uint8 BGR. Raises InputError if the file is not a video."""
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
        with suppress(InputError), VideoFile(path, TimeRange(time, 2 / rate)) as part:  # a damaged part is skipped
            yield from (frame.image for frame in islice(part, 1))


def count_packets(path: Path) -> int:
    """Counts the frames of a video without decoding it, for headers without their number, such as those of live recordings."""
    with open_container(path) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))


def shrink_to(image: Image, side: int) -> Image:
    """Shrinks an image to a shorter side of `side` pixels; returns the image itself if it is not larger."""
    return image if min(image.shape[:2]) <= side else resize_short_side(image, side)
