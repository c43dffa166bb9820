"""The connections to the page's server: how many there may be, and how long a client may take to send its request.

Anyone who reaches the port can connect without a token. So a request has a deadline, and where there is no room for a new
connection, it takes the place of the one that has been without a request for the longest time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 128  # at the same time
MAX_PER_ADDRESS = 64  # of them; a proxy has one address for all viewers
REQUEST_TIMEOUT_S = 10.0  # from the connection, or from the response before, to the last byte of a request
MAX_REQUEST_BYTES = 1 << 20  # header and body; what is read of a rejected body
STALLED_TIMEOUT_S = 20.0  # in which a client must read `LEAST_PROGRESS_BYTES` of a response, or its rest
LEAST_PROGRESS_BYTES = 64 * 1024
ACCEPT_RETRY_S = 1.0  # after an error, such as no file descriptor left
REPORT_INTERVAL_S = 60.0  # between two reports of such errors

log = logging.getLogger(__name__)


class PageProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1 with a deadline for requests, a limit of their size, and an end for clients that take no response."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.waiting_since = time.monotonic()
        """When the server began to wait for a request; only meaningful while `is_waiting`."""
        self.on_lost: Callable[[], None] = lambda: None
        """Called when the connection has ended."""
        self._received = 0  # bytes since the response before
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def is_waiting(self) -> bool:
        """Returns whether no complete request is being answered."""
        return self.conn.their_state not in (h11.DONE, h11.MUST_CLOSE) or self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the deadline."""
        super().connection_made(transport)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the timers."""
        super().connection_lost(exc)
        for timer in (self._deadline, self._stalled):
            if timer is not None:
                timer.cancel()
        self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Counts the bytes; stops the deadline with the last one of a request."""
        self._received += len(data)
        if self._received > MAX_REQUEST_BYTES:
            self.transport.abort()
            return
        super().data_received(data)
        self._set_deadline()

    def on_response_complete(self) -> None:
        """Starts the deadline of the next request."""
        self._received, self.waiting_since = 0, time.monotonic()
        super().on_response_complete()
        self._set_deadline()

    def _set_deadline(self) -> None:
        """Starts the deadline if the server waits for a request and it is not running; stops it otherwise."""
        if not self.is_waiting and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        elif self.is_waiting and self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_TIMEOUT_S, self._expire)

    def _expire(self) -> None:
        """Ends the connection, at once unless the client is still taking the response before."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent:
            self.transport.abort()
            return
        self.transport.close()  # once all is sent
        if self._stalled is None:
            self._watch(unsent)

    def pause_writing(self) -> None:
        """Watches whether the client reads what is written."""
        super().pause_writing()
        self._watch(self.transport.get_write_buffer_size())

    def _watch(self, before: int) -> None:
        self._stalled = self.loop.call_later(STALLED_TIMEOUT_S, self._check_progress, before)

    def _check_progress(self, before: int) -> None:
        size = self.transport.get_write_buffer_size()
        if size > before - LEAST_PROGRESS_BYTES:
            self.transport.abort()
        else:
            self._watch(size)

    def resume_writing(self) -> None:
        """Stops the deadline once the client has read almost everything."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


class Client:
    """One accepted connection: `protocol` is None until TLS is agreed on."""

    def __init__(self, address: str) -> None:
        self.address, self.since = address, time.monotonic()
        self.protocol: PageProtocol | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def is_waiting(self) -> bool:
        return self.protocol is None or self.protocol.is_waiting

    @property
    def waiting_since(self) -> float:
        return self.since if self.protocol is None else self.protocol.waiting_since

    def drop(self) -> None:
        """Ends the connection at once."""
        if self.protocol is not None:
            self.protocol.transport.abort()
        elif self.task is not None:
            self.task.cancel()


class Connections:
    """Accepts connections and keeps their number below the limits. For one event loop.

    make_protocol: called for each connection. report: called with a line for the user.
    """

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: Callable[[], PageProtocol],
        ssl_context: ssl.SSLContext | None,
        report: Callable[[str], None],
    ) -> None:
        self._listening, self._make_protocol, self._ssl, self._report = listening, make_protocol, ssl_context, report
        self._clients: set[Client] = set()
        self._reported = -REPORT_INTERVAL_S

    async def accept(self) -> None:
        """Accepts connections until it is cancelled. Errors are reported once a minute at most, and end nothing."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listening)
            except ConnectionError:  # the client has left already
                continue
            except OSError as error:
                if time.monotonic() - self._reported >= REPORT_INTERVAL_S:
                    self._reported = time.monotonic()
                    self._report(f"web page: accepts no connections ({error.strerror or error}); trying again")
                await asyncio.sleep(ACCEPT_RETRY_S)
                continue
            client = Client(str(address[0]))
            if self._make_room(client.address):
                self._clients.add(client)
                client.task = loop.create_task(self._serve(client, connection))
                client.task.add_done_callback(partial(self._close_unserved, client, connection))
            else:
                connection.close()
            await asyncio.sleep(0)  # a crowd of connections must not keep the loop from its other work

    def _make_room(self, address: str) -> bool:
        """Drops the connection that has waited longest for a request where a limit is reached. False if all are busy."""
        same = [client for client in self._clients if client.address == address]
        for clients, limit in ((same, MAX_PER_ADDRESS), (self._clients, MAX_CONNECTIONS)):
            if len(clients) >= limit:
                waiting = [client for client in clients if client.is_waiting]
                if not waiting:
                    return False
                oldest = min(waiting, key=lambda client: client.waiting_since)
                self._clients.discard(oldest)
                oldest.drop()
        return True

    async def _serve(self, client: Client, connection: socket.socket) -> None:
        """Hands the connection to the protocol, which calls back when it is lost."""
        protocol = self._make_protocol()
        protocol.on_lost = lambda: self._clients.discard(client)
        handshake_timeout = None if self._ssl is None else REQUEST_TIMEOUT_S
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol, connection, ssl=self._ssl, ssl_handshake_timeout=handshake_timeout
            )
            client.protocol = protocol
        except OSError:  # TLS failed, or took too long
            log.debug("a connection has ended before its first request", exc_info=True)

    def _close_unserved(self, client: Client, connection: socket.socket, _: asyncio.Task[None]) -> None:
        if client.protocol is None:
            self._clients.discard(client)
            connection.close()
