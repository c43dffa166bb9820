"""A window on the screen, with keys."""

from __future__ import annotations

import ctypes
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from cyclecast.errors import CyclecastError, OutputError
from cyclecast.video.display import find_window_problem
from cyclecast.video.frame import Image
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.styling.styled_frame import StyledFrame

NAME = "cyclecast"  # of the window, for OpenCV
SCALES = tuple(int(part) for part in cv2.__version__.split(".")[:2]) >= (4, 12)  # opencv#26180: before, Qt never enlarges
FITS = (1280, 720)  # (width, height) that a window has at most when it opens: there is room for it on most screens
FRESH = 0.5  # seconds between two readings of the rate, so that it can be read
NOTE = 3.0  # seconds that a note stays
HELP = 12.0  # seconds that the list of keys stays
STEP = 0.02  # of the width, by which an arrow moves the line of the split
LEFT, RIGHT, ESCAPE = "left", "right", "esc"
QUIT = ("q", ESCAPE)
SPECIAL = {  # what `cv2.waitKeyEx` gives: Qt and GTK, Windows, macOS
    **dict.fromkeys((0xFF51, 0x250000, 0xF702), LEFT),
    **dict.fromkeys((0xFF53, 0x270000, 0xF703), RIGHT),
    0x1B: ESCAPE,
}
KEYS = (
    ("n  p", "next, previous model"),
    ("1 - 9", "choose a model"),
    ("s", "split view"),
    ("<-  ->", "move its line (also , .)"),
    ("m", "mirror"),
    ("space", "snapshot (also c)"),
    ("r", "record, stop"),
    ("o", "overlay on, off"),
    ("f", "full screen"),
    ("h", "these keys"),
    ("q", "quit (also esc)"),
)
WHITE, AMBER, RED = (255, 255, 255), (90, 200, 255), (60, 60, 255)  # BGR


class Window:
    """Shows pictures in a window of OpenCV's, of the size of the first picture; it can be resized and keeps the picture's shape.

    OutputError if no window can open here.
    """

    name = "window"
    in_main_thread = True

    def __init__(self, address: str, controls: SessionControls) -> None:
        if address != "window":
            raise OutputError(f"{address}: there is one window only: --sink window")
        problem = find_window_problem()
        if problem is not None:
            reason, fix = problem
            raise OutputError(f"no window can open here ({reason}); {fix}, or use --sink web or --sink null")
        self._controls = controls
        self._shown: StyledFrame | None = None
        self._closed = False
        self._full_screen = False
        self._overlay = True
        self._status, self._status_until = "", 0.0
        self._note, self._note_until = "", 0.0
        self._help_until = 0.0
        self._recording: Path | None = None
        self._recording_since = 0.0
        self._edge = 0.5  # of the split, while it is off

    def show(self, shown: StyledFrame) -> None:
        """Shows one picture and does what the keys say. Ends the run if the window has been closed."""
        if self._shown is None:
            self._open(shown.image)
        self._shown = shown
        self._draw(shown)

    def idle(self) -> None:
        """Keeps the window alive."""
        if self._shown is not None:
            self._draw(self._shown)

    def _open(self, image: Image) -> None:
        height, width = image.shape[:2]
        scale = min(1.0, FITS[0] / width, FITS[1] / height)
        ratio = cv2.WINDOW_FREERATIO if SCALES else cv2.WINDOW_KEEPRATIO  # the former, for `framed` keeps it
        share_x11()
        cv2.namedWindow(NAME, cv2.WINDOW_NORMAL | ratio | cv2.WINDOW_GUI_NORMAL)
        cv2.resizeWindow(NAME, round(width * scale), round(height * scale))
        cv2.setWindowTitle(NAME, f"cyclecast: {self._controls.feed.name}")
        self._say("h lists the keys")

    def _draw(self, shown: StyledFrame) -> None:
        if self._closed or not is_open():
            self._quit()
            return
        cv2.imshow(NAME, self._lettered(shown, framed(shown.image, window_size())))
        while (code := cv2.waitKeyEx(1)) != -1 and not self._closed:
            self._press(key_name(code))

    def _lettered(self, shown: StyledFrame, image: Image) -> Image:
        """The image, which shows it, with everything that is to be read in it; itself if there is nothing."""
        now, recording = time.perf_counter(), self._controls.recording
        if recording != self._recording:
            self._recording, self._recording_since = recording, now
        rows = [[(self._told(shown, now), WHITE)]] if self._overlay else []
        if now < self._note_until:
            rows.append([(self._note, AMBER)])
        if not rows and recording is None and now >= self._help_until:
            return image
        if np.may_share_memory(image, shown.image):
            image = image.copy()
        below = panel(image, rows) if rows else 0
        if now < self._help_until:
            panel(image, [[(key, AMBER), (meaning, WHITE)] for key, meaning in KEYS], top=below)
        if recording is not None:
            seconds = int(now - self._recording_since)
            panel(image, [[("REC", RED), (f"{seconds // 60}:{seconds % 60:02d}", WHITE)]], corner=True)
        return image

    def _told(self, shown: StyledFrame, now: float) -> str:
        """The model, the rate and the latency, in numbers that stay long enough to be read."""
        if now >= self._status_until:
            measured = self._controls.meter.now()
            self._status = f"{measured.fps:.1f} fps  latency {measured.latency_ms:.0f} ms"
            self._status_until = now + FRESH
        switcher = self._controls.switcher
        opening = (
            f"  opening {Path(switcher.requested_model).stem} ..." if switcher.requested_model != switcher.active_model else ""
        )
        return f"{Path(shown.model).stem}  {self._status}{opening}"

    def _press(self, key: str) -> None:
        try:
            self._act(key)
        except CyclecastError as error:
            self._controls.report(str(error))
            self._say(str(error))

    def _act(self, key: str) -> None:
        """Does what a key stands for. CyclecastError if that fails."""
        switcher = self._controls.switcher
        match key:
            case "n" | "p":
                switcher.request_next_model(1 if key == "n" else -1)
                if len(switcher.models) == 1:
                    self._say("there is one model only")
            case key if key.isdigit() and key != "0":
                if int(key) > len(switcher.models):
                    self._say(f"there is no model {key}")
                else:
                    switcher.request_model(switcher.models[int(key) - 1])
            case "s":
                switcher.split = self._edge if switcher.split is None else None
            case "left" | "right" | "," | ".":
                edge = (self._edge if switcher.split is None else switcher.split) + (STEP if key in (RIGHT, ".") else -STEP)
                switcher.split = self._edge = min(max(edge, 0.0), 1.0)
            case "m":
                switcher.mirror = not switcher.mirror
            case " " | "c":
                self._say(f"saved {self._controls.snapshot().name}")
            case "r":
                path = self._controls.set_recording(self._controls.recording is None)
                self._say(f"recording into {path.name}" if path else "recorded")
            case "o":
                self._overlay = not self._overlay
            case "f":
                self._full_screen = not self._full_screen
                mode = cv2.WINDOW_FULLSCREEN if self._full_screen else cv2.WINDOW_NORMAL
                cv2.setWindowProperty(NAME, cv2.WND_PROP_FULLSCREEN, mode)
            case "h":
                now = time.perf_counter()
                self._help_until = now + HELP if now >= self._help_until else now
                self._note_until = now
            case key if key in QUIT:
                self._quit()

    def _say(self, note: str) -> None:
        self._note, self._note_until = note, time.perf_counter() + NOTE

    def _quit(self) -> None:
        self._closed = True
        self._controls.quit()

    def close(self) -> None:
        """Takes the window away."""
        if self._shown is not None and is_open():
            cv2.destroyWindow(NAME)
            cv2.waitKeyEx(1)


def share_x11() -> None:
    """To be called before a window opens: without it, one on a busy machine may stay black for good.

    OpenCV's wheels bring a libX11-xcb of their own to the system's libX11. Where the two are of different versions, the former
    does not get through to the latter that events are Qt's to read, and both read them. Loaded first, the system's own is used.
    """
    if platform.system() == "Linux":
        with suppress(OSError):
            ctypes.CDLL("libX11-xcb.so.1", mode=ctypes.RTLD_GLOBAL)


def is_open() -> bool:
    """Whether the window is there; with its close button, people take it away."""
    try:
        return cv2.getWindowProperty(NAME, cv2.WND_PROP_VISIBLE) >= 1
    except cv2.error:  # Qt's way to say that there is no window at all
        return False


def window_size() -> tuple[int, int]:
    """(width, height) of what the window has for a picture; 0 where it does not say."""
    if not SCALES:
        return 0, 0
    try:
        _, _, width, height = cv2.getWindowImageRect(NAME)
    except cv2.error:
        return 0, 0
    return max(width, 0), max(height, 0)


def framed(image: Image, size: tuple[int, int]) -> Image:
    """The image in the middle of (width, height), as large as it fits, black around it; itself if it is of that size.

    Not left to the toolkit: Qt takes the nearest pixel, which letters do not survive, and puts gray around.
    """
    height, width = image.shape[:2]
    if size == (width, height) or not all(size):
        return image
    scale = min(size[0] / width, size[1] / height)
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    out = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - wide) // 2, (size[1] - high) // 2
    how = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    cv2.resize(image, (wide, high), out[top : top + high, left : left + wide], interpolation=how)
    return out


def key_name(code: int) -> str:
    """A key by what `cv2.waitKeyEx` gives for it: its character, in lower case, or its name; empty if it means nothing here."""
    for plain in (code, code & 0xFFFF):  # GTK adds the state of Shift and Num Lock above
        if plain in SPECIAL:
            return SPECIAL[plain]
    return chr(plain).lower() if plain < 128 else ""


Row = Sequence[tuple[str, tuple[int, int, int]]]
"""Columns: what to write, and its color in BGR."""


def panel(image: Image, rows: Sequence[Row], top: int = 0, corner: bool = False) -> int:
    """Writes into the image, over a darkened piece of it; the first line below that.

    It is at the left, from line `top` on, or in the lower right corner. The image is (H, W, 3) uint8 BGR. Columns are aligned;
    what is too large for the image is written smaller.
    """
    height, width = (int(side) for side in image.shape[:2])
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, min(max(height / 1080, 0.4), 2.0)
    widths = _widths(rows, scale)
    line = round(40 * scale)
    gap = margin = line // 2
    total = sum(widths) + gap * (len(widths) - 1) + 2 * margin
    fit = min(1.0, (width - 2 * margin) / total, (height - top - 2 * margin) / (line * (len(rows) + 0.5)))
    if fit < 1:
        scale, line, gap, margin = scale * fit, round(line * fit), round(gap * fit), round(margin * fit)
        widths = _widths(rows, scale)
        total = sum(widths) + gap * (len(widths) - 1) + 2 * margin
    tall = line * len(rows) + line // 2
    x = width - margin - total if corner else margin
    y = height - margin - tall if corner else top + margin // 2 if top else margin
    ground = image[y : y + tall, x : x + total]
    ground[:] = ground // 4
    for number, row in enumerate(rows):
        at = x + margin
        for (text, color), wide in zip(row, widths, strict=False):
            where = (at, y + line // 4 + round(line * (number + 0.72)))
            cv2.putText(image, text, where, font, scale, color, max(1, round(1.4 * scale)), cv2.LINE_AA)
            at += wide + gap
    return y + tall


def _widths(rows: Sequence[Row], scale: float) -> list[int]:
    """Pixels that each column needs."""
    columns = max(len(row) for row in rows)
    texts = [[row[column][0] for row in rows if column < len(row)] for column in range(columns)]
    return [max(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] for text in column) for column in texts]
