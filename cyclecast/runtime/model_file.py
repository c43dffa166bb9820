"""A model's file, read once: what happens to the file afterwards changes nothing."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cyclecast.errors import EngineError, MissingModelError, ModelError

BUNDLED = Path(__file__).parent.parent / "models"
"""The folder of the models that ship with cyclecast; in its folder `int8` are the same models in int8."""


@dataclass(frozen=True)
class ModelFile:
    """An ONNX model or a plan in memory. Engines compile it for one frame size after the other, for as long as a run lasts."""

    path: Path
    """Where it was read from; its name in messages."""
    content: bytes = field(repr=False)

    @cached_property
    def digest(self) -> str:
        """Returns the SHA-256 of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def in_int8(self) -> ModelFile | None:
        """Returns a bundled model in int8, with at least 44 dB PSNR against this file; None for other models."""
        path = BUNDLED / "int8" / self.path.name
        return read_model_file(path) if self.path.parent == BUNDLED and path.is_file() else None

    def in_precision(self, precision: str) -> ModelFile:
        """Returns the file that an engine opens to compute in this precision: `in_int8`, or the file itself."""
        return (self.in_int8 if precision == "int8" else None) or self

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """Yields a file with this content, for libraries that read files: the file itself if it has not changed, or else a copy.

        Weights in files beside a model are found only beside the file itself. Raises EngineError if there is no room for a copy.
        """
        if self._is_unchanged():
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="cyclecast-") as folder:
            copy = Path(folder) / self.path.name
            try:
                copy.write_bytes(self.content)
            except OSError as error:
                raise EngineError(f"{self.path}: has changed, and its copy cannot be written ({error.strerror})") from error
            yield copy

    def _is_unchanged(self) -> bool:
        try:
            return self.path.read_bytes() == self.content
        except OSError:
            return False


def read_model_file(path: Path) -> ModelFile:
    """Reads a model's file. Raises MissingModelError if it does not exist, ModelError if it cannot be read."""
    try:
        return ModelFile(path, path.read_bytes())
    except OSError as error:
        raise unreadable_model(error, path) from error


def unreadable_model(error: OSError, path: Path) -> ModelError:
    """Returns the error to raise when reading the model at `path` failed with `error`."""
    if not path.exists():
        return MissingModelError(f"{path}: no such model")
    return ModelError(f"{path}: cannot be read as a model ({error.strerror})")


def as_model_file(model: Path | ModelFile) -> ModelFile:
    """Returns the file, and reads it if it is still a path."""
    return model if isinstance(model, ModelFile) else read_model_file(model)
