"""What this build of OpenCV can do, and whether a window can open here."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from cyclecast.isolated import call, last_line

SECONDS = 120.0  # for loading it, and for a window to open, on a machine that has other things to do
FEATURES = {  # our name -> that in OpenCV's build information
    "ffmpeg": "FFMPEG",
    "gstreamer": "GStreamer",
    "v4l2": "v4l/v4l2",
    "avfoundation": "AVFoundation",
    "directshow": "DirectShow",
    "media_foundation": "Media Foundation",
}


@dataclass(frozen=True)
class OpenCv:
    """The build, and the display."""

    version: str | None
    packages: list[str]
    """The distributions that own its module, with their versions; more than one overwrite each other."""
    failure: str | None
    """Why it cannot be loaded; None if it can."""
    features: dict[str, bool]
    """Of `FEATURES`, those that the build information names."""
    gui: str | None
    """What draws its windows (QT5, GTK3, COCOA, WIN32UI); None: a build without windows."""
    display: str | None
    """Where windows would open; None: nothing announces a display."""
    window: bool
    """One was opened, and closed again."""
    window_failure: str | None


def find_opencv(owners: Mapping[str, Sequence[str]]) -> OpenCv:
    """Loads OpenCV and, where a display is announced, opens a window for a moment; all of it in other processes.

    owners: module -> distributions, as `importlib.metadata.packages_distributions` gives.
    """
    packages = [f"{name} {metadata.version(name)}" for name in sorted(set(owners.get("cv2", ())))]
    found = call(opencv_facts, seconds=SECONDS)
    if found.failure:
        return OpenCv(None, packages, found.failure, {}, None, display_name(), False, None)
    features, gui = read_build(found.value["build"])
    display, failure = display_name(), None
    if gui is None:
        failure = "this build has no windows"
    elif display is None:
        failure = "no display: neither DISPLAY nor WAYLAND_DISPLAY is set"
    else:
        tried = call(open_a_window, seconds=SECONDS)
        failure = tried.failure and _why_no_window(tried.failure, tried.output)
    return OpenCv(found.value["version"], packages, None, features, gui, display, failure is None, failure)


def display_name() -> str | None:
    """What the environment says of a display; macOS and Windows have one."""
    if platform.system() in ("Darwin", "Windows"):
        return platform.system()
    names = ("WAYLAND_DISPLAY", "DISPLAY")
    return next((f"{name}={os.environ[name]}" for name in names if os.environ.get(name)), None)


def read_build(text: str) -> tuple[dict[str, bool], str | None]:
    """Features and GUI of `cv2.getBuildInformation()`."""
    features = {}
    for ours, theirs in FEATURES.items():
        line = re.search(rf"^ +{re.escape(theirs)}: +(\w+)", text, re.MULTILINE)
        if line:
            features[ours] = line[1] == "YES"
    gui = re.search(r"^ +GUI: +(\S+)", text, re.MULTILINE)
    return features, gui[1] if gui and gui[1] != "NONE" else None


def opencv_facts() -> dict[str, Any]:
    """{version, build: its own account}."""
    import cv2

    return {"version": cv2.__version__, "build": cv2.getBuildInformation()}


def open_a_window() -> None:
    """For a moment. Without a display some of OpenCV's toolkits end the process."""
    import cv2

    cv2.namedWindow("cyclecast doctor")
    cv2.waitKey(1)
    cv2.destroyAllWindows()


def _why_no_window(failure: str, said: str) -> str:
    """The toolkit's first word on it, which comes before general advice."""
    first = next((line for line in said.splitlines() if "could not" in line.lower() or "cannot" in line.lower()), "")
    return last_line(first) or failure
