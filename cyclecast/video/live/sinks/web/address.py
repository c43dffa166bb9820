"""Where the page is served: `web`, `web://HOST:PORT`, with `?token=` for all but this machine and `?cert=&key=` for https."""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from cyclecast.errors import ConfigError, OutputError

HOST, PORT = "127.0.0.1", 8080
SHORTEST_TOKEN = 8  # characters
BACKLOG = 64  # connections that wait to be accepted
SENDING = 256 * 1024  # bytes that a connection may hold unsent: a few pictures, so that a slow one is not seconds late
UNANSWERED = 20_000  # milliseconds after which a connection whose other end does not answer is given up
USAGE = "the web page is web, web://HOST:PORT, and behind it ?token=SECRET and ?cert=FILE&key=FILE, joined by &"


@dataclass(frozen=True)
class WebAddress:
    """Where to listen, and what is asked of who comes."""

    host: str
    port: int
    """0: any that is free."""
    token: str | None
    """What everybody has to know; None: nothing, only this machine reaches the page."""
    given: bool
    """The token is the user's own."""
    cert: Path | None = None
    key: Path | None = None

    @property
    def scheme(self) -> str:
        return "https" if self.cert else "http"

    @property
    def loopback(self) -> bool:
        """Only this machine reaches it."""
        return is_loopback(self.host)

    def url(self, port: int) -> str:
        """What to open in a browser; everywhere (0.0.0.0) is named by the address that this machine has in its network."""
        host = own_address() if self.host in ("0.0.0.0", "::", "") else self.host
        netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return f"{self.scheme}://{netloc}/"


def read_address(address: str) -> WebAddress:
    """The parts of an address; a token is made up where one is needed and none is given. ConfigError if it cannot be read."""
    try:
        parts = urlsplit(address if "://" in address else f"web://{address.removeprefix('web')}")
        host, port = parts.hostname or HOST, PORT if parts.port is None else parts.port
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise ConfigError(f"{address}: {error}; {USAGE}") from error
    unknown = query.keys() - {"token", "cert", "key"}
    if parts.scheme != "web" or parts.path not in ("", "/") or unknown:
        raise ConfigError(f"{address}: {', '.join(sorted(unknown)) or 'what stands there'} is not understood; {USAGE}")
    token = query.get("token")
    if token is not None and not re.fullmatch(rf"[\w.~-]{{{SHORTEST_TOKEN},}}", token, re.ASCII):
        raise ConfigError(f"{address}: a token is {SHORTEST_TOKEN} or more letters, digits or . _ ~ -")
    if ("cert" in query) != ("key" in query):
        raise ConfigError(f"{address}: https needs both, ?cert=FILE&key=FILE")
    cert, key = (Path(query[name]) if name in query else None for name in ("cert", "key"))
    for file in (cert, key):
        if file is not None and not file.is_file():
            raise ConfigError(f"{address}: {file} is no file; https needs ?cert=FILE&key=FILE in PEM")
    given = token is not None
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(16)
    return WebAddress(host, port, token, given, cert, key)


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def own_address() -> str:
    """The address by which others in the network reach this machine; its name if it has none."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: it asks for the way there
        return str(probe.getsockname()[0])
    return socket.gethostname()


def listen(address: WebAddress) -> socket.socket:
    """A socket that listens there. OutputError in one line if the port is in use or the host is not this machine's."""
    where = f"{address.host}:{address.port}"
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise OutputError(f"the web page cannot be served at {where}: {error.strerror}") from error
    try:
        if sys.platform != "win32":  # there it would let two programs share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENDING)  # and below: what it accepts takes these on
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED)
        listening.bind(place)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        why = error.strerror or str(error)
        raise OutputError(f"the web page cannot be served at {where}: {why}; --sink web://HOST:PORT takes another") from error
    return listening
