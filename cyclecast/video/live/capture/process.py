"""The process that a live source runs in: it reads every frame, keeps the newest ones in shared memory, and can be killed.

It sends lines of JSON: {"open": description}, {"size": [width, height]}, {"frame": number, "slot": slot, "at": seconds},
{"skipped": number}, {"has_sound": true}, {"sound": samples, "sound_at": seconds}, {"alive": true}, {"message": line},
{"end": true}, {"error": line}. It receives the request, [address, settings], then {"memory": name} after each size, and
{"release": number} when a frame is needed no more. See
`live.slots` for who owns which slot.
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any

from cyclecast.errors import InputError
from cyclecast.video.frame import Image
from cyclecast.video.live.failure import failure_text
from cyclecast.video.live.message_process import open_messages, send_message
from cyclecast.video.live.slots import SlotWriter, attach
from cyclecast.video.live.sources.registry import open_source
from cyclecast.video.live.sources.source import CaptureSettings, LiveSource, PendingFrame
from cyclecast.video.resize import resize_image

log = logging.getLogger(__name__)

SETTLE_S, MEASURE_S = 1.0, 2.0  # a camera's first frames are slow; after that its rate is measured
LOW_RATE = 0.8  # of the rate that the driver states
MAX_UNDECODABLE = 30  # frames in a row
ALIVE_INTERVAL_S = 1.0  # between two signs of life while all frames are left out
HEADROOM = 1.5  # intervals between frames: if the reader is busy for longer, a newer frame will come in time


def main() -> None:
    """Reads the request, then captures until the source ends or the reader does."""
    out = open_messages()
    messages = ParentMessages()
    threading.Thread(target=messages.read, daemon=True).start()
    address, capture_settings = messages.next()
    try:
        capture(address, CaptureSettings(**capture_settings), out, messages)
        send_message(out, end=True)
    except Exception as error:
        log.debug("capturing %s failed", address, exc_info=True)
        send_message(out, error=failure_text(error))
    out.flush()
    os._exit(0)  # drivers may hang or crash when they are taken down


class ParentMessages:
    """What the reader sends. `read` runs in a thread of its own, so that the pipe never fills up."""

    def __init__(self) -> None:
        self.slots: SlotWriter | None = None
        """Learns at once which frames are released."""
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read(self) -> None:
        """Reads messages until the reader closes the pipe; then ends the process, whatever a driver is waiting for."""
        for line in sys.stdin:
            message = json.loads(line)
            if isinstance(message, dict) and "release" in message:
                slots = self.slots
                if slots is not None:
                    slots.release(message["release"])
            else:
                self._messages.put(message)
        os._exit(0)

    def next(self) -> Any:
        """Waits for the next message that is not a release, and returns it."""
        return self._messages.get()


def capture(address: str, capture_settings: CaptureSettings, out: IO[str], messages: ParentMessages) -> None:
    """Captures every frame of the source into the slots, until it ends."""
    source = open_source(address, capture_settings)
    send_message(out, open=source.description)
    if source.has_sound:
        send_message(out, has_sound=True)
    size: tuple[int, int] | None = None
    number, before, interval, undecodable = 0, None, 0.0, 0
    for pending_frame in limit_rate(send_sound(check_rate(source, out), out), capture_settings.fps, out):
        if before is not None:
            step = pending_frame.at - before
            interval = step if not interval else 0.9 * interval + 0.1 * step
        before = pending_frame.at
        if messages.slots is not None and messages.slots.busy_until > pending_frame.at + HEADROOM * interval:
            number += 1
            send_message(out, skipped=number)
            continue
        try:
            image = shrink(pending_frame.decode(), capture_settings)
        except InputError:
            undecodable += 1
            if undecodable == MAX_UNDECODABLE:
                raise
            continue
        number, undecodable = number + 1, 0
        if size != image.shape[1::-1]:
            width, height = size = image.shape[1::-1]
            send_message(out, size=[width, height])
            memory = attach(messages.next()["memory"])
            if messages.slots is not None:
                messages.slots.close()
            messages.slots = SlotWriter(memory, width, height)
        assert messages.slots is not None
        slot = messages.slots.write(image, number)
        if slot is None:
            send_message(out, skipped=number)
        else:
            send_message(out, frame=number, slot=slot, at=pending_frame.at)


def check_rate(source: LiveSource, out: IO[str]) -> Iterator[PendingFrame]:
    """Yields all frames. Reports the measured rate once if the driver states none, or one that is much higher."""
    stated, count, start = source.stated_fps, 0, math.inf
    for pending_frame in source.pending_frames:
        if stated is not None:
            start = pending_frame.at + SETTLE_S if start == math.inf else start
            count += pending_frame.at >= start
            seconds = pending_frame.at - start
            if seconds >= MEASURE_S:
                fps = (count - 1) / seconds
                if fps < LOW_RATE * stated:
                    send_message(out, message=f"delivers {fps:.1f} fps, not {stated:g}; in poor light, cameras expose for longer")
                elif not stated:
                    send_message(out, message=f"delivers {fps:.1f} fps")
                stated = None
        yield pending_frame


def send_sound(pending_frames: Iterator[PendingFrame], out: IO[str]) -> Iterator[PendingFrame]:
    """Yields all frames, and sends the sound beside each, whether the frame is used or not."""
    for pending_frame in pending_frames:
        for chunk in pending_frame.sound:
            send_message(out, **chunk.message())
        yield pending_frame


def limit_rate(pending_frames: Iterator[PendingFrame], fps: float | None, out: IO[str]) -> Iterator[PendingFrame]:
    """Yields at most `fps` frames a second, as evenly as they come. Sends a sign of life while it leaves others out."""
    due: float | None = None
    sent = -math.inf
    for pending_frame in pending_frames:
        if fps is not None:
            due = pending_frame.at if due is None or pending_frame.at > due + 1 / fps + 1 else due
            if pending_frame.at < due - 0.5 / fps:
                if pending_frame.at - sent > ALIVE_INTERVAL_S:
                    sent = pending_frame.at
                    send_message(out, alive=True)
                continue
            due += 1 / fps
        yield pending_frame


def shrink(image: Image, capture_settings: CaptureSettings) -> Image:
    """Shrinks the frame to fit the size that was requested. Keeps its aspect ratio; never enlarges it."""
    height, width = image.shape[:2]
    scale = min(1.0, (capture_settings.width or width) / width, (capture_settings.height or height) / height)
    return resize_image(image, (max(2, round(width * scale)), max(2, round(height * scale))))
