"""Live sources by their address, as `cyclecast live` takes it. Each is opened in a process of its own, see `live.capturing`."""

from __future__ import annotations

from collections.abc import Callable

from cyclecast.video.live.sources.address import source_kind
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
    "file": open_playback,  # a film or a picture
}


def open_source(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """Opens a camera, a stream, a file, a screen or a pattern. InputError in one line if that fails; may block."""
    return SOURCES[source_kind(address)](address, capture_settings)
