"""What the installed build of OpenCV can do, and whether it can open a window."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from cyclecast.isolated import call
from cyclecast.video.display import OPENCV_TIMEOUT_S, display_name, gui_in_build, opencv_build, try_window

FEATURES = {  # our name -> the name in OpenCV's build information
    "ffmpeg": "FFMPEG",
    "gstreamer": "GStreamer",
    "v4l2": "v4l/v4l2",
    "avfoundation": "AVFoundation",
    "directshow": "DirectShow",
    "media_foundation": "Media Foundation",
}


@dataclass(frozen=True)
class OpenCv:
    """The installed build, and the display."""

    version: str | None
    packages: list[str]
    """The packages that own the module `cv2`, with versions. If there are several, they overwrite each other's files."""
    failure: str | None
    """Why it cannot be loaded; None if it can."""
    features: dict[str, bool]
    """Those of `FEATURES` that the build information lists."""
    gui: str | None
    """The toolkit of its windows (QT5, GTK3, COCOA, WIN32UI); None for a build without windows."""
    display: str | None
    """The display for windows; None if there is none."""
    window: bool
    """Whether a window could be opened."""
    window_failure: str | None


def find_opencv(owners: Mapping[str, Sequence[str]]) -> OpenCv:
    """Loads OpenCV and, if there is a display, opens a window for a moment, each in a separate process.

    owners: module -> packages, as `importlib.metadata.packages_distributions` returns.
    """
    packages = [f"{name} {metadata.version(name)}" for name in sorted(set(owners.get("cv2", ())))]
    result = call(opencv_build, seconds=OPENCV_TIMEOUT_S)
    if result.failure:
        return OpenCv(None, packages, result.failure, {}, None, display_name(), False, None)
    build = result.value["build"]
    gui = gui_in_build(build)
    failure = try_window(gui)
    return OpenCv(result.value["version"], packages, None, read_features(build), gui, display_name(), failure is None, failure)


def read_features(build: str) -> dict[str, bool]:
    """Reads which features `cv2.getBuildInformation()` lists, and whether each is built in."""
    features = {}
    for name, opencv_name in FEATURES.items():
        line = re.search(rf"^ +{re.escape(opencv_name)}: +(\w+)", build, re.MULTILINE)
        if line:
            features[name] = line[1] == "YES"
    return features
