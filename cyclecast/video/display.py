"""Whether OpenCV can open a window on this machine.

Every check runs in a separate process, because some window toolkits end the process that calls them without a display.
"""

from __future__ import annotations

import os
import platform
import re
from typing import Any

from cyclecast.isolated import call, last_line

OPENCV_TIMEOUT_S = 120.0  # for loading OpenCV, or for opening a window, on a busy machine


def display_name() -> str | None:
    """Returns the display that the environment names, None if there is none; macOS and Windows always have one."""
    if platform.system() in ("Darwin", "Windows"):
        return platform.system()
    names = ("WAYLAND_DISPLAY", "DISPLAY")
    return next((f"{name}={os.environ[name]}" for name in names if os.environ.get(name)), None)


def find_window_problem() -> tuple[str, str] | None:
    """Opens a window and closes it again. If that fails: the reason, and what to do about it."""
    result = call(opencv_build, seconds=OPENCV_TIMEOUT_S)
    if result.failure:
        return result.failure, "run `cyclecast doctor`"
    gui = gui_in_build(result.value["build"])
    failure = try_window(gui)
    if failure is None:
        return None
    return failure, "set DISPLAY" if gui else "install opencv-python in place of opencv-python-headless"


def try_window(gui: str | None) -> str | None:
    """Opens a window with this GUI toolkit of OpenCV. The reason why that fails, None if it works."""
    if gui is None:
        return "this build of OpenCV has no windows"
    if display_name() is None:
        return "no display: neither DISPLAY nor WAYLAND_DISPLAY is set"
    result = call(open_window, seconds=OPENCV_TIMEOUT_S)
    return result.failure and _first_error_line(result.output, result.failure)


def gui_in_build(build: str) -> str | None:
    """Reads the GUI toolkit (QT5, GTK3, COCOA, WIN32UI) from `cv2.getBuildInformation()`; None for a build without windows."""
    gui = re.search(r"^ +GUI: +(\S+)", build, re.MULTILINE)
    return gui[1] if gui and gui[1] != "NONE" else None


def opencv_build() -> dict[str, Any]:
    """Returns {version, build: the text of `cv2.getBuildInformation()`}."""
    import cv2

    return {"version": cv2.__version__, "build": cv2.getBuildInformation()}


def open_window() -> None:
    """Opens a window for a moment."""
    import cv2

    cv2.namedWindow("cyclecast doctor")
    cv2.waitKey(1)
    cv2.destroyAllWindows()


def _first_error_line(output: str, failure: str) -> str:
    """Returns the first line in which the toolkit states the failure; the lines after it are general advice."""
    first = next((line for line in output.splitlines() if "could not" in line.lower() or "cannot" in line.lower()), "")
    return last_line(first) or failure
