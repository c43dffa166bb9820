"""Why a stream over the network cannot be opened or has ended, in words that say what to type or check."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import av

from cyclecast.video.live.sources.address import HIDDEN, redacted_address, url_scheme
from cyclecast.video.live.sources.relay import Refused

NO_PROTOCOL = "type rtsp://, http://, https://, udp://, rtp://, rtmp:// or tcp://, or the path of a named pipe"


def failure_reason(error: Exception, address: str, timeout_s: float) -> str:
    """Returns why FFmpeg could not open the address, in one line without the password."""
    scheme = url_scheme(address)
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        if "@" in address:
            return "the server rejects this user and password; type @ and / in them as %40 and %2F"
        return f"the server requires a user and a password; type {scheme}://USER:PASSWORD@HOST/..."
    if isinstance(error, av.error.HTTPNotFoundError):
        return "the server has no stream at this path (404); check the part behind the host"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused; check the host and the port, and that the server runs"
    if isinstance(error, av.error.ExitError | TimeoutError):
        return f"no answer within {timeout_s:g} s; check the host and the port, and that no firewall is between"
    if isinstance(error, av.error.ProtocolNotFoundError):
        return f"this build of FFmpeg has no protocol {scheme}://; {NO_PROTOCOL}"
    if isinstance(error, av.error.InvalidDataError):
        return "not a video that FFmpeg can read; check the address"
    if isinstance(error, EOFError):
        return "ended before its first frame; check that the sender runs"
    detail = getattr(error, "strerror", None) or type(error).__name__
    return unknown_host(address) or f"no video can be read from it ({detail}); check the address"


def unknown_host(address: str) -> str | None:
    """Returns a line if the host's name cannot be resolved, which FFmpeg reports as an input/output error; otherwise None."""
    name = redacted_address(address)
    if HIDDEN in name:  # there is no valid host in it
        return None
    host = urlsplit(name).hostname
    try:
        socket.getaddrinfo(host or "localhost", None)
    except (OSError, UnicodeError):
        return f"host {host} not found; check its name and the network"
    return None
