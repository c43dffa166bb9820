"""Transfers one file into memory, over https or from the disk, with limits of size and time. Standard library only."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cyclecast._version import __version__
from cyclecast.errors import ConfigError, FetchError, InputError
from cyclecast.files import check_source
from cyclecast.runtime.remote.address import check_redirect, is_loopback

SILENCE_SECONDS = 30.0  # without a byte from the server
TOTAL_SECONDS = 900.0  # for the whole file: 64 MiB at 0.6 Mbit/s
CHUNK = 1 << 16  # bytes
MOST_REDIRECTS = 5

OnProgress = Callable[[int, int | None], None]  # (bytes so far, of so many or None)


class Unreachable(FetchError):
    """The server cannot be reached."""


def transfer(url: str, address: str, most_bytes: int, how_to_raise: str, on_progress: OnProgress | None = None) -> bytes:
    """Returns the content of a URL that `check_transport` accepts. address: its name in messages.

    most_bytes: the largest size; how_to_raise: what to do if the file is larger, for the message. Raises FetchError, in one line.
    """
    if urlsplit(url).scheme == "file":
        return _read_file(Path(url2pathname(urlsplit(url).path)), address, most_bytes, how_to_raise)
    try:
        with _opener(url, address).open(_request(url), timeout=SILENCE_SECONDS) as response:
            return _read_response(response, address, most_bytes, how_to_raise, on_progress or (lambda done, total: None))
    except FetchError:
        raise
    except ConfigError as error:  # a redirect
        raise FetchError(str(error)) from error
    except urllib.error.HTTPError as error:
        error.close()
        hint = "; expected a public repository that holds this file" if address.startswith("hf:") and error.code < 500 else ""
        raise FetchError(f"{address}: cannot be fetched: the server answers {error.code} ({error.reason}){hint}") from error
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or error.reason
        raise Unreachable(f"{address}: cannot be fetched ({reason})") from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise FetchError(f"{address}: the transfer failed ({error or type(error).__name__}); try again") from error


def _request(url: str) -> urllib.request.Request:
    return urllib.request.Request(url, headers={"User-Agent": f"cyclecast/{__version__}", "Accept-Encoding": "identity"})


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, to https only; on this machine also to http on this machine."""

    max_redirections = MOST_REDIRECTS

    def __init__(self, address: str, is_local: bool) -> None:
        self._address, self._is_local = address, is_local

    def redirect_request(  # type: ignore[no-untyped-def]
        self, req: urllib.request.Request, fp, code: int, msg: str, headers, newurl: str
    ) -> urllib.request.Request:
        fp.close()
        check_redirect(newurl, self._address, self._is_local)
        return _request(newurl)

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # Python 3.10 does not know it


def _opener(url: str, address: str) -> urllib.request.OpenerDirector:
    """Returns an opener without the transports that urllib adds: ftp, data and files, to which a redirect could lead."""
    is_local = is_loopback(urlsplit(url).hostname or "")
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler({} if is_local else None),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(address, is_local),
    ):
        opener.add_handler(handler)
    return opener


def _read_response(
    response: http.client.HTTPResponse, address: str, most_bytes: int, how_to_raise: str, on_progress: OnProgress
) -> bytes:
    length = response.headers.get("Content-Length", "")
    total = int(length) if re.fullmatch("[0-9]{1,18}", length) else None  # `int` refuses what `isdigit` accepts, such as "²"
    if total is not None and total > most_bytes:
        raise _too_large(address, most_bytes, how_to_raise)
    content, end = bytearray(), time.monotonic() + TOTAL_SECONDS
    on_progress(0, total)
    while chunk := response.read1(CHUNK):
        content += chunk
        if len(content) > most_bytes:
            raise _too_large(address, most_bytes, how_to_raise)
        if time.monotonic() > end:
            raise FetchError(f"{address}: took longer than {TOTAL_SECONDS / 60:.0f} minutes; try again")
        on_progress(len(content), total)
    if total is not None and len(content) != total:
        raise FetchError(f"{address}: the transfer ended after {len(content)} of {total} bytes; try again")
    return bytes(content)


def _read_file(path: Path, address: str, most_bytes: int, how_to_raise: str) -> bytes:
    try:
        check_source(path)
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except (OSError, InputError) as error:
        reason = getattr(error, "strerror", None) or str(error).removeprefix(f"{path}: ")
        raise FetchError(f"{address}: cannot be fetched ({reason})") from error
    if len(content) > most_bytes:
        raise _too_large(address, most_bytes, how_to_raise)
    return content


def _too_large(address: str, most_bytes: int, how_to_raise: str) -> FetchError:
    return FetchError(f"{address}: larger than {most_bytes / 2**20:g} MiB; {how_to_raise}")
