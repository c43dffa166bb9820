"""Limits where a stream may lead: FFmpeg connects to nothing that is nearer than the address that the user typed.

A server on the internet can redirect FFmpeg, or name addresses in a playlist: of this machine, of a cloud's metadata service,
of a router. FFmpeg has no option to prevent that. So HTTP goes through a proxy in this process, which looks at each address once
more when it connects, and RTSP through a relay that passes no redirect on. `rtsps` ends here, so that its answers can be read.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import BinaryIO
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies_environment

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

THIS_MACHINE, THIS_NETWORK, INTERNET = 0, 1, 2  # how near an address is
NAT64 = ipaddress.ip_network("64:ff9b::/96")
CONNECT_TIMEOUT_S = 10.0
MAX_HEAD_BYTES = 64 * 1024
CHUNK = 64 * 1024
PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}
RTSP_STATUS = re.compile(rb"\s*RTSP/\S*\s+(\d+)")


class Refused(OSError):
    """A stream leads where it may not; the message is one line."""


def reach(address: Address) -> int:
    """Returns how near an address is: THIS_MACHINE (and what is linked to it), THIS_NETWORK or INTERNET."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return reach(inner)
    if address.is_loopback or address.is_link_local or address.is_unspecified:
        return THIS_MACHINE
    return INTERNET if address.is_global else THIS_NETWORK


def reach_of_host(host: str) -> int | None:
    """Returns the reach of a host's nearest address; None if its name cannot be resolved."""
    try:
        return min(reach(ipaddress.ip_address(info[4][0].partition("%")[0])) for info in socket.getaddrinfo(host, None))  # type: ignore[union-attr]
    except (OSError, ValueError, UnicodeError):
        return None


class Relay:
    """Listens on a free port of this machine and connects what comes to addresses that are as far as `nearest`, or farther.

    serve: what is done with a connection, in a thread of its own.
    """

    def __init__(self, nearest: int, serve: Callable[[Relay, socket.socket], None]) -> None:
        self.failure: OSError | None = None
        """Why the last connection failed; None if it did not."""
        self._nearest, self._serve = nearest, serve
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            threading.Thread(target=self._serve_client, args=(client,), daemon=True).start()

    def _serve_client(self, client: socket.socket) -> None:
        with client:
            try:
                self._serve(self, client)
            except OSError as error:  # the other end finds its connection closed
                self.failure = self.failure or error
            except ValueError as error:  # no address
                self.failure = self.failure or Refused(f"the server sent an invalid address ({error})")

    def connect(self, host: str, port: int) -> socket.socket:
        """Connects to a host. Raises Refused if one of its addresses is nearer than allowed, OSError if it does not answer."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        error: OSError = OSError("no address")
        for _, _, _, _, where in found:
            if reach(ipaddress.ip_address(str(where[0]).partition("%")[0])) < self._nearest:
                raise Refused(
                    f"the stream leads to {host}, which is nearer than the address that you typed; if you trust it, type that one"
                )
        for family, kind, protocol, _, where in found:
            server = socket.socket(family, kind, protocol)
            try:
                server.settimeout(CONNECT_TIMEOUT_S)
                server.connect(where)
                server.settimeout(None)
                return server
            except OSError as failure:
                server.close()
                error = failure
        raise error


@cache
def http_proxy(nearest: int) -> Relay:
    """Returns the proxy for HTTP and HTTPS, one for each process."""
    return Relay(nearest, _serve_http)


def _serve_http(relay: Relay, client: socket.socket) -> None:
    """Passes requests on: all of one connection go to the same server, as FFmpeg sends them."""
    with client.makefile("rb") as requests:
        _serve_requests(relay, client, requests)


def _serve_requests(relay: Relay, client: socket.socket, requests: BinaryIO) -> None:
    head = _read_head(requests)
    method, target, version = head[0].split(b" ", 2)
    is_tunnel = method == b"CONNECT"
    parts = urlsplit(b"//" + target if is_tunnel else target)
    host, port = (parts.hostname or b"").decode("ascii"), parts.port or PORTS["https" if is_tunnel else "http"]
    try:
        server = relay.connect(host, port)
    except OSError as error:
        relay.failure = error
        client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return
    with server:
        back = threading.Thread(target=_pump, args=(server, client), daemon=True)
        if is_tunnel:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back.start()
            _pump_buffered(requests, server)
        else:
            back.start()
            while head:
                method, target, version = head[0].split(b" ", 2)
                if urlsplit(target).netloc != parts.netloc:
                    break
                path = urlunsplit((b"", b"", urlsplit(target).path or b"/", urlsplit(target).query, b""))
                lines = [
                    b" ".join((method, path, version)),
                    *(line for line in head[1:] if not line.lower().startswith(b"proxy-")),
                ]
                server.sendall(b"\r\n".join([*lines, b"", b""]))
                head = _read_head(requests)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)
        back.join()


def guard(address: str) -> tuple[str, dict[str, str], Relay | None]:
    """Returns (address, options) for FFmpeg, and the relay that they lead through.

    No relay is needed if nothing is nearer than the address, if its host has no address, for protocols that cannot redirect,
    and for HTTP behind the user's own proxy, which decides itself.
    """
    parts = urlsplit(address)
    nearest = reach_of_host(parts.hostname) if parts.hostname and parts.scheme in PORTS else None
    if not nearest or not parts.hostname:
        return address, {}, None
    if parts.scheme in ("http", "https"):
        if "http" in getproxies_environment():
            return address, {}, None
        os.environ.pop("no_proxy", None)  # or FFmpeg would go around the relay
        relay = http_proxy(nearest)
        relay.failure = None
        return address, {"http_proxy": f"http://127.0.0.1:{relay.port}"}, relay
    relay = rtsp_relay(parts.hostname, parts.port or PORTS[parts.scheme], parts.scheme == "rtsps", nearest)
    user, at_sign, _ = parts.netloc.rpartition("@")
    return urlunsplit(("rtsp", f"{user}{at_sign}127.0.0.1:{relay.port}", *parts[2:])), {}, relay


def rtsp_relay(host: str, port: int, is_tls: bool, nearest: int) -> Relay:
    """Starts a relay to one RTSP server, whose redirects it refuses."""

    def serve(relay: Relay, client: socket.socket) -> None:
        with _secured(relay.connect(host, port), host, is_tls) as server:
            threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            try:
                with server.makefile("rb") as answers:
                    _pass_on_rtsp(answers, client)
            except Refused as error:
                relay.failure = error  # before the other end finds its connection closed, and asks why
            finally:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    return Relay(nearest, serve)


def _secured(server: socket.socket, host: str, is_tls: bool) -> socket.socket:
    """Returns the connection, with TLS if requested. Accepts the self-signed certificates of cameras, as FFmpeg does."""
    if not is_tls:
        return server
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(server, server_hostname=host)


def _pass_on_rtsp(answers: BinaryIO, client: socket.socket) -> None:
    """Passes messages and interleaved packets on, read as FFmpeg reads them. Refused for a redirect."""
    while first := answers.read(1):
        if first == b"$":
            header = answers.read(3)
            client.sendall(first + header + answers.read(int.from_bytes(header[1:], "big")))
            continue
        lines = [first if first == b"\n" else first + answers.readline(MAX_HEAD_BYTES)]
        while lines[-1].strip(b"\r\n") and sum(map(len, lines)) < MAX_HEAD_BYTES:
            lines.append(answers.readline(MAX_HEAD_BYTES))
            if not lines[-1]:
                return
        fields = {line.partition(b":")[0].strip().lower(): line.partition(b":")[2].strip() for line in lines[1:]}
        status = RTSP_STATUS.match(lines[0])
        if status and 300 <= int(status[1]) < 400:
            parts = urlsplit(fields.get(b"location", b"").decode("ascii", "replace"))
            where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
            raise Refused(f"the server redirects to {where}; if you trust it, type that address")
        length = fields.get(b"content-length", b"0")
        client.sendall(b"".join(lines) + answers.read(int(length) if length.isdigit() else 0))


def _read_head(requests: BinaryIO) -> list[bytes]:
    """Reads the lines of a request's header; returns an empty list at the end."""
    lines: list[bytes] = []
    size = 0
    while line := requests.readline(MAX_HEAD_BYTES):
        size += len(line)
        line = line.rstrip(b"\r\n")
        if not line:
            return lines
        if size > MAX_HEAD_BYTES:
            raise Refused("a request is too long")
        lines.append(line)
    return []


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Passes on bytes until one end closes."""
    with suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _pump_buffered(source: BinaryIO, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.read1(CHUNK):  # type: ignore[attr-defined]
            target.sendall(data)
