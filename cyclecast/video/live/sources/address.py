"""Addresses of live sources: which type they name, and how to print them without passwords."""

from __future__ import annotations

import os
import re
import stat
from urllib.request import url2pathname

CAMERA = re.compile(r"\d+|/dev/video\d+")
SHELL_PIPE = re.compile(r"/dev/fd/(\d+)|/dev/stdin|-")  # a pipe that the shell opened for this process
PROC_PIPE = re.compile(r"/proc/\d+/fd/\d+")  # the same pipe, seen from another process; Linux only
LOCAL_SCHEMES = ("screen", "pattern", "csi", "file")  # schemes that are not network protocols
PLAIN_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]*)(:\d+)?", re.ASCII)
HOST_AND_PORT = re.compile(r"[^@:/]*(:\d+)?|\[[^@/]*\](:\d+)?")
# Parameters with which inexpensive IP cameras take a login.
SECRET_PARAMETERS = re.compile(r"(?i)((?:pass|pwd|token|secret|user|login|auth|[a-z]*key)\w*?=)[^&?]+")


def source_type(address: str) -> str:
    """Returns camera, csi, stream, screen, pattern or file. A path to a named pipe is a stream."""
    if CAMERA.fullmatch(address):
        return "camera"
    if address == "screen":
        return "screen"
    scheme = url_scheme(address)
    if scheme in ("", "file"):
        return "stream" if is_pipe(address) else "file"
    return scheme if scheme in LOCAL_SCHEMES else "stream"


def url_scheme(address: str) -> str:
    """Returns the scheme in lower case (rtsp, http, …), or an empty string for a path."""
    return address.partition("://")[0].lower() if "://" in address else ""


def file_path(address: str) -> str:
    """Returns the path of a file that is written as a path or as file://…"""
    return url2pathname(address[len("file://") :]) if url_scheme(address) == "file" else address


def is_pipe(address: str) -> bool:
    """Whether the address is a named pipe, or a pipe that the shell opened."""
    try:
        return stat.S_ISFIFO(os.stat(file_path(address)).st_mode)
    except (OSError, ValueError):
        return False


def address_for_child(address: str) -> str:
    """Translates a pipe that the shell opened for this process (-, /dev/fd/63) into a path that a child process can open."""
    match = SHELL_PIPE.fullmatch(address)
    return f"/proc/{os.getpid()}/fd/{match[1] or 0}" if match and os.path.isdir("/proc/self/fd") else address


def host_address(address: str) -> str:
    """Returns the address for an error: scheme, host and port alone, as a secret may stand anywhere else; a path as it is."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    netloc = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host = netloc.rpartition("@")[2]
    shown = host if PLAIN_HOST.fullmatch(host) else ""
    return f"{scheme}://{shown}{'' if shown == rest else '/...'}"


def redacted_address(address: str) -> str:
    """Returns the address for printing: without users and passwords, before the host or among the parameters."""
    if CAMERA.fullmatch(address):
        return f"camera {address}"
    scheme = url_scheme(address)
    if not scheme or scheme in LOCAL_SCHEMES:
        return address
    location, question_mark, parameters = address[len(scheme) + 3 :].partition("?")
    user, at_sign, rest = location.rpartition("@")
    is_at_sign_in_path = "/" in user and HOST_AND_PORT.fullmatch(user.partition("/")[0])
    if at_sign and not is_at_sign_in_path:
        location = rest
    elif "@" in parameters and not HOST_AND_PORT.fullmatch(location.partition("/")[0]):  # the password has a question mark
        location, question_mark, parameters = parameters.rpartition("@")[2], "", ""
    return SECRET_PARAMETERS.sub(r"\1***", f"{scheme}://{location}{question_mark}{parameters}")
