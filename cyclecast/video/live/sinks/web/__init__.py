"""The sink `web`: a web page with the live video."""

from cyclecast.video.live.sinks.web.page import WebPage

__all__ = ["WebPage"]
