"""Who may ask what: every request passes here, before anything of it is carried out."""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cyclecast.video.live.sinks.web.address import WebAddress, is_loopback

READING = ("GET", "HEAD")
LARGEST_BODY = 64 * 1024  # bytes: an offer is some 10 KiB
OPEN = "/healthz"  # tells nothing, so that whoever watches the process needs no token
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

Refusal = tuple[int, str]
"""A status of HTTP, and why, in one line."""


class Guard:
    """ASGI around an app: refuses what is not from our page or from who knows the token; adds headers to what is let through.

    On a loopback address the Host must name this machine, or a site whose name was bent to 127.0.0.1 could read the picture
    (DNS rebinding). Everywhere else the token protects: it comes once in the address, then in a cookie. What changes something
    must come from the page itself, by its Origin.
    """

    def __init__(self, app: ASGIApp, address: WebAddress, port: int) -> None:
        self._app, self._address = app, address
        self._cookie = f"cyclecast-{port}"  # cookies know no ports: two runs on a machine have one each

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        query = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
        refusal = self._refusal(scope, headers, query)
        invited = refusal is None and scope["path"] == "/" and self._is_token(query)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    out.setdefault(name, value)
                if invited:
                    out.append("Set-Cookie", self._set_cookie())
            await send(message)

        if refusal is None:
            await self._app(scope, receive, guarded)
        else:
            status, why = refusal
            await JSONResponse({"error": why}, status)(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: Headers, query: str) -> Refusal | None:
        host = headers.get("host", "")
        if self._address.loopback and not is_loopback(name_of(host)):
            return 403, f"this page is for this machine alone, and {host[:80]!r} is no name of it"
        if self._address.token is not None and scope["path"] != OPEN and not self._knows(headers, query):
            return 401, "this page needs its token: open the whole address that cyclecast printed"
        reading = scope["method"] in READING
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not (reading and scope["path"] == "/"):
            return 403, "another site asks for this; only the page itself may"
        if reading:
            return None
        origin = headers.get("origin")
        if origin != f"{self._address.scheme}://{host}":
            return 403, f"only the page itself may do this; the Origin is {(origin or 'missing')[:80]}"
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return 411, "the length of the body is missing"
        return (413, f"more than {LARGEST_BODY} bytes") if int(length[:12]) > LARGEST_BODY else None

    def _knows(self, headers: Headers, query: str) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        return (
            self._is_token(cookie_of(headers.get("cookie", ""), self._cookie))
            or self._is_token(query)
            or (scheme.lower() == "bearer" and self._is_token(bearer.strip()))
        )

    def _is_token(self, given: str) -> bool:
        token = self._address.token
        return token is not None and secrets.compare_digest(given.encode(), token.encode())

    def _set_cookie(self) -> str:
        secure = "; Secure" if self._address.scheme == "https" else ""
        return f"{self._cookie}={self._address.token}; Path=/; HttpOnly; SameSite=Strict{secure}"


def name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def cookie_of(header: str, name: str) -> str:
    """A cookie's value; empty if it is not there."""
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value
