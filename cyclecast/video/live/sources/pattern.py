"""A moving test picture with a clock in it, at an exact rate: `pattern://1280x720@30`."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import partial

import numpy as np

from cyclecast.errors import InputError
from cyclecast.video.clock import SMALLEST_HEIGHT, draw_clock
from cyclecast.video.frame import Image
from cyclecast.video.live.sources.source import CaptureSettings, LiveSource, PendingFrame
from cyclecast.video.scene import Scene

LARGEST = 8192  # pixels, a side
FASTEST = 1000  # frames per second
ACROSS = 8.0  # seconds for the landscape to go past and come back


def open_pattern(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """A landscape that goes by, 1280x720 at 30 frames per second unless the address or the wish says otherwise."""
    match = re.fullmatch(r"pattern://(?:(\d+)x(\d+))?(?:@(\d+(?:\.\d+)?))?", address)
    if not match:
        raise InputError(f"{address}: a pattern is pattern://WIDTHxHEIGHT@FPS, such as pattern://1280x720@30")
    width = int(match[1] or capture_settings.width or 1280)
    height = int(match[2] or capture_settings.height or 720)
    fps = float(match[3] or capture_settings.fps or 30)
    if not (SMALLEST_HEIGHT <= height <= LARGEST and SMALLEST_HEIGHT <= width <= LARGEST):
        raise InputError(f"{address}: the sides of a pattern are {SMALLEST_HEIGHT} to {LARGEST} pixels")
    if not 0 < fps <= FASTEST:
        raise InputError(f"{address}: a pattern has up to {FASTEST} frames per second")
    return LiveSource(f"pattern: {width}x{height} at {fps:g} fps", _pending_frames(width, height, fps))


def _pending_frames(width: int, height: int, fps: float) -> Iterator[PendingFrame]:
    wide = Scene(width + width // 4, height).draw(0.0)
    begin, index = time.perf_counter(), 0
    while True:
        due = begin + index / fps
        wait = due - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        elif wait < -1:  # the machine slept: a camera would not make up for it either
            begin, index = time.perf_counter(), 0
            due = begin
        index += 1
        yield PendingFrame(due, partial(_draw, wide, width, due))


def _draw(wide: Image, width: int, at: float) -> Image:
    """The piece of the landscape that is seen at this time, and the clock."""
    phase = (at % ACROSS) / ACROSS
    offset = round((wide.shape[1] - width) * (1 - abs(2 * phase - 1)))
    image = np.ascontiguousarray(wide[:, offset : offset + width])
    draw_clock(image, at)
    return image
