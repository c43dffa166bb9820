"""The live picture on a web page."""

from cyclecast.video.live.sinks.web.page import WebPage

__all__ = ["WebPage"]
