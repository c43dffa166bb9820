"""OSC (Open Sound Control 1.0) over UDP: show control and sound desks change the style, the strength and more."""

from __future__ import annotations

import logging
import math
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

from cyclecast.errors import ConfigError, CyclecastError, MissingExtraError, OutputError
from cyclecast.phrases import printable
from cyclecast.video.live.failure import failure_text
from cyclecast.video.live.remotes.remote import RemoteOpener
from cyclecast.video.live.sinks.sink import SessionControls

try:
    from pythonosc.osc_message import OscMessage
    from pythonosc.parsing.osc_types import get_string
except ModuleNotFoundError as error:
    raise MissingExtraError("OSC needs python-osc: pip install 'cyclecast[osc]'") from error

DEFAULT_HOST = "127.0.0.1"
MAX_PACKET_BYTES = 65_536
POLL_S = 0.2  # between two looks at whether the run has ended
BUNDLE, BUNDLE_HEADER = b"#bundle\0", 16  # bytes, with the time at which to carry it out
MAX_DEPTH = 8  # of bundles in bundles
TYPE_TAGS = re.compile(r",[ihfdsbrmtTFN\[\]]*")  # all that python-osc reads; others make it write to the root logger

log = logging.getLogger(__name__)


def osc_opener(address: str) -> RemoteOpener:
    """Returns the opener of an `OscServer`. address: PORT or HOST:PORT. Raises ConfigError if it is neither."""
    match = re.fullmatch(r"(?:(\[[0-9A-Fa-f:.]+\]|[\w.-]+):)?(\d{1,5})", address, re.ASCII)
    if match is None or not 0 <= int(match[2]) <= 65_535:
        raise ConfigError(f"--osc {printable(address)}: expected PORT or HOST:PORT, such as --osc 9000")
    return partial(OscServer, (match[1] or DEFAULT_HOST).strip("[]"), int(match[2]))


class OscServer:
    """Receives messages and puts what they request into the run's queue. A message that is not valid is reported once.

    Raises OutputError if the port is in use or the host is not this machine.
    """

    def __init__(self, host: str, port: int, controls: SessionControls) -> None:
        self._controls = controls
        self._socket = bind_udp(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._socket.settimeout(POLL_S)
        self._complaints: set[str] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._actions: dict[str, Callable[[list[Any]], Future[Any] | None]] = {
            "/cyclecast/style": self._set_style,
            "/cyclecast/strength": lambda values: controls.queue.set_strength(one_number(values)),
            "/cyclecast/split": self._set_split,
            "/cyclecast/mirror": lambda values: controls.queue.set_mirror(one_number(values) > 0),
            "/cyclecast/record": lambda values: controls.queue.set_recording(one_number(values) > 0),
            "/cyclecast/snapshot": self._save_snapshot,
        }
        where = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        is_local = host in ("localhost", "::1") or host.startswith("127.")
        warning = "" if is_local else "; OSC has no password, so everybody in its network can control this run"
        controls.report(f"OSC: udp://{where}{warning}")
        self._thread = threading.Thread(target=self._receive, name="osc", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread and closes the port."""
        self._closing.set()
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        while not self._closing.is_set():
            try:
                packet, _ = self._socket.recvfrom(MAX_PACKET_BYTES)
            except TimeoutError:
                continue
            except OSError:  # Windows reports clients that have left
                log.debug("receiving OSC failed", exc_info=True)
                self._closing.wait(POLL_S)
                continue
            try:
                for message in split_bundle(packet):
                    self._carry_out(parse_message(message))
            except Exception:  # whatever a packet from the network does to the parser
                log.debug("an OSC packet cannot be parsed: %r", packet[:200], exc_info=True)
                self._complain("a packet is not OSC 1.0 and was ignored")

    def _carry_out(self, message: OscMessage) -> None:
        action = self._actions.get(message.address)
        if action is None:
            known = ", ".join(self._actions)
            return self._complain(f"there is no {printable(message.address[:80])}; there are: {known}", "unknown address")
        try:
            future = action(message.params)
        except CyclecastError as error:
            return self._complain(f"{message.address}: {failure_text(error)}", message.address)
        if future is not None:
            future.add_done_callback(partial(self._check, message.address))
        return None

    def _check(self, address: str, future: Future[Any]) -> None:
        error = future.exception()
        if error is not None and not self._closing.is_set():
            self._complain(f"{address}: {printable(failure_text(error))}", address)

    def _complain(self, text: str, topic: str | None = None) -> None:
        """Reports a problem, the first one of each topic: a fader sends hundreds of messages."""
        with self._lock:  # this thread, and those of the queue
            is_known = (topic or text) in self._complaints
            self._complaints.add(topic or text)
        if not is_known:
            self._controls.report(f"OSC: {text}")

    def _set_style(self, values: list[Any]) -> Future[Any]:
        if len(values) == 1 and isinstance(values[0], str):
            return self._controls.queue.set_style(values[0])
        number = one_number(values, "the name or the number of a style")
        if number != int(number):
            raise ConfigError(f"expected the name or the number of a style, got {number:g}")
        return self._controls.queue.set_style(int(number))

    def _set_split(self, values: list[Any]) -> Future[Any]:
        is_off = values in ([], [None]) or (len(values) == 1 and values[0] is False)
        return self._controls.queue.set_split(None if is_off else one_number(values))

    def _save_snapshot(self, values: list[Any]) -> Future[Any] | None:
        """A button sends 1 when it is pressed and 0 when it is released; many programs send no value."""
        return self._controls.queue.save_snapshot() if not values or one_number(values) > 0 else None


def one_number(values: list[Any], expected: str = "one number") -> float:
    """Returns the only value as a number; True is 1. Raises ConfigError if it is none."""
    if len(values) != 1 or not isinstance(values[0], int | float) or not math.isfinite(values[0]):
        raise ConfigError(f"expected {expected}, got {printable(repr(values))[:80]}")
    return float(values[0])


def split_bundle(packet: bytes, depth: int = 0) -> Iterator[bytes]:
    """Yields the messages of a packet, in order. The times of bundles are ignored: everything is due now.

    Raises ValueError or struct.error if the packet is not valid.
    """
    if not packet.startswith(BUNDLE):
        yield packet
        return
    if depth > MAX_DEPTH:
        raise ValueError("too many bundles in bundles")
    start = BUNDLE_HEADER
    while start < len(packet):
        (size,) = struct.unpack_from(">i", packet, start)
        start += 4
        if size <= 0 or start + size > len(packet):
            raise ValueError(f"an element of {size} bytes at {start} of {len(packet)}")
        yield from split_bundle(packet[start : start + size], depth + 1)
        start += size


def parse_message(data: bytes) -> OscMessage:
    """Parses one message. Raises ValueError, or what python-osc raises, if it is not valid."""
    address, end = get_string(data, 0)
    if not address.startswith("/"):
        raise ValueError(f"not an address: {address[:80]!r}")
    if data[end:] and not TYPE_TAGS.fullmatch(get_string(data, end)[0]):
        raise ValueError("unknown types")
    return OscMessage(data)


def bind_udp(host: str, port: int) -> socket.socket:
    """Returns a bound UDP socket. Raises OutputError if the port is in use or the host is not this machine."""
    try:
        family, socket_type, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, socket_type, protocol)
        try:
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise OutputError(
            f"cannot receive OSC at {host}:{port} ({error.strerror or error}); type another port: --osc HOST:PORT"
        ) from error
    return bound
