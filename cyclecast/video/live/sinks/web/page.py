"""The web page as a sink: a server in its own thread, which receives the newest frame."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import uvicorn

from cyclecast.errors import OutputError
from cyclecast.video.live.capture.source_switcher import browser_feed
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.sinks.web.address import WebAddress, listen, parse_address
from cyclecast.video.live.sinks.web.app import build_app
from cyclecast.video.live.sinks.web.connections import Connections, PageProtocol
from cyclecast.video.live.sinks.web.guard import EntryCode, Guard
from cyclecast.video.live.sinks.web.start_screen import StartScreen
from cyclecast.video.live.sinks.web.viewers import Viewers
from cyclecast.video.live.sinks.web.webrtc import PeerConnections
from cyclecast.video.live.sinks.web_options import WebOptions
from cyclecast.video.live.styling.styled_frame import StyledFrame

GRACEFUL_SHUTDOWN_S = 1  # for open requests when the run ends
CLOSE_TIMEOUT_S = 6.0  # for the whole shutdown

log = logging.getLogger(__name__)


class WebPage:
    """Serves the live video: `web`, `web://HOST:PORT`, see `address`. Raises OutputError or ConfigError if that fails.

    screen: for a run whose source the page chooses. Then the page needs a token on this machine too, because it opens files of
    this user; `entry_url` admits one browser without showing the token in the list of processes.
    """

    def __init__(
        self, address: str, controls: SessionControls, options: WebOptions | None = None, *, screen: StartScreen | None = None
    ) -> None:
        self._address, self._controls, self._screen = parse_address(address), controls, screen
        self._options = options or WebOptions()
        if screen is not None and self._address.token is None:
            self._address = replace(self._address, token=secrets.token_urlsafe(16))
        self._entry = EntryCode() if screen is not None else None
        check_certificate(self._address)
        listening = listen(self._address)
        self._port = listening.getsockname()[1]
        url = self._address.url(self._port)
        self.name = f"web page {url}"
        self.url = url if self._address.token is None else f"{url}?token={self._address.token}"
        """What to open in a browser, including the token."""
        self.entry_url = url if self._entry is None else f"{url}?token={self._entry.code}"
        """What to pass to a browser as an argument: it works once."""
        self._viewers = Viewers(self._options.max_viewers)
        self._newest: StyledFrame | None = None
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listening,), name="web page", daemon=True)
        self._thread.start()
        self._ready.wait()
        self._report_url()

    def _report_url(self) -> None:
        """Prints the address; a token that the user chose stays out of the terminal."""
        if self._address.is_token_chosen:
            self._controls.report(f"web page: {self._address.url(self._port)}?token=... with your token")
        else:
            self._controls.report(f"web page: {self.url}")
        is_secure = self._address.is_loopback or self._address.url(self._port).startswith("https:")
        if browser_feed(self._controls.feed) is not None and not is_secure:
            self._controls.report("browsers allow the camera over https only; type --sink 'web://HOST:PORT?cert=FILE&key=FILE'")

    def show(self, frame: StyledFrame) -> None:
        """Hands over a frame; replaces one that the server has not fetched yet. Raises OutputError if the server has ended."""
        with self._lock:
            is_fetch_due, self._newest = self._newest is None, frame
        if is_fetch_due:
            self._call(self._fetch)

    def _fetch(self) -> None:
        with self._lock:
            frame, self._newest = self._newest, None
        if frame is not None:
            self._viewers.put(frame)

    def idle(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Disconnects the viewers and ends the server and its thread."""
        with suppress(OutputError):
            assert self._closing is not None
            self._call(self._closing.set)
        self._thread.join(CLOSE_TIMEOUT_S)

    def _call(self, function: Callable[[], None]) -> None:
        """Runs a function soon in the server's thread."""
        try:
            if self._loop is None:
                raise RuntimeError(self._failure)
            self._loop.call_soon_threadsafe(function)
        except RuntimeError as error:
            raise OutputError(f"{self.name}: its server has ended ({self._failure or error})") from error

    def _run(self, listening: socket.socket) -> None:
        """Runs in the server's thread: serves the page until it is closed."""
        for name in ("aioice", "aiortc"):  # the page itself reports failed connections
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            asyncio.run(self._serve(listening))
        except BaseException as error:
            log.exception("the web page's server has ended")
            self._failure = error
        finally:
            listening.close()
            self._ready.set()

    async def _serve(self, listening: socket.socket) -> None:
        peers = PeerConnections(self._viewers, self._options)
        address = self._address
        config = uvicorn.Config(
            Guard(build_app(self._controls, self._viewers, peers, self._options, self._screen), address, self._port, self._entry),
            loop="asyncio",
            http=PageProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
            ssl_certfile=address.cert,
            ssl_keyfile=address.key,
        )
        config.load()
        server = uvicorn.Server(config)
        connections = Connections(
            listening, lambda: PageProtocol(config, server.server_state, {}), config.ssl, self._controls.report
        )
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        # Uvicorn gets no socket: asyncio, with which it accepts, logs a traceback for each attempt that fails.
        serving, closing = asyncio.ensure_future(server.serve([])), asyncio.ensure_future(self._closing.wait())
        accepting = asyncio.ensure_future(connections.accept())
        self._ready.set()
        await asyncio.wait({serving, accepting, closing}, return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        accepting.cancel()
        self._viewers.close()
        await peers.close()
        server.should_exit = True
        await serving


def check_certificate(address: WebAddress) -> None:
    """Raises OutputError if the address names a certificate and a key that do not load."""
    if address.cert is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(address.cert, address.key)
    except (OSError, ssl.SSLError) as error:
        raise OutputError(f"{address.cert} and {address.key} are not a certificate and its key in PEM: {error}") from error
