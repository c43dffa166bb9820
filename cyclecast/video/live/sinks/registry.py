"""Live sinks by the name that `--sink` takes. Everything else is a file to record to."""

from __future__ import annotations

from cyclecast.video.live.sinks.network.address import is_playlist
from cyclecast.video.live.sinks.network.output import NetworkOutput
from cyclecast.video.live.sinks.network.settings import StreamSettings
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
    "rtmp": NetworkOutput,  # rtmp://HOST/APP/KEY
    "rtmps": NetworkOutput,
    "rtsp": NetworkOutput,  # rtsp://HOST:8554/PATH, a server that accepts streams
    "rtsps": NetworkOutput,
    "srt": NetworkOutput,  # srt://HOST:PORT
    "udp": NetworkOutput,  # udp://HOST:PORT, MPEG-TS
    "hls": NetworkOutput,  # hls://FOLDER, or a path that ends in .m3u8
    "whip": NetworkOutput,  # whip://HOST/PATH, WebRTC
    "whip+https": NetworkOutput,
    "file": Recording,
}


def open_sink(
    address: str,
    controls: SessionControls,
    overwrite: bool = False,
    segments: Segments | None = None,
    streams: StreamSettings | None = None,
    web_options: WebOptions | None = None,
) -> Sink:
    """Opens a sink from its address.

    overwrite: a recording or a playlist may replace an existing file. segments: when a recording begins another file. streams:
    how network outputs are encoded. web_options: of the page.

    Raises MissingSink, another OutputError, or ConfigError, in one line, if that fails.
    """
    name = sink_type(address)
    if name == "file":
        return Recording(address, controls, overwrite, segments)
    if SINKS[name] is NetworkOutput:
        return NetworkOutput(address, controls, streams, overwrite)
    return _web(address, controls, web_options) if name == "web" else SINKS[name](address, controls)


def sink_type(address: str) -> str:
    """Returns the key of `SINKS` for an address."""
    name = "hls" if is_playlist(address) else sink_name(address)
    return name if name in SINKS else "file"
