"""A screen that nobody looks at: Xvfb's, with real windows, keys and pictures of it."""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from cyclecast.video.frame import Image

LIMIT = 60.0  # seconds that anything here may take


def needs(*programs: str) -> None:
    """Skips the test where a program is absent."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")


def eventually(condition: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit, f"never: {what}"
        time.sleep(0.05)


class Display:
    """An X server of its own. `environment`: for programs that are to use it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.environment = {**os.environ, "DISPLAY": name} | {"XAUTHORITY": "/dev/null"}
        self.environment.pop("WAYLAND_DISPLAY", None)

    def picture(self) -> Image:
        """All that is on it, (H, W, 3) uint8 BGR."""
        mss = pytest.importorskip("mss")
        with mss.MSS(display=self.name) as screens:
            shot = screens.grab(screens.monitors[0])
        return np.asarray(np.frombuffer(shot.raw, np.uint8).reshape(shot.height, shot.width, 4)[..., :3])

    def do(self, *words: str) -> str:
        """xdotool's answer."""
        done = subprocess.run(["xdotool", *words], env=self.environment, capture_output=True, text=True, timeout=LIMIT)
        return done.stdout.strip()

    def window(self, title: str) -> str:
        """The number of the window with a title that begins so, as soon as it is there; it gets the keys."""
        found: list[str] = []

        def there() -> bool:
            found[:] = self.do("search", "--onlyvisible", "--name", f"^{title}").split()
            return bool(found)

        eventually(there, f"a window {title!r}")
        self.do("windowfocus", found[0])
        return found[0]

    def ask_to_close(self, window: str) -> None:
        """What a window manager does when somebody presses a window's close button."""
        x11 = ctypes.CDLL("libX11.so.6")
        x11.XOpenDisplay.restype = ctypes.c_void_p
        x11.XInternAtom.restype = ctypes.c_ulong
        x11.XInternAtom.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
        x11.XSendEvent.argtypes = [ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        x11.XCloseDisplay.argtypes = [ctypes.c_void_p]
        server = x11.XOpenDisplay(self.name.encode())
        assert server
        protocols, delete = (x11.XInternAtom(server, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
        event = _ClientMessage(type=33, window=int(window), message_type=protocols, format=32)
        event.data[0] = delete
        assert x11.XSendEvent(server, int(window), 0, 0, ctypes.byref(event))
        x11.XCloseDisplay(server)


class _ClientMessage(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("pad", ctypes.c_long * 24),
    ]


@contextmanager
def a_display(width: int, height: int) -> Iterator[Display]:
    """A black screen of that size."""
    needs("Xvfb")
    reading, writing = os.pipe()
    screen = ["-screen", "0", f"{width}x{height}x24"]
    command = ["Xvfb", "-displayfd", str(writing), *screen, "-noreset", "-nolisten", "tcp"]  # or it begins anew when it is left
    server = subprocess.Popen(command, pass_fds=[writing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        assert select.select([reading], [], [], LIMIT)[0], "Xvfb does not start"
        number = os.read(reading, 16).decode().strip()
        assert number, "Xvfb ended"
        yield Display(f":{number}")
    finally:
        os.close(reading)
        server.terminate()
        server.wait(LIMIT)


def quarters(width: int, height: int) -> Image:
    """Blue, green, red and a gray that is no other: a picture whose sides and channels cannot be mixed up unnoticed."""
    image = np.full((height, width, 3), (10, 120, 240), np.uint8)
    image[: height // 2, : width // 2] = (255, 0, 0)
    image[: height // 2, width // 2 :] = (0, 255, 0)
    image[height // 2 :, : width // 2] = (0, 0, 255)
    cv2.circle(image, (width // 3, height // 3), height // 8, (200, 210, 220), -1)
    return image
