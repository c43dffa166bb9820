"""`Model`: a frame model, open on an engine."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from cyclecast.errors import MissingModelError, ModelError
from cyclecast.future import Future
from cyclecast.runtime.engine import Engine, Image, OnBuild, spec_from_metadata
from cyclecast.runtime.engines import Opener, open_engine
from cyclecast.runtime.file_type import how_to_convert
from cyclecast.runtime.model_file import BUNDLED, ModelFile, read_model_file
from cyclecast.runtime.plan import Size, engine_of_plan
from cyclecast.runtime.remote import fetch_model, is_remote
from cyclecast.spec import ModelSpec


def bundled_models() -> dict[str, Path]:
    """Returns name -> ONNX file of the models that ship with cyclecast."""
    return {path.stem: path for path in sorted(BUNDLED.glob("*.onnx"))}


def find_model(name: str | Path) -> Path:
    """Finds the file of a bundled model's name, of a path or of an address, from which it is fetched the first time.

    Raises ModelError if there is none, or if it is neither an ONNX model nor a plan; for an address, see `fetch_model`.
    """
    if isinstance(name, str) and is_remote(name):
        return fetch_model(name)
    bundled = bundled_models()
    if str(name) in bundled:
        return bundled[str(name)]
    path = Path(name)
    try:
        os.stat(path)
    except OSError as error:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise ModelError(f"{name}: cannot be read as a model ({error.strerror})") from error
    if path.exists() and (path.is_dir() or engine_of_plan(path) is None) and (found := how_to_convert(path)):
        raise ModelError(f"{name}: not a model cyclecast can run: {found}")
    if not path.is_file():
        raise MissingModelError(f"{name}: no such file, and no bundled model of that name (bundled: {', '.join(bundled)})")
    return path


class Model:
    """A generator that turns frames into frames: model(frame) -> frame, (H, W, 3) uint8 BGR both."""

    def __init__(self, name: str, engine: Engine, digest: str | None = None) -> None:
        self.name = name
        self.engine = engine
        self._digest = digest
        self.spec = spec_from_metadata(name, engine.metadata) if engine.metadata else ModelSpec(name=name)

    @property
    def identity(self) -> str | None:
        """File, engine, device and precision: models of equal identity have equal outputs. None: not opened from a file."""
        engine = self.engine
        return self._digest and f"{self._digest} {engine.name} {engine.device} {engine.precision}"

    @property
    def frame_sizes(self) -> tuple[Size, Size] | None:
        """Returns the smallest and the largest (width, height) of its frames; None for any size from 16x16 up."""
        if self.engine.size is not None:
            return self.engine.size, self.engine.size
        return getattr(self.engine, "size_range", None)

    def __call__(self, frame: Image) -> Image:
        return self.engine.run(frame)

    def submit(self, frame: Image) -> Future[Image]:
        """Starts a frame without waiting for its result; two frames may be in flight."""
        return self.engine.submit(frame)

    def prepare(self, width: int, height: int) -> None:
        """Compiles for this frame size before the first frame."""
        self.engine.prepare(width, height)

    def close(self) -> None:
        """Frees the engine."""
        self.engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def load(
    model: str | Path | ModelFile,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    on_build: OnBuild | None = None,
    opener: Opener = open_engine,
    threads: int | None = None,
) -> Model:
    """Opens a bundled model by name ("monet"), a frame model or a plan by path or address, or one that is already in memory.

    on_build: see `Engine`. The other arguments and the errors: see `open_engine`.
    """
    file = model if isinstance(model, ModelFile) else read_model_file(find_model(model))
    opened = opener(file, engine, device, precision, threads)
    opened.on_build = on_build
    return Model(file.path.stem, opened, file.in_precision(opened.precision).digest)
