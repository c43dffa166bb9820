"""Live sinks by the name that `--sink` takes; what is no name is a file to record into."""

from __future__ import annotations

from cyclecast.errors import OutputError
from cyclecast.video.live.sinks.recording import Recording
from cyclecast.video.live.sinks.sink import SessionControls, Sink, SinkOpener
from cyclecast.video.live.sinks.virtual_camera import VirtualCamera
from cyclecast.video.live.sinks.window import Window
from cyclecast.video.live.styling.styled_frame import StyledFrame


class Null:
    """Takes pictures and does nothing: for measuring."""

    name = "null"
    in_main_thread = False

    def __init__(self, address: str, controls: SessionControls) -> None: ...

    def show(self, shown: StyledFrame) -> None: ...

    def idle(self) -> None: ...

    def close(self) -> None: ...


def _web(address: str, controls: SessionControls) -> Sink:
    try:
        from cyclecast.video.live.sinks.web import WebPage
    except ModuleNotFoundError as error:
        raise OutputError(f"{error.name} is not installed: pip install 'cyclecast[web]'") from error
    return WebPage(address, controls)


SINKS: dict[str, SinkOpener] = {
    "window": Window,
    "virtual": VirtualCamera,  # virtual, virtual:///dev/video10
    "web": _web,  # web, web://0.0.0.0:8080
    "null": Null,
    "file": Recording,
}


def open_sink(address: str, controls: SessionControls, overwrite: bool = False) -> Sink:
    """Opens a sink by its address; overwrite: a file that exists is replaced.

    OutputError, EngineUnavailable or ConfigError in one line if that fails.
    """
    kind = sink_kind(address)
    return Recording(address, controls, overwrite) if kind == "file" else SINKS[kind](address, controls)


def sink_kind(address: str) -> str:
    """The key of `SINKS` that an address means."""
    name = address.partition("://")[0]
    return name if name in SINKS else "file"
