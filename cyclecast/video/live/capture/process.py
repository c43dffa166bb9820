"""The process that a live source lives in: it always drains, keeps only the newest pictures in shared memory, and can be killed.

Lines of JSON out: {"open": description}, {"size": [W, H]}, {"frame": number, "slot": slot, "at": seconds}, {"passed": number},
{"alive": true}, {"news": line}, {"end": true}, {"error": message}. In: the request, then the name of the shared memory after each
size. See `capture`.
"""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker, shared_memory
from typing import IO, Any

from cyclecast.errors import CyclecastError, InputError
from cyclecast.video.frame import Image
from cyclecast.video.live.capture.slots import Slots
from cyclecast.video.live.sources.registry import open_source
from cyclecast.video.live.sources.source import CaptureSettings, LiveSource, PendingFrame
from cyclecast.video.resize import resized

SETTLING, MEASURED = 1.0, 2.0  # seconds: a camera's first pictures are slow; then its rate is measured
FEW = 0.8  # of the rate that is stated
UNDECODABLE = 30  # pictures in a row
SIGN = 1.0  # seconds between signs of life, if all pictures are left out
HEADROOM = 1.5  # intervals between frames: if the other side is busy for longer, a newer frame will be there in time


def main() -> None:
    """Reads the request, captures until the source ends or the other side does."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print is no message
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the other side decides
    lines: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    address, capture_settings = lines.get()
    try:
        capture(address, CaptureSettings(**capture_settings), out, lines)
        tell(out, end=True)
    except CyclecastError as error:
        tell(out, error=str(error))
    except Exception as error:
        tell(out, error=f"{type(error).__name__}: {error}")
    out.flush()
    os._exit(0)  # drivers may hang or crash when they are taken down


def capture(address: str, capture_settings: CaptureSettings, out: IO[str], lines: queue.Queue[Any]) -> None:
    """Every picture of the source into the slots, until it ends."""
    source = open_source(address, capture_settings)
    tell(out, open=source.description)
    slots: Slots | None = None
    size: tuple[int, int] | None = None
    number, before, interval, undecodable = 0, None, 0.0, 0
    for pending_frame in paced(rated(source, out), capture_settings.fps, out):
        if before is not None:
            step = pending_frame.at - before
            interval = step if not interval else 0.9 * interval + 0.1 * step
        before = pending_frame.at
        if slots is not None and slots.busy_until > pending_frame.at + HEADROOM * interval:
            number += 1
            tell(out, passed=number)
            continue
        try:
            image = fitted(pending_frame.decode(), capture_settings)
        except InputError:
            undecodable += 1
            if undecodable == UNDECODABLE:
                raise
            continue
        number, undecodable = number + 1, 0
        if size != image.shape[1::-1]:
            if slots is not None:
                slots.close()
            width, height = size = image.shape[1::-1]
            tell(out, size=[width, height])
            slots = Slots(attached(lines.get()), width, height)
        assert slots is not None
        tell(out, frame=number, slot=slots.write(image, number), at=pending_frame.at)


def rated(source: LiveSource, out: IO[str]) -> Iterator[PendingFrame]:
    """All of them; if their rate is only stated, it is told what it really is, once, where that is less."""
    stated, count, begin = source.stated_fps, 0, math.inf
    for pending_frame in source.pending_frames:
        if stated is not None:
            begin = pending_frame.at + SETTLING if begin == math.inf else begin
            count += pending_frame.at >= begin
            seconds = pending_frame.at - begin
            if seconds >= MEASURED:
                fps = (count - 1) / seconds
                if fps < FEW * stated:
                    tell(out, news=f"gives {fps:.1f} fps, not {stated:g}; in poor light, cameras take longer for a picture")
                elif not stated:
                    tell(out, news=f"gives {fps:.1f} fps")
                stated = None
        yield pending_frame


def paced(pending_frames: Iterator[PendingFrame], fps: float | None, out: IO[str]) -> Iterator[PendingFrame]:
    """No more than `fps` of them a second, as evenly as they come; it is told that there are others."""
    due: float | None = None
    told = time.perf_counter()
    for pending_frame in pending_frames:
        if fps is not None:
            due = pending_frame.at if due is None or pending_frame.at > due + 1 / fps + 1 else due
            if pending_frame.at < due - 0.5 / fps:
                if pending_frame.at - told > SIGN:
                    told = pending_frame.at
                    tell(out, alive=True)
                continue
            due += 1 / fps
        yield pending_frame


def fitted(image: Image, capture_settings: CaptureSettings) -> Image:
    """The picture, shrunk into the box that was asked for; its shape is kept, and it is never enlarged."""
    height, width = image.shape[:2]
    scale = min(1.0, (capture_settings.width or width) / width, (capture_settings.height or height) / height)
    return resized(image, (max(2, round(width * scale)), max(2, round(height * scale))))


def tell(out: IO[str], **message: Any) -> None:
    """One line; if nobody reads any more, this process has nothing to do."""
    try:
        out.write(json.dumps(message) + "\n")
    except OSError:
        os._exit(0)


def attached(name: str) -> shared_memory.SharedMemory:
    """Memory that the other side made and will take down."""
    if sys.version_info >= (3, 13):
        return shared_memory.SharedMemory(name, track=False)
    track = resource_tracker.register
    resource_tracker.register = lambda name, rtype: None  # or Python's tracker would take it down when this process ends
    try:
        return shared_memory.SharedMemory(name)
    finally:
        resource_tracker.register = track


def _listen(lines: queue.Queue[Any]) -> None:
    """What the other side says; its end is ours, whatever a driver is waiting for."""
    for line in sys.stdin:
        lines.put(json.loads(line))
    os._exit(0)
