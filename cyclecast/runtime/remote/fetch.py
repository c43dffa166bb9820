"""Fetches a model once, pins its hash, and finds it in the user's cache from then on, also without a network."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
import time
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path, user_data_path

from cyclecast.errors import ConfigError, CyclecastError, FetchError, ModelError
from cyclecast.files import atomic_write, write_error
from cyclecast.own_files import create_own_folder, is_own_file
from cyclecast.runtime.remote.address import Address, parse_address
from cyclecast.runtime.remote.inspection import inspect_model
from cyclecast.runtime.remote.transfer import OnProgress, Unreachable, transfer

VARIABLE = "CYCLECAST_MODEL_MIB"
DEFAULT_MIB = 64
LOCK_SECONDS = 1000.0  # longer than a transfer may take

log = logging.getLogger(__name__)


def fetch_model(text: str, update: bool = False) -> Path:
    """Returns the file of the model at an address, from the cache or else from there. Logs the progress.

    The first time, the file's SHA-256 is pinned to the address; later, only that file is accepted. update: fetches it again and
    pins what is there now. Raises ConfigError for an address that cannot be used, FetchError if the model cannot be fetched or
    has changed, and ModelError if the file is not a model that `inspect_model` accepts.
    """
    address = parse_address(text)
    key = hashlib.sha256(address.url.encode()).hexdigest()[:32]
    pin = user_data_path("cyclecast") / "pins" / f"{key}.json"
    path = user_cache_path("cyclecast") / "styles" / key / address.name
    try:
        if not update and _is_ready(address, path, pin):
            return path
        create_own_folder(path.parent)
        create_own_folder(pin.parent)
        with FileLock(path.parent / ".lock", timeout=LOCK_SECONDS):
            _fetch(address, path, pin, update)
    except Timeout as error:
        raise FetchError(f"{address.text}: another process is still fetching it; try again") from error
    except CyclecastError:
        raise
    except OSError as error:
        raise write_error(error, path) from error
    return path


def _is_ready(address: Address, path: Path, pin: Path) -> bool:
    """Returns whether the cache holds the pinned file. Writes nothing, so that a container's cache may be read-only."""
    pinned = _read_pin(pin)
    if pinned is None or address.sha256 not in (None, pinned) or not is_own_file(path):
        return False
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != pinned:
        return False
    inspect_model(address.text, content)
    return True


def _fetch(address: Address, path: Path, pin: Path, update: bool) -> None:
    pinned = _read_pin(pin)
    expected = address.sha256 or (None if update else pinned)
    content = path.read_bytes() if is_own_file(path) and not update else b""
    digest = hashlib.sha256(content).hexdigest()
    is_cached = bool(content) and digest == expected
    if not is_cached:
        if content:
            log.info("%s: its copy in the cache is another file; fetching it again", address.text)
        try:
            content = transfer(address.url, address.text, *size_limit(), log_progress(address.text))
        except Unreachable as error:
            raise FetchError(f"{error}; fetched once, a model also works offline") from error
        digest = hashlib.sha256(content).hexdigest()
        _check_digest(address, digest, expected)
    inspect_model(address.text, content)
    if not is_cached:
        with atomic_write(path, overwrite=True) as partial:
            partial.write_bytes(content)
        log.info("%s: fetched, %s bytes, SHA-256 %s", address.text, f"{len(content):,}", digest)
    if digest != pinned:
        with atomic_write(pin, overwrite=True) as partial:
            partial.write_text(json.dumps({"address": address.text.partition("?")[0], "sha256": digest}) + "\n", "utf-8")


def size_limit() -> tuple[int, str]:
    """Returns the largest size of a file in bytes, and how to raise it. Raises ConfigError for a bad value of the variable."""
    text = os.environ.get(VARIABLE) or str(DEFAULT_MIB)
    if not text.isdecimal() or not 1 <= int(text) <= 2048:
        raise ConfigError(f"{VARIABLE} is a size in MiB, from 1 to 2048; got {text!r}")
    return int(text) << 20, f"if you trust it: {VARIABLE}={2 * int(text)} allows more"


def _check_digest(address: Address, digest: str, expected: str | None) -> None:
    if expected in (None, digest):
        return
    if address.sha256:
        raise FetchError(f"{address.text}: not the file that its #sha256= names: expected {expected}, got {digest}")
    raise FetchError(
        f"{address.text}: has changed since it was first fetched (SHA-256 was {expected[:12] if expected else ''}…, is "
        f"{digest[:12]}…); to accept it: cyclecast models {shlex.quote(address.text)} --update"
    )


def _read_pin(pin: Path) -> str | None:
    try:
        sha256 = json.loads(pin.read_text("utf-8"))["sha256"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{pin}: damaged; delete it to accept the model anew") from error
    return str(sha256)


def log_progress(name: str) -> OnProgress:
    """Returns a callback that logs the start, and then what was transferred, at most once in two seconds."""
    last = float("-inf")

    def report(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= 2:
            last = time.monotonic()
            log.info("%s: fetching, %s of %s bytes", name, f"{done:,}", "?" if total is None else f"{total:,}")

    return report
