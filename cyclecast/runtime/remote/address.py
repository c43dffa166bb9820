"""Parses the addresses of models: hf:user/name[/FILE.onnx][@revision], https://…, file://…, each with #sha256=… or without."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urldefrag, urlsplit

from cyclecast.errors import ConfigError

HUB = "https://huggingface.co"
SCHEME = re.compile(r"hf:|[A-Za-z][A-Za-z0-9+.-]+://")
HUB_ADDRESS = re.compile(r"hf:([\w.-]+)/([\w.-]+)((?:/[\w.-]+)*/[\w.-]+\.onnx)?(?:@([\w./-]+))?", re.ASCII)
EXPECTED = "hf:user/name, hf:user/name@revision, https://…/x.onnx or file:///…/x.onnx"


@dataclass(frozen=True)
class Address:
    """Where a model is fetched from."""

    text: str
    """As typed, without the hash: its name in messages."""
    url: str
    """https, file, or http on this machine."""
    name: str
    """A name for the file, from the address: letters, digits, dots, dashes and underscores."""
    sha256: str | None = None
    """The hash that the address names, in lower case."""


def is_remote(model: str) -> bool:
    """Returns whether this is an address, not the name or path of a model."""
    return SCHEME.match(model) is not None


def parse_address(text: str) -> Address:
    """Parses an address. Raises ConfigError, in one line, for one of another form, or of a transport that is not safe."""
    address, fragment = urldefrag(text)
    sha256 = fragment.partition("sha256=")[2].lower()
    if fragment and not re.fullmatch("sha256=[0-9a-f]{64}", fragment.lower()):
        raise ConfigError(f"{text}: expected #sha256= and 64 hexadecimal digits after the address")
    if address.startswith("hf:"):
        url, name = _hub_url(address)
    else:
        url, name = address, PurePosixPath(unquote(urlsplit(address).path)).name
    check_transport(url, address)
    stem = re.sub(r"[^\w.-]", "-", name.removesuffix(".onnx"), flags=re.ASCII).strip(".-")[:60]
    return Address(address, url, f"{stem or 'model'}.onnx", sha256 or None)


def hub_endpoint() -> str:
    """Returns the address of the hub: HF_ENDPOINT, or Hugging Face's own. Raises ConfigError if it is not safe for a token."""
    endpoint = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    scheme, host = _parts(endpoint, "HF_ENDPOINT")
    if not host or not (scheme == "https" or (scheme == "http" and is_loopback(host))):
        raise ConfigError("HF_ENDPOINT: expected the https:// address of a hub; http:// is only for this machine")
    return endpoint


def _hub_url(address: str) -> tuple[str, str]:
    found = HUB_ADDRESS.fullmatch(address)
    if found is None or ".." in address:
        raise ConfigError(f"{address}: expected hf:user/name, hf:user/name@revision or hf:user/name/FILE.onnx")
    user, repository, path, revision = found.groups()
    file = (path or f"/{repository}.onnx").lstrip("/")
    return f"{hub_endpoint()}/{user}/{repository}/resolve/{quote(revision or 'main', safe='')}/{file}", file.rpartition("/")[2]


def check_transport(url: str, address: str) -> None:
    """Raises ConfigError unless the URL is https, a file, or http on this machine. address: its name in the message."""
    scheme, host = _parts(url, address)
    if scheme == "http" and not is_loopback(host):
        raise ConfigError(f"{address}: http:// is only for this machine; expected https://")
    if not (scheme == "https" and host) and not (scheme == "file" and host in ("", "localhost")) and scheme != "http":
        raise ConfigError(f"{address}: expected {EXPECTED}")


def check_redirect(url: str, address: str, is_local: bool) -> None:
    """Raises ConfigError unless a redirect leads to https or, if the address `is_local`, to http on this machine."""
    scheme, host = _parts(url, address)
    if not (scheme == "https" and host) and not (is_local and scheme == "http" and is_loopback(host)):
        raise ConfigError(f"{address}: redirects to {url[:200]}; expected https://")


def _parts(url: str, address: str) -> tuple[str, str]:
    """Returns the scheme and the host. Raises ConfigError for a URL that cannot be parsed, or that holds a password."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(f"{address}: not an address ({error})") from error
    if parts.username is not None:
        raise ConfigError("an address with a name and password in it is not supported: leave out what stands before the @")
    return parts.scheme, host


def is_loopback(host: str) -> bool:
    """Returns whether a host is this machine itself."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
