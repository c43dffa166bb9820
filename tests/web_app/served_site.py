"""A static server for a site on a free port of this machine, for Chromium to visit."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

POLICY = re.compile(r'http-equiv="Content-Security-Policy" content="([^"]+)"')


@contextmanager
def serving(site: Path, port: int = 0) -> Iterator[str]:
    """Yields the address of the site. The page's policy goes into a header, so that it holds for its workers as well."""
    found = POLICY.search((site / "index.html").read_text())
    assert found is not None
    policy = found[1]

    class Handler(SimpleHTTPRequestHandler):
        extensions_map = {  # noqa: RUF012
            ".html": "text/html",
            ".js": "text/javascript",
            ".mjs": "text/javascript",
            ".css": "text/css",
            ".json": "application/json",
            ".wasm": "application/wasm",
            ".svg": "image/svg+xml",
            ".webmanifest": "application/manifest+json",
            "": "application/octet-stream",
        }

        def end_headers(self) -> None:
            self.send_header("Content-Security-Policy", policy)
            super().end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Passes over a browser that ends in the middle of a download."""

    with Server(("127.0.0.1", port), partial(Handler, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
