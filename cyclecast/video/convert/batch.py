"""Converts many files. One that fails does not stop the others; those that an earlier run has finished are skipped."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cyclecast.errors import CyclecastError, Interrupted
from cyclecast.future import Deferred
from cyclecast.own_files import refuse_links_outside
from cyclecast.video.convert.batch_log import BatchLog
from cyclecast.video.convert.callbacks import OnFrame, OnMessage
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.convert.parts import PartMaker
from cyclecast.video.convert.report import ConversionReport
from cyclecast.video.convert.signature import conversion_signature
from cyclecast.video.convert.size_buckets import SizeBuckets
from cyclecast.video.files import images
from cyclecast.video.frame import FrameFunction, Image
from cyclecast.video.resize import submit_frame

BUCKET_MIN_IMAGES = 5  # from this many images on, compiling for each size costs more than padding


@dataclass(frozen=True)
class Outcome:
    """The result of one file of a batch."""

    source: Path
    output: Path
    report: ConversionReport | None = None
    """None if it failed or an earlier run had converted it."""
    error: str | None = None


def convert_batch(
    planned: Sequence[tuple[Path, Path]],
    function: FrameFunction,
    options: ConvertOptions,
    batch_log: BatchLog,
    *,
    jobs: int = 1,
    bucketed: bool = True,
    progress: Callable[[str], OnFrame] | None = None,
    on_message: OnMessage | None = None,
    part_maker: PartMaker | None = None,
) -> Iterator[Outcome]:
    """Converts each (source, output) and yields the outcomes in the same order.

    jobs: images that are read and written at a time, while the function runs on one image at a time; a video overlaps all this
    by itself. bucketed: the function takes any size, so from `BUCKET_MIN_IMAGES` images on sizes are rounded up, see
    `SizeBuckets`. progress: makes the callback for a video of this name. Raises Interrupted after Ctrl-C or SIGTERM.
    """
    locked = LockedFunction(function)
    image_count = sum(_is_image(source) for source, _ in planned)
    for_images = SizeBuckets(locked) if bucketed and image_count >= BUCKET_MIN_IMAGES else locked
    futures: deque[Future[Outcome]] = deque()
    finished = 0

    def convert(source: Path, output: Path, function: FrameFunction, on_frame: OnFrame | None) -> Outcome:
        try:
            refuse_links_outside(batch_log.folder, output)
            signature = conversion_signature(source, function, options) if os.path.isfile(source) else {}
            if batch_log.has(output, signature):
                return Outcome(source, output)
            report = convert_file(source, output, function, options, on_frame, on_message, part_maker)
        except Interrupted:
            raise
        except CyclecastError as error:
            return Outcome(source, output, error=str(error))
        notice = batch_log.add(output, signature)
        report.notices.extend([notice] if notice else [])
        return Outcome(source, output, report)

    pool = ThreadPoolExecutor(jobs)
    try:
        for source, output in planned:
            if _is_image(source):
                futures.append(pool.submit(convert, source, output, for_images, None))
            while futures and (len(futures) > jobs or not _is_image(source)):
                yield futures.popleft().result()
                finished += 1
            if not _is_image(source):
                yield convert(source, output, locked, progress(source.name) if progress else None)
                finished += 1
        while futures:
            yield futures.popleft().result()
            finished += 1
    except KeyboardInterrupt as interrupt:
        raise Interrupted(
            f"interrupted; {finished} of {len(planned)} files are finished, the same command converts the rest"
        ) from interrupt
    finally:
        pool.shutdown(cancel_futures=True)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in images.SUFFIXES


class LockedFunction:
    """A frame function for several threads: it runs on one frame at a time."""

    def __init__(self, function: FrameFunction) -> None:
        self._function, self._lock = function, threading.Lock()

    @property
    def identity(self) -> str | None:
        """That of the function."""
        return self._function.identity

    def prepare(self, width: int, height: int) -> None:
        """As the function's."""
        with self._lock:
            self._function.prepare(width, height)

    def __call__(self, frame: Image) -> Image:
        with self._lock:
            return self._function(frame)

    def submit(self, frame: Image) -> Deferred[Image]:
        """As the function's, if it has one; otherwise the frame is styled at once."""
        with self._lock:
            future = submit_frame(frame, self._function)

        def result() -> Image:
            with self._lock:
                return future.result()

        return Deferred(result)
