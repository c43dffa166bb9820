"""Live sinks by the name that `--sink` takes. Everything else is a file to record to."""

from __future__ import annotations

from cyclecast.video.live.sinks.recording import Recording, Segments
from cyclecast.video.live.sinks.sink import MissingSink, SessionControls, Sink, SinkOpener, sink_name
from cyclecast.video.live.sinks.virtual_camera import VirtualCamera
from cyclecast.video.live.sinks.web_options import WebOptions
from cyclecast.video.live.sinks.window import Window
from cyclecast.video.live.styling.styled_frame import StyledFrame


class Null:
    """Discards every frame: for measurements."""

    name = "null"

    def __init__(self, address: str, controls: SessionControls) -> None: ...

    def show(self, frame: StyledFrame) -> None: ...

    def idle(self) -> None: ...

    def close(self) -> None: ...


def _web(address: str, controls: SessionControls, options: WebOptions | None = None) -> Sink:
    try:
        from cyclecast.video.live.sinks.web import WebPage
    except ModuleNotFoundError as error:
        raise MissingSink(f"{error.name} is not installed: pip install 'cyclecast[web]'") from error
    return WebPage(address, controls, options)


SINKS: dict[str, SinkOpener] = {
    "window": Window,
    "virtual": VirtualCamera,  # virtual, virtual:///dev/video10
    "web": _web,  # web, web://0.0.0.0:8080
    "null": Null,
    "file": Recording,
}


def open_sink(
    address: str,
    controls: SessionControls,
    overwrite: bool = False,
    segments: Segments | None = None,
    web_options: WebOptions | None = None,
) -> Sink:
    """Opens a sink from its address. overwrite: a recording may replace an existing file. segments: when it begins another one.

    Raises MissingSink, another OutputError, or ConfigError, in one line, if that fails.
    """
    name = sink_type(address)
    if name == "file":
        return Recording(address, controls, overwrite, segments)
    return _web(address, controls, web_options) if name == "web" else SINKS[name](address, controls)


def sink_type(address: str) -> str:
    """Returns the key of `SINKS` for an address."""
    name = sink_name(address)
    return name if name in SINKS else "file"
