"""A moving test pattern with a clock in each frame, at an exact rate: `pattern://1280x720@30`."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import partial

import numpy as np

from cyclecast.errors import InputError
from cyclecast.video.clock import MIN_HEIGHT_PX, draw_clock
from cyclecast.video.frame import Image
from cyclecast.video.live.sources.source import CaptureSettings, LiveSource, PendingFrame
from cyclecast.video.scene import Scene

LARGEST_SIDE = 8192  # pixels
HIGHEST_FPS = 1000
PAN_PERIOD_S = 8.0  # for the landscape to pan to its end and back


def open_pattern(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """Pans over a landscape, 1280x720 at 30 frames per second unless the address or the settings say otherwise."""
    match = re.fullmatch(r"pattern://(?:(\d+)x(\d+))?(?:@(\d+(?:\.\d+)?))?", address)
    if not match:
        raise InputError(f"{address}: not a test pattern; type pattern://WIDTHxHEIGHT@FPS, such as pattern://1280x720@30")
    width = int(match[1] or capture_settings.width or 1280)
    height = int(match[2] or capture_settings.height or 720)
    fps = float(match[3] or capture_settings.fps or 30)
    if not (MIN_HEIGHT_PX <= height <= LARGEST_SIDE and MIN_HEIGHT_PX <= width <= LARGEST_SIDE):
        raise InputError(f"{address}: {width}x{height} is not possible; type sides from {MIN_HEIGHT_PX} to {LARGEST_SIDE} pixels")
    if not 0 < fps <= HIGHEST_FPS:
        raise InputError(f"{address}: {fps:g} fps is not possible; type a rate above 0, up to {HIGHEST_FPS}")
    return LiveSource(f"pattern: {width}x{height} at {fps:g} fps", _pending_frames(width, height, fps))


def _pending_frames(width: int, height: int, fps: float) -> Iterator[PendingFrame]:
    landscape = Scene(width + width // 4, height).draw(0.0)
    start, index = time.perf_counter(), 0
    while True:
        due = start + index / fps
        wait = due - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        elif wait < -1:  # the machine was suspended: like a camera, do not catch up
            start, index = time.perf_counter(), 0
            due = start
        index += 1
        yield PendingFrame(due, partial(_draw, landscape, width, due))


def _draw(landscape: Image, width: int, at: float) -> Image:
    """Returns the part of the landscape that is visible at this time, with the clock."""
    phase = (at % PAN_PERIOD_S) / PAN_PERIOD_S
    offset = round((landscape.shape[1] - width) * (1 - abs(2 * phase - 1)))
    image = np.ascontiguousarray(landscape[:, offset : offset + width])
    draw_clock(image, at)
    return image
