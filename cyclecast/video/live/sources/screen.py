"""What is on a screen, as a source: `screen`, `screen://1`, or a part of it, `screen://0?x=100&y=50&width=1280&height=720`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import cv2
import numpy as np

from cyclecast.errors import InputError
from cyclecast.video.frame import Image
from cyclecast.video.live.sources.source import CaptureSettings, LiveSource, PendingFrame

FPS = 30.0
SIDES = ("x", "y", "width", "height")
WAYLAND = "the desktop runs on Wayland, which shows its screen to no program in this way; log in to an X11 (Xorg) session"


def open_screen(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """Captures at the rate of the wish, 30 frames per second by default; the mouse pointer is not in the picture.

    Screens count from 0, a part's place from the screen's upper left. InputError if there is no such screen or part, no display,
    or no mss, which does the work.
    """
    number, part = parsed(address)
    fps = capture_settings.fps or FPS
    mss = load_mss()
    try:
        screens = mss.MSS()
        monitors = screens.monitors[1:] or screens.monitors  # mss has all of them together in front
        if number >= len(monitors):
            there = "screen://0 only" if len(monitors) == 1 else f"screen://0 to screen://{len(monitors) - 1}"
            raise InputError(f"{address}: no such screen; there is {there}")
        area = placed(address, monitors[number], part)
        first = screens.grab(area)
    except mss.ScreenShotError as error:
        advice = WAYLAND if os.environ.get("WAYLAND_DISPLAY") else "DISPLAY must name an X server that this user may look at"
        raise InputError(f"{address}: {error}; {advice}") from error
    if os.environ.get("WAYLAND_DISPLAY") and not as_bgr(first).any():
        raise InputError(f"{address}: all of it is black; {WAYLAND}")
    described = f"screen {number}: {first.width}x{first.height} at {fps:g} fps"
    return LiveSource(described, _pending_frames(address, mss, screens, area, fps))


def load_mss() -> Any:
    """The library. InputError with the line that installs it."""
    try:
        import mss
    except ModuleNotFoundError as error:
        raise InputError("mss is not installed: pip install 'cyclecast[live]'") from error
    return mss


def parsed(address: str) -> tuple[int, dict[str, int]]:
    """The screen's number, and what the address says of `SIDES`. InputError if it says anything else."""
    match = re.fullmatch(r"screen(?:://(\d*)/?(?:\?(.*))?)?", address)
    pairs = parse_qsl(match[2] or "", keep_blank_values=True) if match else []
    part = {key: int(value) for key, value in pairs if key in SIDES and re.fullmatch(r"\d{1,6}", value)}
    if not match or len(part) != len(pairs):
        raise InputError(
            f"{address}: a screen is screen, screen://1, or a part such as screen://0?x=100&y=50&width=1280&height=720"
        )
    return int(match[1] or 0), part


def placed(address: str, monitor: dict[str, int], part: dict[str, int]) -> dict[str, int]:
    """The part of the monitor as mss takes it; what is not said reaches to the edges. InputError if it lies outside."""
    wide, high = monitor["width"], monitor["height"]
    x, y = part.get("x", 0), part.get("y", 0)
    width, height = part.get("width", wide - x), part.get("height", high - y)
    if width < 1 or height < 1 or x + width > wide or y + height > high:
        raise InputError(f"{address}: the part is empty or reaches beyond the screen, which is {wide}x{high}")
    return {"left": monitor["left"] + x, "top": monitor["top"] + y, "width": width, "height": height}


def _pending_frames(address: str, mss: Any, screens: Any, area: dict[str, int], fps: float) -> Iterator[PendingFrame]:
    due = time.perf_counter()
    while True:
        now = time.perf_counter()
        if now < due:
            time.sleep(due - now)
        else:
            due = now  # late: what was missed is over
        due += 1 / fps
        at = time.perf_counter()
        try:
            shot = screens.grab(area)
        except mss.ScreenShotError as error:
            raise InputError(f"{address}: {error}") from error
        yield PendingFrame(at, partial(as_bgr, shot))


def as_bgr(shot: Any) -> Image:
    """mss's picture, BGRA, as (H, W, 3) uint8 BGR."""
    pixels = np.frombuffer(shot.raw, np.uint8).reshape(shot.height, shot.width, 4)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR), np.uint8)
