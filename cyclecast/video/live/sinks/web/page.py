"""The web page as a sink: a server in a thread of its own, handed the newest picture."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from cyclecast.errors import OutputError
from cyclecast.video.live.capture.push_feed import PushFeed
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.sinks.web.address import WebAddress, listen, read_address
from cyclecast.video.live.sinks.web.app import build_app
from cyclecast.video.live.sinks.web.guard import Guard
from cyclecast.video.live.sinks.web.viewers import Viewers
from cyclecast.video.live.sinks.web.webrtc import Peers
from cyclecast.video.live.styling.styled_frame import StyledFrame

CONNECTIONS = 128  # at a time
LAST_ANSWERS = 1  # seconds for what is being answered when the run ends
CLOSING = 6.0  # seconds for the whole end


class WebPage:
    """Serves the live picture: `web`, `web://HOST:PORT`, see `address`. OutputError or ConfigError in one line if it cannot."""

    in_main_thread = False

    def __init__(self, address: str, controls: SessionControls) -> None:
        self._address, self._controls = read_address(address), controls
        check_certificate(self._address)
        listening = listen(self._address)
        self._port = listening.getsockname()[1]
        plain = self._address.url(self._port)
        self.name = f"web page {plain}"
        self.url = plain if self._address.token is None else f"{plain}?token={self._address.token}"
        """What to open in a browser, the token included."""
        self._viewers = Viewers()
        self._newest: StyledFrame | None = None
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(listening,), name="web page", daemon=True)
        self._thread.start()
        self._ready.wait()
        self._tell()

    def _tell(self) -> None:
        secret = " with your token behind it: ?token=..." if self._address.given else ""
        self._controls.report(f"web page: {self._address.url(self._port)}{secret}" if secret else f"web page: {self.url}")
        if isinstance(self._controls.feed, PushFeed) and not self._address.loopback and self._address.cert is None:
            self._controls.report("browsers give a camera away over https only: --sink 'web://HOST:PORT?cert=FILE&key=FILE'")

    def show(self, shown: StyledFrame) -> None:
        """Hands the picture over; one that was not fetched yet is forgotten. OutputError if the server has ended."""
        with self._lock:
            waiting, self._newest = self._newest is not None, shown
        if not waiting:
            self._call(self._fetch)

    def _fetch(self) -> None:
        with self._lock:
            shown, self._newest = self._newest, None
        if shown is not None:
            self._viewers.put(shown)

    def idle(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Says goodbye to who is watching, and ends the server and its thread."""
        with suppress(OutputError):
            assert self._ended is not None
            self._call(self._ended.set)
        self._thread.join(CLOSING)

    def _call(self, function: Callable[[], None]) -> None:
        """In the server's thread, soon."""
        try:
            if self._loop is None:
                raise RuntimeError(self._failure)
            self._loop.call_soon_threadsafe(function)
        except RuntimeError as error:
            raise OutputError(f"{self.name}: its server has ended ({self._failure or error})") from error

    def _work(self, listening: socket.socket) -> None:
        """The thread."""
        for name in ("aioice", "aiortc"):  # what goes wrong with a connection is for the page to say
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            asyncio.run(self._serve(listening))
        except BaseException as error:
            self._failure = error
        finally:
            listening.close()
            self._ready.set()

    async def _serve(self, listening: socket.socket) -> None:
        peers = Peers(self._viewers)
        address = self._address
        config = uvicorn.Config(
            Guard(build_app(self._controls, self._viewers, peers), address, self._port),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=LAST_ANSWERS,
            ssl_certfile=address.cert,
            ssl_keyfile=address.key,
        )
        server = uvicorn.Server(config)
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        serving, ended = asyncio.ensure_future(server.serve([listening])), asyncio.ensure_future(self._ended.wait())
        self._ready.set()
        await asyncio.wait({serving, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        self._viewers.end()
        await peers.close()
        server.should_exit = True
        await serving


def check_certificate(address: WebAddress) -> None:
    """OutputError in one line if https was asked for and its files do not serve."""
    if address.cert is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(address.cert, address.key)
    except (OSError, ssl.SSLError) as error:
        raise OutputError(f"{address.cert} and {address.key} are no certificate and its key: {error}") from error
