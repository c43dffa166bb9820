"""Addresses of live sources: which type they name, and how to print them without passwords."""

from __future__ import annotations

import os
import re
import stat

from cyclecast.video.cameras import is_character_device

CAMERA = re.compile(r"\d+|/dev/(video\d+|v4l/.+)")
CAMERA_NAME = re.compile(r"[^/\\]+")  # of a camera, as the system calls it; a path is none
SHELL_PIPE = re.compile(r"/dev/fd/(\d+)|/dev/stdin|-")  # a pipe that the shell opened for this process
PROC_PIPE = re.compile(r"/proc/\d+/fd/\d+")  # the same pipe, seen from another process; Linux only
LOCAL_SCHEMES = ("screen", "pattern", "csi", "file")  # schemes that are not network protocols
PIPELINE_SCHEME = "gst"  # a pipeline of GStreamer, which may contain passwords
PLAIN_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]*)(:\d+)?", re.ASCII)
HOST_AND_PORT = re.compile(r"[^@:/]*(:\d+)?|\[[^@/]*\](:\d+)?")
HIDDEN = "***"  # instead of a secret
MIN_SECRET_LENGTH = 4  # characters: shorter ones occur in any text


def source_type(address: str) -> str:
    """Returns camera, csi, gst, stream, screen, pattern, file or name. A named pipe is a stream, a character device a camera.

    name: neither an address nor a file, but perhaps a part of a camera's name.
    """
    if is_camera(address):
        return "camera"
    if address == "screen":
        return "screen"
    scheme = url_scheme(address)
    if scheme in ("", "file"):
        is_name = not scheme and CAMERA_NAME.fullmatch(address) and not os.path.lexists(address)
        return "stream" if is_pipe(address) else "name" if is_name else "file"
    return scheme if scheme in (*LOCAL_SCHEMES, PIPELINE_SCHEME) else "stream"


def url_scheme(address: str) -> str:
    """Returns the scheme in lower case (rtsp, http, …), or an empty string for a path."""
    return address.partition("://")[0].lower() if "://" in address else ""


def file_path(address: str) -> str:
    """Returns the path of a file that is written as a path or as file://…"""
    if url_scheme(address) != "file":
        return address
    from urllib.request import url2pathname  # loads HTTP and TLS, which no other source needs

    return url2pathname(address[len("file://") :])


def is_camera(address: str) -> bool:
    """Returns whether the address is a camera's index or device, present or not, or a link to a character device."""
    if SHELL_PIPE.fullmatch(address) or PROC_PIPE.fullmatch(address):
        return False
    return bool(CAMERA.fullmatch(address)) or (url_scheme(address) == "" and is_character_device(address))


def is_pipe(address: str) -> bool:
    """Returns whether the address is a named pipe, or a pipe that the shell opened."""
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
    """Returns the address for printing: only scheme, host and port of a network address.

    The user, password, path and parameters may all be secrets.
    """
    if is_camera(address):
        return f"camera {address}"
    scheme = url_scheme(address)
    if not scheme or scheme in LOCAL_SCHEMES:
        return address
    if scheme == PIPELINE_SCHEME:
        return "the GStreamer pipeline"
    host = _host_and_port(address)
    return f"{scheme}://{host if HOST_AND_PORT.fullmatch(host) else HIDDEN}"


def redacted_text(text: str, address: str) -> str:
    """Removes the secret parts of the address from a text, such as a library's message."""
    scheme = url_scheme(address)
    if not scheme or scheme in LOCAL_SCHEMES:
        return text
    rest, host = address[len(scheme) + 3 :], _host_and_port(address)
    user, _, behind = rest.partition(host) if host else (rest, "", "")
    text = text.replace(address, redacted_address(address)).replace(rest, host).replace(f"{host}{behind}", host)
    for secret in (user.rstrip("@"), behind):
        text = text.replace(secret, HIDDEN) if len(secret) >= MIN_SECRET_LENGTH else text
    return text


def _host_and_port(address: str) -> str:
    """Returns what stands between the user and the path, also where a password contains characters of an address."""
    location, _, parameters = address.partition("://")[2].partition("?")
    user, at_sign, rest = location.rpartition("@")
    is_at_sign_in_path = "/" in user and HOST_AND_PORT.fullmatch(user.partition("/")[0])
    if at_sign and not is_at_sign_in_path:
        location = rest
    elif "@" in parameters and not HOST_AND_PORT.fullmatch(location.partition("/")[0]):  # the password has a question mark
        location = parameters.rpartition("@")[2]
    return location.partition("/")[0].partition("#")[0]
