"""The process of the window: OpenCV's window belongs to its main thread. It shows the newest frame and sends the keys.

It receives lines of JSON: {"title": text} first, then any of {"status": text, "recording": seconds or null}, {"note": text},
{"frame": number, "slot": slot} and, before the first frame of a size, in the same line, {"memory": name, "size": [width,
height]}. It sends {"shown": number} when a frame is on the screen, {"key": name}, {"closed": true}, {"error": line}. `live.slots`
describes who owns which slot.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import queue
import threading
import time
from contextlib import suppress
from typing import IO, Any

import cv2
import numpy as np

from cyclecast.video.frame import Image
from cyclecast.video.live.failure import failure_text
from cyclecast.video.live.message_process import open_messages, read_messages, send_message
from cyclecast.video.live.sinks.panel import AMBER, RED, WHITE, draw_panel
from cyclecast.video.live.slots import Slots, attach
from cyclecast.video.resize import letterbox

log = logging.getLogger(__name__)

WINDOW_SLOTS = 1  # one frame at a time: the next one is written when this one is on the screen
REDRAW_INTERVAL_S = 0.1  # without a message, after which the window looks for keys
NAME = "cyclecast"  # of the window, for OpenCV
CAN_ENLARGE = tuple(int(part) for part in cv2.__version__.split(".")[:2]) >= (4, 12)  # opencv#26180: earlier, Qt never enlarges
MAX_SIZE = (1280, 720)  # (width, height) of a new window: most screens have room for it
NOTE_S = 3.0  # that a note stays
HELP_S = 12.0  # that the list of keys stays
LEFT, RIGHT, ESCAPE = "left", "right", "esc"
QUIT_KEYS = ("q", ESCAPE)
SPECIAL_KEYS = {  # codes of `cv2.waitKeyEx`: Qt and GTK, Windows, macOS
    **dict.fromkeys((0xFF51, 0x250000, 0xF702), LEFT),
    **dict.fromkeys((0xFF53, 0x270000, 0xF703), RIGHT),
    0x1B: ESCAPE,
}
KEYS = (
    ("n  p", "next, previous model"),
    ("1 - 9", "choose a model"),
    ("[  ]", "lower, raise the strength (also - +)"),
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


def main() -> None:
    """Reads the title, then shows frames until the window is closed or the main process ends."""
    out = open_messages()
    messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=read_messages, args=(messages,), daemon=True).start()
    try:
        WindowView(messages.get()["title"], out).run(messages)
    except Exception as error:
        log.debug("the window failed", exc_info=True)
        send_message(out, error=failure_text(error))
    out.flush()
    os._exit(0)  # some toolkits crash when they are taken down


class WindowView:
    """Draws the frame and the texts over it, and handles the keys that concern the window alone."""

    def __init__(self, title: str, out: IO[str]) -> None:
        self._title, self._out = title, out
        self._slots: Slots | None = None
        self._image: Image | None = None
        self._is_closed = False
        self._is_full_screen = False
        self._has_overlay = True
        self._status = ""
        self._note, self._note_until = "", 0.0
        self._help_until = 0.0
        self._recording: int | None = None  # seconds

    def run(self, messages: queue.SimpleQueue[dict[str, Any]]) -> None:
        """Shows what arrives, until the window is closed."""
        while not self._is_closed:
            message: dict[str, Any] = {}
            with suppress(queue.Empty):
                message = messages.get(timeout=REDRAW_INTERVAL_S)
            self._take(message)
            if self._image is not None:
                self._draw(self._image)
            if "frame" in message:
                send_message(self._out, shown=message["frame"])

    def _take(self, message: dict[str, Any]) -> None:
        """Applies everything that a message holds."""
        if "status" in message:
            self._status, self._recording = message["status"], message["recording"]
        if "note" in message:
            self._show_note(message["note"])
        if "memory" in message:
            if self._slots is not None:
                self._slots.close()
            width, height = message["size"]
            self._slots = Slots(attach(message["memory"]), width, height, WINDOW_SLOTS)
        if "frame" in message and self._slots is not None:
            is_first = self._image is None
            self._image = self._slots.read(message["slot"])
            if is_first:
                self._open(self._image)

    def _open(self, image: Image) -> None:
        height, width = image.shape[:2]
        scale = min(1.0, MAX_SIZE[0] / width, MAX_SIZE[1] / height)
        ratio = cv2.WINDOW_FREERATIO if CAN_ENLARGE else cv2.WINDOW_KEEPRATIO  # with the former, `letterbox` keeps the shape
        share_x11()
        cv2.namedWindow(NAME, cv2.WINDOW_NORMAL | ratio | cv2.WINDOW_GUI_NORMAL)
        cv2.resizeWindow(NAME, round(width * scale), round(height * scale))
        cv2.setWindowTitle(NAME, self._title)
        self._show_note("h lists the keys")

    def _draw(self, image: Image) -> None:
        if not is_open():
            self._is_closed = True
            send_message(self._out, closed=True)
            return
        # The toolkit would scale it too, but Qt uses the nearest pixel, which makes text unreadable, and draws gray around.
        cv2.imshow(NAME, self._with_overlay(image, letterbox(image, window_size())))
        while (code := cv2.waitKeyEx(1)) != -1:
            self._press(key_name(code))

    def _with_overlay(self, clean: Image, image: Image) -> Image:
        """Adds the status, the note, the list of keys and the recording mark; returns the same image if there are none.

        clean: the frame, which stays without them.
        """
        now = time.perf_counter()
        rows = [[(self._status, WHITE)]] if self._has_overlay else []
        if now < self._note_until:
            rows.append([(self._note, AMBER)])
        if not rows and self._recording is None and now >= self._help_until:
            return image
        if np.may_share_memory(image, clean):
            image = image.copy()
        below = draw_panel(image, rows) if rows else 0
        if now < self._help_until:
            draw_panel(image, [[(key, AMBER), (meaning, WHITE)] for key, meaning in KEYS], top=below)
        if self._recording is not None:
            minutes, seconds = divmod(self._recording, 60)
            draw_panel(image, [[("REC", RED), (f"{minutes}:{seconds:02d}", WHITE)]], corner=True)
        return image

    def _press(self, key: str) -> None:
        """Handles a key, or sends it."""
        match key:
            case "o":
                self._has_overlay = not self._has_overlay
            case "f":
                self._is_full_screen = not self._is_full_screen
                mode = cv2.WINDOW_FULLSCREEN if self._is_full_screen else cv2.WINDOW_NORMAL
                cv2.setWindowProperty(NAME, cv2.WND_PROP_FULLSCREEN, mode)
            case "h":
                now = time.perf_counter()
                self._help_until = now + HELP_S if now >= self._help_until else now
                self._note_until = now
            case "":
                pass
            case _:
                send_message(self._out, key=key)

    def _show_note(self, note: str) -> None:
        self._note, self._note_until = note, time.perf_counter() + NOTE_S


def share_x11() -> None:
    """Loads the system's libX11-xcb. Call it before a window opens: without it, a window on a busy machine may stay black.

    OpenCV's wheels bring their own libX11-xcb to the system's libX11. If the two have different versions, libX11 never learns
    that Qt reads the events, and both of them read. If the system's library is loaded first, OpenCV uses it too.
    """
    if platform.system() == "Linux":
        with suppress(OSError):
            ctypes.CDLL("libX11-xcb.so.1", mode=ctypes.RTLD_GLOBAL)


def is_open() -> bool:
    """Returns whether the window exists; the user can close it with its close button."""
    try:
        return cv2.getWindowProperty(NAME, cv2.WND_PROP_VISIBLE) >= 1
    except cv2.error:  # Qt raises if there is no window at all
        return False


def window_size() -> tuple[int, int]:
    """Returns (width, height) in pixels of the window's area for the frame; 0 where the toolkit does not report it."""
    if not CAN_ENLARGE:
        return 0, 0
    try:
        _, _, width, height = cv2.getWindowImageRect(NAME)
    except cv2.error:
        return 0, 0
    return max(width, 0), max(height, 0)


def key_name(code: int) -> str:
    """Returns the name of a key from its code of `cv2.waitKeyEx`: a character in lower case, or left, right, esc; or nothing."""
    for plain in (code, code & 0xFFFF):  # GTK adds the state of Shift and Num Lock in the upper bits
        if plain in SPECIAL_KEYS:
            return SPECIAL_KEYS[plain]
    return chr(plain).lower() if plain < 128 else ""
