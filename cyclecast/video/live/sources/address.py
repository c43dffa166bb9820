"""What an address of a live source means, and how it may be printed."""

from __future__ import annotations

import os
import re
import stat
from urllib.request import url2pathname

CAMERA = re.compile(r"\d+|/dev/video\d+")
INHERITED = re.compile(r"/dev/fd/(\d+)|/dev/stdin|-")  # what a shell has opened for this process
OPENED = re.compile(r"/proc/\d+/fd/\d+")  # the same for another process; Linux only
OWN = ("screen", "pattern", "csi", "file")  # schemes that are no protocols
HOST = re.compile(r"[^@:/]*(:\d+)?|\[[^@/]*\](:\d+)?")  # and its port
SECRETS = re.compile(r"(?i)((?:pass|pwd|token|secret|user|login|auth|[a-z]*key)\w*?=)[^&?]+")  # cheap cameras take them so


def source_kind(address: str) -> str:
    """camera, csi, stream, screen, pattern or file. A path that is a named pipe is a stream."""
    if CAMERA.fullmatch(address):
        return "camera"
    scheme = scheme_of(address)
    if address == "screen":
        return "screen"
    if scheme in ("", "file"):
        return "stream" if is_pipe(address) else "file"
    return scheme if scheme in OWN else "stream"


def scheme_of(address: str) -> str:
    """rtsp, http …, in small letters; empty for a path."""
    return address.partition("://")[0].lower() if "://" in address else ""


def path_of(address: str) -> str:
    """The path of a file, be it written as one or as file://…"""
    return url2pathname(address[len("file://") :]) if scheme_of(address) == "file" else address


def is_pipe(address: str) -> bool:
    """A pipe with a name, or one that a shell has opened."""
    try:
        return stat.S_ISFIFO(os.stat(path_of(address)).st_mode)
    except (OSError, ValueError):
        return False


def for_another_process(address: str) -> str:
    """The address under which a process that this one starts finds what a shell has opened: /dev/fd/63, -."""
    match = INHERITED.fullmatch(address)
    return f"/proc/{os.getpid()}/fd/{match[1] or 0}" if match and os.path.isdir("/proc/self/fd") else address


def shown_address(address: str) -> str:
    """An address as it may be printed: that of a stream without users and passwords, in front of the host or among its values."""
    if CAMERA.fullmatch(address):
        return f"camera {address}"
    scheme = scheme_of(address)
    if not scheme or scheme in OWN:
        return address
    before, question, values = address[len(scheme) + 3 :].partition("?")
    user, at, rest = before.rpartition("@")
    if at and not ("/" in user and HOST.fullmatch(user.partition("/")[0])):  # else it is in the path
        before = rest
    elif "@" in values and not HOST.fullmatch(before.partition("/")[0]):  # a password with a question mark
        before, question, values = values.rpartition("@")[2], "", ""
    return SECRETS.sub(r"\1***", f"{scheme}://{before}{question}{values}")
