"""Addresses of the web page: `web`, `web://HOST:PORT`, with `?token=` for other machines, `?cert=&key=` for HTTPS, and
`?origin=https://HOST/PATH/` behind a proxy."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from cyclecast.errors import ConfigError
from cyclecast.video.live.sinks.sink import MissingSink
from cyclecast.video.live.sources.address import host_address

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8080
MIN_TOKEN_LENGTH = 8  # characters
TOKEN_VARIABLE = "CYCLECAST_TOKEN"  # instead of ?token=, which all users of the machine can read in the list of processes
LISTEN_BACKLOG = 64  # connections that wait to be accepted
SEND_BUFFER_BYTES = 256 * 1024  # a few frames, so that a slow connection does not show the past
UNACKNOWLEDGED_TIMEOUT_MS = 20_000  # without an answer from the other end, after which a connection is closed
USAGE = "type web or web://HOST:PORT, followed by ?token=SECRET, ?cert=FILE&key=FILE or ?origin=https://HOST/, joined by &"


@dataclass(frozen=True)
class WebAddress:
    """Where the server listens, and what it requires from clients."""

    host: str
    port: int
    """0: any free port."""
    token: str | None
    """The token that every client must send; None if only this machine reaches the page."""
    is_token_chosen: bool
    """Whether the user chose the token."""
    cert: Path | None = None
    key: Path | None = None
    origin: str | None = None
    """Scheme, host and port under which a proxy serves the page, as browsers state them; None: there is no proxy."""
    path: str = "/"
    """The page's path at the proxy, which removes it."""

    @property
    def scheme(self) -> str:
        """http or https."""
        return "https" if self.cert else "http"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the page."""
        return is_loopback(self.host)

    def url(self, port: int) -> str:
        """Returns the URL to open in a browser: the proxy's, if there is one.

        All interfaces (0.0.0.0) become this machine's address in its network.
        """
        if self.origin is not None:
            return self.origin + self.path
        host = own_address() if self.host in ("0.0.0.0", "::", "") else self.host
        netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return f"{self.scheme}://{netloc}/"


def parse_address(address: str) -> WebAddress:
    """Parses an address; generates a token where one is required and missing.

    A token that the address lacks may be in the environment. Raises ConfigError, without the token, if the address is invalid.
    """
    shown = host_address(address)
    try:
        parts = urlsplit(f"web://{address.removeprefix('web')}" if re.match(r"web(\?|$)", address) else address)
        host, port = parts.hostname or DEFAULT_HOST, DEFAULT_PORT if parts.port is None else parts.port
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as error:
        reason = str(error) if str(error).startswith("Port out of range") else "cannot be parsed"  # others quote the address
        raise ConfigError(f"{shown}: {reason}; {USAGE}") from error
    unknown = query.keys() - {"token", "cert", "key", "origin"}
    if unknown:
        raise ConfigError(f"{shown}: unknown setting {', '.join(sorted(unknown))}; {USAGE}")
    if parts.scheme != "web" or parts.path not in ("", "/"):
        raise ConfigError(f"{shown}: not an address of the web page; {USAGE}")
    place = shown if "token" in query else TOKEN_VARIABLE
    token = query.get("token", os.environ.get(TOKEN_VARIABLE) or None)
    if token is not None and not re.fullmatch(rf"[\w.~-]{{{MIN_TOKEN_LENGTH},}}", token, re.ASCII):
        raise ConfigError(f"{place}: a token needs {MIN_TOKEN_LENGTH} or more letters, digits or . _ ~ -")
    if ("cert" in query) != ("key" in query):
        raise ConfigError(f"{shown}: HTTPS needs both files; type ?cert=FILE&key=FILE")
    cert, key = (Path(query[name]) if name in query else None for name in ("cert", "key"))
    for file in (cert, key):
        if file is not None and not file.is_file():
            raise ConfigError(f"{shown}: no such file: {file}; type ?cert=FILE&key=FILE, both in PEM")
    origin, path = parse_origin(query["origin"]) if "origin" in query else (None, "/")
    is_token_chosen = token is not None
    if token is None and (origin is not None or not is_loopback(host)):  # others reach the page through the proxy
        token = secrets.token_urlsafe(16)
    return WebAddress(host, port, token, is_token_chosen, cert, key, origin, path)


def parse_origin(url: str) -> tuple[str, str]:
    """Returns (origin, path) of a proxy's URL: ("https://example.com", "/cam/"). Raises ConfigError if it is not valid."""
    match = re.fullmatch(r"(https?://[^/?#@\s\"'<>;]+)(/[\w./~-]*)?", url, re.ASCII)
    try:
        port = urlsplit(url).port
    except ValueError:
        match = None
    if not match:
        raise ConfigError(f"origin={url}: not the address of a page; type ?origin=https://HOST or ?origin=https://HOST/PATH/")
    origin, path = match[1].lower(), (match[2] or "/").rstrip("/") + "/"
    default = {"https": 443, "http": 80}[origin.partition(":")[0]]
    return origin.removesuffix(f":{port}") if port == default else origin, path  # browsers leave the default port out


def is_loopback(host: str) -> bool:
    """Returns whether a host name or an IP address is a loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def own_address() -> str:
    """Returns this machine's IP address in its network; its host name if it has none."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends no packet; looks up the route only
        return str(probe.getsockname()[0])
    return socket.gethostname()


def listen(address: WebAddress) -> socket.socket:
    """Returns a listening socket. MissingSink in one line if the port is in use or the host is not this machine."""
    where = f"{address.host}:{address.port}"
    try:
        family, socket_type, protocol, _, socket_address = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket_type, protocol)
    except OSError as error:
        raise MissingSink(f"cannot serve the web page at {where}: {error.strerror}") from error
    try:
        if sys.platform != "win32":  # on Windows it would let two programs share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit these options.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_TIMEOUT_MS)
        listening.bind(socket_address)
        listening.listen(LISTEN_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise MissingSink(f"cannot serve the web page at {where}: {reason}; type another port: --sink web://HOST:PORT") from error
    return listening
