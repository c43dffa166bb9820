"""Writes the site: the page, ONNX Runtime, and the models.

    index.html, sw.js, …    the page, from the folder `static`
    ort/                    ONNX Runtime and its licenses
    models/NAME.onnx        a model in fp32; NAME.fp16.onnx in fp16, NAME.jpg its thumbnail
    models.json             an entry for each model: see `entries.py`
    files.json              path, size and SHA-256 of each of these files, except for sw.js

`__VERSION__` in sw.js is replaced by a hash of all files, so that a browser that has the site sees that it has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclecast._version import __version__
from cyclecast.errors import ConfigError
from cyclecast.files import is_hidden
from cyclecast.web_app.entries import SiteModel, build_model, name_models
from cyclecast.web_app.folder import LIST, check_folder, write_folder
from cyclecast.web_app.runtime import LICENSE, get_runtime, read_notices

STATIC = Path(__file__).parent / "static"
LIVE_PAGE = Path(__file__).parents[1] / "video" / "live" / "sinks" / "web" / "static"
SHARED = ("page.css",)  # the files that the live page of `--sink web` has in common with this one
SERVICE_WORKER = "sw.js"
VERSION_MARK = b"__VERSION__"
PRECISIONS = {"both": ("fp32", "fp16"), "fp32": ("fp32",)}


@dataclass(frozen=True)
class Site:
    """What `write_site` wrote."""

    output: Path
    version: str
    """A hash of all files."""
    bytes: int
    """Size of all files."""
    models: list[SiteModel]


def write_site(
    output: Path,
    models: Sequence[str] = (),
    *,
    precision: str = "both",
    runtime: Path | None = None,
    overwrite: bool = False,
    on_message: Callable[[str], None] | None = None,
    on_model: Callable[[int, int], None] | None = None,
) -> Site:
    """Writes a static web site to the folder `output`, which appears when it is complete.

    models: names or paths; none: the bundled models. precision: both, or fp32, which leaves fp16 out. runtime: the package of
    onnxruntime-web or its folder, instead of a download. on_message: called with a line for each notice. on_model: called with
    the number of finished models and of all.

    Raises OutputError if the folder holds anything, unless that is a site of ours and `overwrite` is set; ModelError for a file
    that is not a frame model, ConfigError for one that is not in fp32, and InputError if ONNX Runtime cannot be downloaded.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    check_folder(output, overwrite)
    named = name_models(models)
    files = {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in _static_files()}
    files |= {name: (LIVE_PAGE / name).read_bytes() for name in SHARED}
    files |= {f"ort/{name}": content for name, content in get_runtime(runtime, on_message).items()}
    files["ort/LICENSE.txt"] = LICENSE.read_bytes()
    built = []
    for number, (name, path) in enumerate(named.items()):
        built.append(build_model(name, path, PRECISIONS[precision], on_message))
        files |= built[-1].files
        if on_model is not None:
            on_model(number + 1, len(named))
    files |= {f"ort/{name}": content for name, content in read_notices().items()}
    files["models.json"] = _json({"cyclecast": __version__, "models": [model.entry for model in built]})
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in sorted(files.items())}
    version = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:16]
    listed = [
        {"path": path, "bytes": len(files[path]), "sha256": digest} for path, digest in hashes.items() if path != SERVICE_WORKER
    ]
    files[LIST] = _json({"cyclecast": __version__, "version": version, "files": listed})
    if SERVICE_WORKER in files:
        files[SERVICE_WORKER] = files[SERVICE_WORKER].replace(VERSION_MARK, version.encode())
    write_folder(output, files, overwrite)
    return Site(output, version, sum(map(len, files.values())), built)


def _static_files() -> list[Path]:
    """Lists the files of the page."""
    return [path for path in sorted(STATIC.rglob("*")) if path.is_file() and not is_hidden(path.relative_to(STATIC))]


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
