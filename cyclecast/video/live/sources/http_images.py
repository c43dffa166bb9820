"""JPEG images over HTTP, as IP cameras send them: a stream of them in one answer (MJPEG), or one image for each request.

FFmpeg reads MJPEG too, but rejects what ESP32 boards and Tasmota send, whose first image has no boundary before it, and waits for
ever for a boundary after a line that ends in LF alone. Here only the images themselves count: where each begins and ends.
"""

from __future__ import annotations

import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import IO, Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import cv2
import numpy as np

from cyclecast.errors import InputError
from cyclecast.video.frame import Image
from cyclecast.video.live.sources.relay import guard
from cyclecast.video.live.sources.source import PendingFrame

MAX_JPEG_BYTES = 64 << 20
CHUNK_BYTES = 1 << 16
SNAPSHOT_FPS = 1.0  # requests per second, unless the user asks for another rate
MAX_FAILED_SNAPSHOTS = 3  # in a row
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # of JPEG; in compressed data, FF is followed by 00 or D0 to D7
START, END, SCAN = 0xD8, 0xD9, 0xDA  # markers: start and end of an image, start of compressed data


class Answer:
    """The open answer to a GET request. OSError, ValueError or HTTPException if there is none within `timeout` seconds.

    Its body may be silent for as long as it likes: whoever captures a source ends the process when it is silent for too long.
    """

    def __init__(self, address: str, timeout: float) -> None:
        parts = urlsplit(address)
        self._response: Any = _opener(address).open(_without_user(parts), timeout=timeout)
        connection = getattr(getattr(self._response.fp, "raw", None), "_sock", None)
        if connection is not None:
            connection.settimeout(None)
        headers = self._response.headers
        self.content_type: str = headers.get_content_type() if "Content-Type" in headers else ""
        is_playlist = parts.path.lower().endswith((".m3u8", ".mpd"))
        self.is_endless_video = self._response.length is None and not is_playlist and is_video_type(self.content_type)
        """Whether it may be a video and does not say how long it is."""

    @property
    def is_jpeg_stream(self) -> bool:
        """Returns whether it is MJPEG."""
        return self.content_type.startswith("multipart/")

    @property
    def is_jpeg(self) -> bool:
        """Returns whether it is a single image."""
        return self.content_type == "image/jpeg"

    def read(self, size: int) -> bytes:
        """Returns what has arrived, at most `size` bytes; waits for at least one. Empty at the end."""
        return bytes(self._response.read1(size))

    def chunks(self) -> Iterator[bytes]:
        """Yields the body as it arrives."""
        while chunk := self.read(CHUNK_BYTES):
            yield chunk

    def close(self) -> None:
        """Closes the connection."""
        self._response.close()


def is_video_type(content_type: str) -> bool:
    """Returns whether senders use this Content-Type for videos; it is empty if they state none."""
    return content_type in ("", "application/octet-stream") or content_type.startswith("video/")


def request(address: str, timeout: float) -> Answer | None:
    """Requests the address. Returns None if it is not HTTP, or if that fails: FFmpeg, which tries it next, reports why."""
    try:
        return Answer(address, timeout) if urlsplit(address).scheme.lower() in ("http", "https") else None
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        return None
    except (OSError, ValueError, http.client.HTTPException):
        return None


def streamed_jpegs(answer: Answer, name: str) -> Iterator[tuple[float, bytes]]:
    """Yields (`time.perf_counter()` when its end arrived, JPEG file) for each image.

    Raises InputError when the stream ends or breaks.
    """
    try:
        for data in split_jpegs(answer.chunks()):
            yield time.perf_counter(), data
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{name}: the connection is lost ({error or type(error).__name__})") from error
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error
    finally:
        answer.close()
    raise InputError(f"{name}: the stream has ended")


def repeated_jpegs(first: Answer, again: Callable[[], Answer], fps: float | None, name: str) -> Iterator[tuple[float, bytes]]:
    """Yields what `streamed_jpegs` does, from an address that returns one image. again: requests it another time.

    Raises InputError if that fails several times in a row, or if an image is too large.
    """
    interval, failed, due = 1 / (fps or SNAPSHOT_FPS), 0, time.perf_counter()
    answer: Answer | None = first
    while True:
        try:
            data = _read_image(answer or again())
        except ValueError as error:
            raise InputError(f"{name}: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it holds the connection
            failed += 1
            if failed == MAX_FAILED_SNAPSHOTS:
                raise InputError(f"{name}: the image can no longer be fetched ({error or type(error).__name__})") from error
        else:
            failed = 0
            yield time.perf_counter(), data
        answer, due = None, max(due + interval, time.perf_counter())
        time.sleep(max(0.0, due - time.perf_counter()))


def _read_image(answer: Answer) -> bytes:
    """Reads the whole body and closes the connection. Raises ValueError if it is longer than an image may be."""
    data = bytearray()
    with closing(answer):
        for chunk in answer.chunks():
            data += chunk
            if len(data) > MAX_JPEG_BYTES:
                raise ValueError(f"an image is longer than {MAX_JPEG_BYTES >> 20} MiB")
    return bytes(data)


def pending_jpegs(jpegs: Iterator[tuple[float, bytes]], name: str) -> Iterator[PendingFrame]:
    """Yields the images as frames that are decoded only when they are used."""
    for at, data in jpegs:
        yield PendingFrame(at, partial(decode_jpeg, data, name))


def decode_jpeg(data: bytes, name: str) -> Image:
    """Decodes an image to (H, W, 3) uint8 BGR. Raises InputError if it is damaged."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:
        raise InputError(f"{name}: an image cannot be decoded ({' '.join(str(error).split())})") from error
    if image is None:
        raise InputError(f"{name}: an image cannot be decoded")
    return np.asarray(image, np.uint8)


def split_jpegs(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yields the JPEG files of a stream in any packaging; skips whatever stands between them.

    Raises ValueError if one is too long.
    """
    buffer = bytearray()
    scanner = _Scanner()
    for chunk in chunks:
        buffer += chunk
        while (found := scanner.find(buffer)) is not None:
            begin, end = found
            if end > begin:
                yield bytes(buffer[begin:end])
            del buffer[:end]
            scanner = _Scanner()
        if len(buffer) > MAX_JPEG_BYTES:
            raise ValueError(f"an image is longer than {MAX_JPEG_BYTES >> 20} MiB")


class _Scanner:
    """Finds the next image in a buffer that grows at its end, and looks at no byte twice."""

    def __init__(self) -> None:
        self._begin: int | None = None
        self._at = 0
        self._is_in_scan = False  # in compressed data, where segments have no length

    def find(self, buffer: bytearray) -> tuple[int, int] | None:
        """Finds the image's (begin, end); end = begin: there is nothing but waste before it. None if more bytes are needed."""
        if self._begin is None:
            found = buffer.find(b"\xff\xd8\xff", self._at)
            if found < 0:
                self._at = max(0, len(buffer) - 2)
                return None
            if found > 0:
                return found, found
            self._begin, self._at = 0, 2
        while True:
            if self._is_in_scan:
                match = MARKER.search(buffer, self._at)
                if match is None:
                    self._at = max(self._at, len(buffer) - 1)
                    return None
                self._at, self._is_in_scan = match.start(), False
            if len(buffer) < self._at + 4 and buffer[self._at + 1 : self._at + 2] != bytes([END]):
                return None
            marker = buffer[self._at + 1]
            if marker == 0xFF:  # a fill byte
                self._at += 1
                continue
            if buffer[self._at] != 0xFF or marker == START:  # it is torn: what follows may be another image
                return self._at, self._at
            if marker == END:
                return 0, self._at + 2
            length = int.from_bytes(buffer[self._at + 2 : self._at + 4], "big")
            self._at, self._is_in_scan = self._at + 2 + length, marker == SCAN


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects on the same host only: no server may send us, or a password, to another."""

    def redirect_request(
        self, request: urllib.request.Request, file: IO[bytes], code: int, message: str, headers: Any, url: str
    ) -> urllib.request.Request | None:
        if urlsplit(url).hostname != urlsplit(request.full_url).hostname:
            return None
        return super().redirect_request(request, file, code, message, headers, url)


def _opener(address: str) -> urllib.request.OpenerDirector:
    """Returns what sends user and password of the address, through the relay or the user's own proxy, as FFmpeg does.

    Checks no certificate, as FFmpeg does not: cameras sign their own.
    """
    parts, proxy = urlsplit(address), guard(address)[1].get("http_proxy")
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    proxies = urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else None)  # None: the environment's
    handlers: list[Any] = [proxies, _SameHost()]
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
        passwords.add_password(None, _without_user(parts), user, password, is_authenticated=True)
        handlers += [urllib.request.HTTPBasicAuthHandler(passwords), urllib.request.HTTPDigestAuthHandler(passwords)]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return urllib.request.build_opener(*handlers, urllib.request.HTTPSHandler(context=context))


def _without_user(parts: SplitResult) -> str:
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
