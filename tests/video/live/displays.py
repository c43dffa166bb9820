"""A virtual screen of Xvfb, with real windows, real keys and screenshots."""

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

LIMIT = 60.0  # seconds for each wait


def require_programs(*programs: str) -> None:
    """Skips the test if a program is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")


def eventually(condition: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit, f"never: {what}"
        time.sleep(0.05)


class Display:
    """An X server. environment: the environment of programs that use it."""

    def __init__(self, name: str, server: subprocess.Popen[bytes]) -> None:
        self.name, self._server = name, server
        self.environment = {**os.environ, "DISPLAY": name} | {"XAUTHORITY": "/dev/null"}
        self.environment.pop("WAYLAND_DISPLAY", None)

    def kill(self) -> None:
        """Ends the X server at once, as when a remote desktop goes away."""
        self._server.kill()
        self._server.wait(LIMIT)

    def screenshot(self) -> Image:
        """Captures the whole screen, (H, W, 3) uint8 BGR."""
        mss = pytest.importorskip("mss")
        with mss.MSS(display=self.name) as screens:
            shot = screens.grab(screens.monitors[0])
        return np.asarray(np.frombuffer(shot.raw, np.uint8).reshape(shot.height, shot.width, 4)[..., :3])

    def xdotool(self, *arguments: str) -> str:
        """Runs xdotool and returns its output."""
        process = subprocess.run(["xdotool", *arguments], env=self.environment, capture_output=True, text=True, timeout=LIMIT)
        return process.stdout.strip()

    def find_window(self, title: str) -> str:
        """Waits for a window whose title starts with `title`, gives it the focus and returns its number."""
        found: list[str] = []

        def is_visible() -> bool:
            found[:] = self.xdotool("search", "--onlyvisible", "--name", f"^{title}").split()
            return bool(found)

        eventually(is_visible, f"a window {title!r}")
        self.xdotool("windowfocus", found[0])
        return found[0]

    def close_window(self, window: str) -> None:
        """Sends what a window manager sends when the user presses the close button."""
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
def open_display(width: int, height: int) -> Iterator[Display]:
    """Starts an X server with a black screen of this size."""
    require_programs("Xvfb")
    read_end, write_end = os.pipe()
    screen = ["-screen", "0", f"{width}x{height}x24"]
    command = [
        "Xvfb",
        "-displayfd",
        str(write_end),
        *screen,
        "-noreset",
        "-nolisten",
        "tcp",
    ]  # -noreset: it restarts otherwise when its last client leaves
    server = subprocess.Popen(command, pass_fds=[write_end], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write_end)
    try:
        assert select.select([read_end], [], [], LIMIT)[0], "Xvfb does not start"
        number = os.read(read_end, 16).decode().strip()
        assert number, "Xvfb ended"
        yield Display(f":{number}", server)
    finally:
        os.close(read_end)
        server.terminate()
        server.wait(LIMIT)


def quarters(width: int, height: int) -> Image:
    """Draws an image with a color of its own in each quarter: a flip or an exchange of channels shows."""
    image = np.full((height, width, 3), (10, 120, 240), np.uint8)
    image[: height // 2, : width // 2] = (255, 0, 0)
    image[: height // 2, width // 2 :] = (0, 255, 0)
    image[height // 2 :, : width // 2] = (0, 0, 255)
    cv2.circle(image, (width // 3, height // 3), height // 8, (200, 210, 220), -1)
    return image
