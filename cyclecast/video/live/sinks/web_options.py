"""Options of the web page besides its address: who reaches it from behind a router, how much it may send, what it links to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from cyclecast.errors import ConfigError

DEFAULT_MAX_VIEWERS = 32  # at the same time; those that see the same share one encoder
MOST_VIEWERS = 100  # of 128 connections
DEFAULT_PORTS = {"stun": 3478, "turn": 3478, "turns": 5349}
TURN_USAGE = "--turn: expected turn://USER:PASSWORD@HOST:3478, and turns:// for TLS"


@dataclass(frozen=True, kw_only=True)
class WebOptions:
    """Options of the web page. Raises ConfigError, without the password, for invalid values."""

    stun: str | None = None
    """stun://HOST:PORT: a server that says which address this machine has on the internet."""
    turn: str | None = field(default=None, repr=False)
    """turn://USER:PASSWORD@HOST:PORT: a server that relays the video where nothing else gets through."""
    max_viewers: int = DEFAULT_MAX_VIEWERS
    viewer_mbps: float | None = None
    """Megabits per second for each viewer, at most; None: what the size of the frames needs."""
    web_app: str | None = None
    """Address of a site that `web-app` wrote, where a viewer's own machine styles its own camera: the page links to it."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_viewers <= MOST_VIEWERS:
            raise ConfigError(f"max_viewers must be from 1 to {MOST_VIEWERS}, got {self.max_viewers}")
        if self.viewer_mbps is not None and not 0.1 <= self.viewer_mbps <= 1000:
            raise ConfigError(f"viewer_mbps must be from 0.1 to 1000, got {self.viewer_mbps:g}")
        if self.web_app is not None and not is_web_address(self.web_app):
            raise ConfigError(f"--web-app: expected https://HOST/PATH of a site that web-app wrote, got {self.web_app!r}")
        self.ice_servers()

    @property
    def viewer_bitrate(self) -> float | None:
        """Bits per second for each viewer, at most; None: no limit."""
        return None if self.viewer_mbps is None else 1e6 * self.viewer_mbps

    def ice_servers(self) -> list[dict[str, Any]]:
        """Returns the servers as a browser's RTCPeerConnection takes them: `urls`, and `username` and `credential` for TURN."""
        servers: list[dict[str, Any]] = []
        if self.stun is not None:
            parts = split_address(self.stun, ("stun",), "--stun: expected stun://HOST:3478")
            servers.append({"urls": f"stun:{parts[1]}"})
        if self.turn is not None:
            scheme, host, user, password = split_address(self.turn, ("turn", "turns"), TURN_USAGE)
            if not user or not password:
                raise ConfigError(TURN_USAGE)
            transport = "?transport=tcp" if scheme == "turns" else ""
            servers.append({"urls": f"{scheme}:{host}{transport}", "username": user, "credential": password})
        return servers


def is_web_address(address: str) -> bool:
    """Returns whether this is an http or https address with a host and without a password."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc


def split_address(address: str, schemes: tuple[str, ...], usage: str) -> tuple[str, str, str, str]:
    """Returns (scheme, host:port, user, password). Raises ConfigError with `usage` if the address has another shape."""
    try:
        parts = urlsplit(address)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError as error:
        raise ConfigError(usage) from error
    host = parts.hostname or ""
    if parts.scheme not in schemes or not host or ":" in host or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigError(usage)
    return parts.scheme, f"{host}:{port}", unquote(parts.username or ""), unquote(parts.password or "")
