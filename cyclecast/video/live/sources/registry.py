"""The table of live sources, by type of address. `live.capture` opens each source in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from cyclecast.video.live.sources.address import source_type
from cyclecast.video.live.sources.source import CaptureSettings, LiveSource

Opener = Callable[[str, CaptureSettings], LiveSource]


def from_module(name: str, function: str) -> Opener:
    """Returns a function of a module in this folder. Imports the module at its first call: a camera needs no FFmpeg."""

    def open_its_source(address: str, capture_settings: CaptureSettings) -> LiveSource:
        opener: Opener = getattr(import_module(f"cyclecast.video.live.sources.{name}"), function)
        return opener(address, capture_settings)

    return open_its_source


SOURCES: dict[str, Opener] = {
    "camera": from_module("camera", "open_camera"),  # 0, /dev/video0
    "name": from_module("camera", "open_named_camera"),  # Logitech
    "csi": from_module("camera", "open_csi"),  # csi://0
    "gst": from_module("camera", "open_pipeline"),  # gst://v4l2src
    "stream": from_module("network", "open_stream"),  # rtsp://, http://, udp://, srt://, rtmp://, tcp://, a named pipe, -
    "screen": from_module("screen", "open_screen"),  # screen, screen://1
    "pattern": from_module("pattern", "open_pattern"),  # pattern://1280x720@30
    "file": from_module("playback", "open_playback"),  # a video or an image
}


def open_source(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """Opens any live source. May block. Raises InputError, in one line that says what to type, if that fails."""
    return SOURCES[source_type(address)](address, capture_settings)
