"""A window on the screen, with keys."""

from __future__ import annotations

import ctypes
import platform
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from cyclecast.errors import CyclecastError, OutputError
from cyclecast.video.display import find_window_problem
from cyclecast.video.frame import Image
from cyclecast.video.live.sinks.panel import AMBER, RED, WHITE, draw_panel
from cyclecast.video.live.sinks.sink import MissingSink, SessionControls
from cyclecast.video.live.styling.styled_frame import StyledFrame
from cyclecast.video.resize import letterbox

NAME = "cyclecast"  # of the window, for OpenCV
CAN_ENLARGE = tuple(int(part) for part in cv2.__version__.split(".")[:2]) >= (4, 12)  # opencv#26180: earlier, Qt never enlarges
MAX_SIZE = (1280, 720)  # (width, height) of a new window: most screens have room for it
STATUS_INTERVAL_S = 0.5  # between two updates of the rate, so that it can be read
NOTE_S = 3.0  # that a note stays
HELP_S = 12.0  # that the list of keys stays
STRENGTH_STEP = 0.1  # by which a key changes the strength
SPLIT_STEP = 0.02  # of the width, by which an arrow key moves the line of the split view
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


class Window:
    """Shows frames in an OpenCV window. The first frame sets its size; the user can resize it, and the frame keeps its shape.

    Raises OutputError if no window can open on this machine.
    """

    name = "window"
    in_main_thread = True

    def __init__(self, address: str, controls: SessionControls) -> None:
        if address != "window":
            raise OutputError(f"{address}: there is one window only: --sink window")
        problem = find_window_problem()
        if problem is not None:
            reason, fix = problem
            raise MissingSink(f"no window can open here ({reason}); {fix}, or use --sink web or --sink null")
        self._controls = controls
        self._frame: StyledFrame | None = None
        self._is_closed = False
        self._is_full_screen = False
        self._has_overlay = True
        self._status, self._status_until = "", 0.0
        self._note, self._note_until = "", 0.0
        self._help_until = 0.0
        self._recording: Path | None = None
        self._recording_since = 0.0
        self._split = 0.5  # where the split view will be when it is turned on

    def show(self, frame: StyledFrame) -> None:
        """Shows one frame and handles the keys. Ends the run if the window has been closed."""
        if self._frame is None:
            self._open(frame.image)
        self._frame = frame
        self._draw(frame)

    def idle(self) -> None:
        """Keeps the window responsive."""
        if self._frame is not None:
            self._draw(self._frame)

    def _open(self, image: Image) -> None:
        height, width = image.shape[:2]
        scale = min(1.0, MAX_SIZE[0] / width, MAX_SIZE[1] / height)
        ratio = cv2.WINDOW_FREERATIO if CAN_ENLARGE else cv2.WINDOW_KEEPRATIO  # with the former, `letterbox` keeps the shape
        share_x11()
        cv2.namedWindow(NAME, cv2.WINDOW_NORMAL | ratio | cv2.WINDOW_GUI_NORMAL)
        cv2.resizeWindow(NAME, round(width * scale), round(height * scale))
        cv2.setWindowTitle(NAME, f"cyclecast: {self._controls.feed.name}")
        self._show_note("h lists the keys")

    def _draw(self, frame: StyledFrame) -> None:
        if self._is_closed or not is_open():
            self._quit()
            return
        # The toolkit would scale it too, but Qt uses the nearest pixel, which makes text unreadable, and draws gray around.
        cv2.imshow(NAME, self._with_overlay(frame, letterbox(frame.image, window_size())))
        while (code := cv2.waitKeyEx(1)) != -1 and not self._is_closed:
            self._press(key_name(code))

    def _with_overlay(self, frame: StyledFrame, image: Image) -> Image:
        """The image with the status, the note, the list of keys and the recording mark; the same image if there are none."""
        now, recording = time.perf_counter(), self._controls.recording
        if recording != self._recording:
            self._recording, self._recording_since = recording, now
        rows = [[(self._status_text(frame, now), WHITE)]] if self._has_overlay else []
        if now < self._note_until:
            rows.append([(self._note, AMBER)])
        if not rows and recording is None and now >= self._help_until:
            return image
        if np.may_share_memory(image, frame.image):
            image = image.copy()
        below = draw_panel(image, rows) if rows else 0
        if now < self._help_until:
            draw_panel(image, [[(key, AMBER), (meaning, WHITE)] for key, meaning in KEYS], top=below)
        if recording is not None:
            seconds = int(now - self._recording_since)
            draw_panel(image, [[("REC", RED), (f"{seconds // 60}:{seconds % 60:02d}", WHITE)]], corner=True)
        return image

    def _status_text(self, frame: StyledFrame, now: float) -> str:
        """The model, the rate and the latency; the figures change slowly enough to be read."""
        if now >= self._status_until:
            recent = self._controls.meter.recent()
            self._status = f"{recent.fps:.1f} fps  latency {recent.latency_ms:.0f} ms"
            self._status_until = now + STATUS_INTERVAL_S
        switcher = self._controls.switcher
        is_opening = switcher.requested_model != switcher.active_model
        opening = f"  opening {Path(switcher.requested_model).stem} ..." if is_opening else ""
        strength = f"  strength {switcher.strength:.2g}" if switcher.strength < 1 else ""
        return f"{Path(frame.model).stem}{strength}  {self._status}{opening}"

    def _press(self, key: str) -> None:
        try:
            self._handle(key)
        except CyclecastError as error:
            self._controls.report(str(error))
            self._show_note(str(error))

    def _handle(self, key: str) -> None:
        """Does what a key stands for. Raises CyclecastError if that fails."""
        switcher = self._controls.switcher
        match key:
            case "n" | "p":
                switcher.request_next_model(1 if key == "n" else -1)
                if len(switcher.models) == 1:
                    self._show_note("there is one model only")
            case key if key.isdigit() and key != "0":
                if int(key) > len(switcher.models):
                    self._show_note(f"there is no model {key}")
                else:
                    switcher.request_model(switcher.models[int(key) - 1])
            case "[" | "]" | "-" | "+" | "=":
                step = -STRENGTH_STEP if key in "[-" else STRENGTH_STEP
                switcher.request_strength(min(max(round(switcher.strength + step, 2), 0.0), 1.0))
                self._show_note(f"strength {switcher.strength:.2g}")
            case "s":
                switcher.split = self._split if switcher.split is None else None
            case "left" | "right" | "," | ".":
                step = SPLIT_STEP if key in (RIGHT, ".") else -SPLIT_STEP
                split = (self._split if switcher.split is None else switcher.split) + step
                switcher.split = self._split = min(max(split, 0.0), 1.0)
            case "m":
                switcher.mirror = not switcher.mirror
            case " " | "c":
                self._show_note(f"saved {self._controls.snapshot().name}")
            case "r":
                path = self._controls.set_recording(self._controls.recording is None)
                self._show_note(f"recording to {path.name}" if path else "recorded")
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
            case key if key in QUIT_KEYS:
                self._quit()

    def _show_note(self, note: str) -> None:
        self._note, self._note_until = note, time.perf_counter() + NOTE_S

    def _quit(self) -> None:
        self._is_closed = True
        self._controls.quit()

    def close(self) -> None:
        """Closes the window."""
        if self._frame is not None and is_open():
            cv2.destroyWindow(NAME)
            cv2.waitKeyEx(1)


def share_x11() -> None:
    """Loads the system's libX11-xcb. Call it before a window opens: without it, a window on a busy machine may stay black.

    OpenCV's wheels bring their own libX11-xcb to the system's libX11. If the two have different versions, libX11 never learns
    that Qt reads the events, and both of them read. If the system's library is loaded first, OpenCV uses it too.
    """
    if platform.system() == "Linux":
        with suppress(OSError):
            ctypes.CDLL("libX11-xcb.so.1", mode=ctypes.RTLD_GLOBAL)


def is_open() -> bool:
    """Whether the window exists; the user can close it with its close button."""
    try:
        return cv2.getWindowProperty(NAME, cv2.WND_PROP_VISIBLE) >= 1
    except cv2.error:  # Qt raises if there is no window at all
        return False


def window_size() -> tuple[int, int]:
    """(width, height) in pixels of the window's area for the frame; 0 where the toolkit does not report it."""
    if not CAN_ENLARGE:
        return 0, 0
    try:
        _, _, width, height = cv2.getWindowImageRect(NAME)
    except cv2.error:
        return 0, 0
    return max(width, 0), max(height, 0)


def key_name(code: int) -> str:
    """The name of a key by its code of `cv2.waitKeyEx`: its character in lower case, or left, right, esc; empty for others."""
    for plain in (code, code & 0xFFFF):  # GTK adds the state of Shift and Num Lock in the upper bits
        if plain in SPECIAL_KEYS:
            return SPECIAL_KEYS[plain]
    return chr(plain).lower() if plain < 128 else ""
