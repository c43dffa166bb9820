"""The screen as a source: `screen`, `screen://1`, or a region of it, `screen://0?x=100&y=50&width=1280&height=720`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import cv2
import numpy as np

from cyclecast.errors import InputError
from cyclecast.video.frame import Image
from cyclecast.video.live.sources.source import CaptureSettings, LiveSource, PendingFrame

DEFAULT_FPS = 30.0
REGION_KEYS = ("x", "y", "width", "height")
USAGE = "type screen, screen://1, or a region such as screen://0?x=100&y=50&width=1280&height=720"
WAYLAND = "the desktop runs on Wayland, which blocks this method of screen capture; log in to an X11 (Xorg) session"


def open_screen(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """Captures at the requested rate, 30 frames per second by default, without the mouse pointer.

    Screens count from 0; a region is relative to the screen's upper left corner. Raises InputError if there is no such screen or
    region, no display, or no mss, the library that captures.
    """
    number, region = parse_screen(address)
    fps = capture_settings.fps or DEFAULT_FPS
    mss = load_mss()
    try:
        screens = mss.MSS()
        monitors = screens.monitors[1:] or screens.monitors  # mss puts the union of all monitors first
        if number >= len(monitors):
            choice = "screen://0" if len(monitors) == 1 else f"screen://0 to screen://{len(monitors) - 1}"
            raise InputError(f"{address}: no such screen; type {choice}")
        area = capture_area(address, monitors[number], region)
        first = screens.grab(area)
    except mss.ScreenShotError as error:
        advice = WAYLAND if os.environ.get("WAYLAND_DISPLAY") else "set DISPLAY to an X server that this user may access"
        raise InputError(f"{address}: {error}; {advice}") from error
    if os.environ.get("WAYLAND_DISPLAY") and not bgr_from_screenshot(first).any():
        raise InputError(f"{address}: every pixel is black; {WAYLAND}")
    description = f"screen {number}: {first.width}x{first.height} at {fps:g} fps"
    return LiveSource(description, _pending_frames(address, mss, screens, area, fps))


def load_mss() -> Any:
    """Imports the library. Raises InputError with the command that installs it."""
    try:
        import mss
    except ModuleNotFoundError as error:
        raise InputError("mss is not installed: pip install 'cyclecast[live]'") from error
    return mss


def parse_screen(address: str) -> tuple[int, dict[str, int]]:
    """Returns the screen's number and those of `REGION_KEYS` that the address sets. Raises InputError for anything else."""
    match = re.fullmatch(r"screen(?:://(\d*)/?(?:\?(.*))?)?", address)
    pairs = parse_qsl(match[2] or "", keep_blank_values=True) if match else []
    region = {key: int(value) for key, value in pairs if key in REGION_KEYS and re.fullmatch(r"\d{1,6}", value)}
    if not match or len(region) != len(pairs):
        raise InputError(f"{address}: not a screen; {USAGE}")
    return int(match[1] or 0), region


def capture_area(address: str, monitor: dict[str, int], region: dict[str, int]) -> dict[str, int]:
    """Returns mss's rectangle of the region, which by default extends to the edges. Raises InputError if it leaves the screen."""
    screen_width, screen_height = monitor["width"], monitor["height"]
    x, y = region.get("x", 0), region.get("y", 0)
    width, height = region.get("width", screen_width - x), region.get("height", screen_height - y)
    if width < 1 or height < 1 or x + width > screen_width or y + height > screen_height:
        raise InputError(f"{address}: the region is empty or leaves the screen, which is {screen_width}x{screen_height}")
    return {"left": monitor["left"] + x, "top": monitor["top"] + y, "width": width, "height": height}


def _pending_frames(address: str, mss: Any, screens: Any, area: dict[str, int], fps: float) -> Iterator[PendingFrame]:
    """Yields a frame at each due time. A failed capture (while the resolution changes) is a frame that cannot be decoded."""
    due = time.perf_counter()
    while True:
        now = time.perf_counter()
        if now < due:
            time.sleep(due - now)
        else:
            due = now  # late: do not catch up
        due += 1 / fps
        at = time.perf_counter()
        try:
            yield PendingFrame(at, partial(bgr_from_screenshot, screens.grab(area)))
        except mss.ScreenShotError as error:
            yield PendingFrame(at, partial(_fail, f"{address}: the screen cannot be captured ({error})"))


def _fail(message: str) -> NoReturn:
    raise InputError(message)


def bgr_from_screenshot(shot: Any) -> Image:
    """Converts mss's BGRA screenshot to (H, W, 3) uint8 BGR. Raises InputError if its size and its data disagree."""
    try:
        pixels = np.frombuffer(shot.raw, np.uint8).reshape(shot.height, shot.width, 4)
    except ValueError as error:
        raise InputError(f"a screenshot is incomplete ({error})") from error
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR), np.uint8)
