"""onnxruntime-web: downloaded once from npm's registry, read from a file or a folder, refused if it was changed."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from cyclecast.errors import ConfigError, InputError, MissingInputError
from cyclecast.web_app import runtime
from cyclecast.web_app.runtime import find_runtime, get_runtime
from tests.web_runtime import web_runtime

CONTENT = {name: f"content of {name}".encode() for name in runtime.FILES}
BY_HAND = f"npm pack onnxruntime-web@{runtime.VERSION}"


def pack(files: dict[str, bytes]) -> bytes:
    """Builds a package as npm does, with a file outside of it that nobody needs."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in {"../../outside": b"x", **{f"package/dist/{name}": data for name, data in files.items()}}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A small package that takes the place of the pinned one."""
    packed = pack(CONTENT)
    monkeypatch.setattr(runtime, "INTEGRITY", runtime._integrity(packed))
    monkeypatch.setattr(runtime, "FILES", {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()})
    return packed


@pytest.fixture
def requested(package: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """The paths that were requested from a registry, which has the package."""
    paths: list[str] = []

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(package)))
            self.end_headers()
            self.wfile.write(package)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_address[1]}/npm/")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield paths
        server.shutdown()
        thread.join()


def test_it_is_downloaded_once_and_again_if_the_cache_was_changed(requested: list[str]) -> None:
    lines: list[str] = []
    assert find_runtime() is None
    assert get_runtime(on_message=lines.append) == CONTENT
    assert requested == [f"/npm/onnxruntime-web/-/onnxruntime-web-{runtime.VERSION}.tgz"]
    assert len(lines) == 1 and "127.0.0.1" in lines[0]
    assert get_runtime(on_message=lines.append) == CONTENT and len(lines) == 1
    folder = find_runtime()
    assert folder is not None and {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    (folder / next(iter(CONTENT))).write_bytes(b"changed")
    assert find_runtime() is None
    assert get_runtime() == CONTENT and len(requested) == 2 and find_runtime() == folder


def test_a_given_package_or_folder_is_used_and_refused_if_it_was_changed(
    package: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    (given := tmp_path / "given.tgz").write_bytes(package)
    (unpacked := tmp_path / "node_modules" / "package" / "dist").mkdir(parents=True)
    for name, content in CONTENT.items():
        (unpacked / name).write_bytes(content)
    for source in (given, unpacked, unpacked.parent, unpacked.parent.parent):
        assert get_runtime(source) == CONTENT
    given.write_bytes(pack({**CONTENT, next(iter(CONTENT)): b"changed"}))
    with pytest.raises(InputError, match=f"given.tgz: is not the package .* was changed .*{BY_HAND}"):
        get_runtime(given)
    (unpacked / next(iter(CONTENT))).write_bytes(b"changed")
    with pytest.raises(InputError, match=f"is not the file of onnxruntime-web .* was changed .*{BY_HAND}"):
        get_runtime(unpacked)
    with pytest.raises(MissingInputError, match=f"holds no .*{BY_HAND}"):
        get_runtime(tmp_path)
    with pytest.raises(MissingInputError, match="absent.tgz: no such file"):
        get_runtime(tmp_path / "absent.tgz")


def test_without_a_network_the_error_says_what_to_type(
    package: bytes, requested: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "INTEGRITY", "sha512-other")
    with pytest.raises(InputError, match="of the registry: is not the package"):
        get_runtime()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(
        InputError, match=rf"cannot be downloaded from 127.0.0.1 \(Connection refused\); .*{BY_HAND}, then --runtime \S+.tgz"
    ):
        get_runtime()
    for address in ("ftp://somewhere", "https://me:secret@somewhere", "http://[::1"):
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
        with pytest.raises(ConfigError, match=f"registry is not one such as {runtime.REGISTRY}, without a password; {BY_HAND}"):
            get_runtime()
    assert find_runtime() is None


def test_the_pinned_files_are_those_of_the_package() -> None:
    files = get_runtime(web_runtime())
    assert runtime.VERSION.encode() in files["ort.webgpu.bundle.min.mjs"][:200]
