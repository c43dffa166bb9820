"""The table of live sources, by type of address. `live.capture` opens each source in a process of its own."""

from __future__ import annotations

from collections.abc import Callable

from cyclecast.video.live.sources.address import source_type
from cyclecast.video.live.sources.camera import open_camera, open_csi
from cyclecast.video.live.sources.network import open_stream
from cyclecast.video.live.sources.pattern import open_pattern
from cyclecast.video.live.sources.playback import open_playback
from cyclecast.video.live.sources.screen import open_screen
from cyclecast.video.live.sources.source import CaptureSettings, LiveSource

SOURCES: dict[str, Callable[[str, CaptureSettings], LiveSource]] = {
    "camera": open_camera,  # 0, /dev/video0
    "csi": open_csi,  # csi://0
    "stream": open_stream,  # rtsp://, http://, udp://, srt://, rtmp://, tcp://, a named pipe, -
    "screen": open_screen,  # screen, screen://1
    "pattern": open_pattern,  # pattern://1280x720@30
    "file": open_playback,  # a video or an image
}


def open_source(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """Opens any live source. May block. Raises InputError, in one line that says what to type, if that fails."""
    return SOURCES[source_type(address)](address, capture_settings)
