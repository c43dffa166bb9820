"""The live picture on a web page."""

from cyclecast.video.sinks.web.page import WebPage

__all__ = ["WebPage"]
