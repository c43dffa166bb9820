"""Access control of the page's server: checks every request before the app sees it."""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cyclecast.video.live.sinks.web.address import WebAddress, is_loopback
from cyclecast.video.live.sinks.web.assets import content_security_policy, inlined_page

SAFE_METHODS = ("GET", "HEAD")
MAX_BODY_BYTES = 64 * 1024  # a WebRTC offer has about 10 KiB
COOKIE_AGE_S = 365 * 24 * 3600
PUBLIC_PATH = "/healthz"  # reveals nothing, so that monitoring needs no token
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Rejection(NamedTuple):
    """The response to a request that is not let through."""

    status: int
    reason: str
    """One line."""


TOO_LONG = Rejection(413, f"the body is longer than {MAX_BODY_BYTES} bytes")


class EntryCode:
    """A code that stands for the token once: the command line of a browser, which shows it, is no secret."""

    def __init__(self) -> None:
        self.code = secrets.token_urlsafe(16)
        self._is_used = False

    def is_valid(self, code: str) -> bool:
        """Returns whether this is the code and it was not used."""
        return not self._is_used and secrets.compare_digest(code.encode(), self.code.encode())

    def use(self) -> None:
        """Makes the code invalid."""
        self._is_used = True


class Guard:
    """ASGI middleware: rejects requests from other sites and without the token, and adds security headers to the rest.

    On a loopback address, the Host must name this machine; otherwise a site whose name resolves to 127.0.0.1 could read the
    video (DNS rebinding). Everywhere else the token protects: the client sends it once in the URL, then in a cookie. Requests
    that change something must come from the page itself, by their Origin, which behind a proxy is the proxy's.
    """

    def __init__(self, app: ASGIApp, address: WebAddress, port: int, entry: EntryCode | None = None) -> None:
        self._app, self._address, self._entry = app, address, entry
        self._token_page = inlined_page("token.html")
        self._cookie_name = f"cyclecast-{port}"  # cookies ignore ports: two runs on one machine need two names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles HTTP requests and ignores everything else."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        query_token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
        rejection = self._check(scope, headers, query_token)
        is_entry = self._is_entry(scope, query_token)
        sets_cookie = rejection is None and scope["path"] == "/" and (is_entry or self._is_token(query_token))
        if is_entry and rejection is None and self._entry is not None:
            self._entry.use()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                response_headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    response_headers.setdefault(name, value)
                if sets_cookie:
                    response_headers.append("Set-Cookie", self._token_cookie(headers.get("host", "")))
            await send(message)

        body = b""
        if rejection is None and scope["method"] not in SAFE_METHODS:
            try:
                body = await read_body(receive)
            except ClientDisconnect:
                return
            if len(body) > MAX_BODY_BYTES:
                rejection = TOO_LONG
        if rejection is None:
            await self._app(scope, with_body(body, receive), send_with_headers)
        else:
            await self._answer(rejection, scope, headers, bool(query_token))(scope, receive, send_with_headers)

    def _answer(self, rejection: Rejection, scope: Scope, headers: Headers, is_wrong_token: bool) -> Response:
        """Answers programs with JSON, and a person who opens the page without its token with a page that asks for it."""
        is_person = scope["method"] == "GET" and scope["path"] == "/" and "text/html" in headers.get("accept", "")
        if rejection.status == 401 and is_person:
            page = self._token_page.replace(' role="alert" hidden', ' role="alert"') if is_wrong_token else self._token_page
            return HTMLResponse(page, 401, {"Content-Security-Policy": content_security_policy(page)})
        return JSONResponse({"error": rejection.reason}, rejection.status)

    def _check(self, scope: Scope, headers: Headers, query_token: str) -> Rejection | None:
        """Returns why the request is rejected; None if it may pass."""
        host = headers.get("host", "")
        if self._address.is_loopback and not is_loopback(host_name(host)) and not self._is_proxy(host):
            return Rejection(
                403, f"this page is for this machine only, and {host[:80]!r} does not name it; open http://localhost"
            )
        if (
            self._address.token is not None
            and scope["path"] != PUBLIC_PATH
            and not (self._has_token(headers, query_token) or self._is_entry(scope, query_token))
        ):
            return Rejection(401, "this page needs its token: open the whole address that cyclecast printed")
        is_safe = scope["method"] in SAFE_METHODS
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not (is_safe and scope["path"] == "/"):
            return Rejection(403, "requests from another site are rejected")
        if is_safe:
            return None
        origin = headers.get("origin")
        if origin is None or origin not in (f"{self._address.scheme}://{host}", self._address.origin):
            return Rejection(403, f"only the page itself may do this; the Origin is {(origin or 'missing')[:80]}")
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return Rejection(411, "the header Content-Length is missing")
        if "transfer-encoding" in headers:
            return Rejection(411, "a Content-Length excludes a Transfer-Encoding; leave that out")
        return TOO_LONG if int(length) > MAX_BODY_BYTES else None

    def _is_proxy(self, host: str) -> bool:
        """Returns whether this Host header names the proxy in front of the page."""
        return self._address.origin is not None and host.lower() == self._address.origin.partition("://")[2]

    def _has_token(self, headers: Headers, query_token: str) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        return (
            self._is_token(cookie_value(headers.get("cookie", ""), self._cookie_name))
            or self._is_token(query_token)
            or (scheme.lower() == "bearer" and self._is_token(bearer.strip()))
        )

    def _is_entry(self, scope: Scope, query_token: str) -> bool:
        """Returns whether a request for the page has the code that stands for the token once."""
        is_page = scope["path"] == "/" and scope["method"] == "GET"
        return self._entry is not None and is_page and self._entry.is_valid(query_token)

    def _is_token(self, value: str) -> bool:
        token = self._address.token
        return token is not None and secrets.compare_digest(value.encode(), token.encode())

    def _token_cookie(self, host: str) -> str:
        """Returns a cookie for the page's own path; behind a proxy that hides its Host, for all paths. It survives restarts."""
        is_proxy = self._is_proxy(host)
        scheme = (self._address.origin or "").partition(":")[0] if is_proxy else self._address.scheme
        path, secure = self._address.path if is_proxy else "/", "; Secure" if scheme == "https" else ""
        return (
            f"{self._cookie_name}={self._address.token}; Path={path}; Max-Age={COOKIE_AGE_S}; HttpOnly; SameSite=Strict{secure}"
        )


async def read_body(receive: Receive) -> bytes:
    """Returns the body; if it is too long, a little more than `MAX_BODY_BYTES`. Raises ClientDisconnect if the client leaves.

    Counts the bytes that arrive: the header may state another length.
    """
    body, is_complete = b"", False
    while not is_complete and len(body) <= MAX_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        is_complete = not message.get("more_body", False)
    return body


def with_body(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that returns the body first, as one message."""
    is_read = False

    async def receive_again() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def host_name(host: str) -> str:
    """Returns a Host header without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def cookie_value(header: str, name: str) -> str:
    """Returns the value of a cookie; an empty string if it is missing."""
    try:
        cookie = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return "" if cookie is None else cookie.value
