"""Reads the inputs, outputs and metadata of ONNX models, without running them. Uses OpenVINO, which is always installed."""

from __future__ import annotations

import logging
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cyclecast.errors import EngineNotInstalled, MissingModelError, ModelError
from cyclecast.runtime.engine import EXPECTED_MODEL, TensorSpec, UnreadableModel, frame_size, frame_spec
from cyclecast.runtime.file_type import how_to_convert
from cyclecast.runtime.model_sizes import describe_excess
from cyclecast.spec import METADATA_KEY

if TYPE_CHECKING:
    import openvino

log = logging.getLogger(__name__)


def import_openvino() -> ModuleType:
    """Imports openvino without its telemetry, which would otherwise report to Intel from a process of its own.

    ImportError if it cannot be loaded.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # openvino then uses its silent stub
    import openvino

    module: ModuleType = openvino
    return module


def openvino_library() -> ModuleType:
    """Imports openvino as `import_openvino` does. Raises EngineNotInstalled, with the command that installs it."""
    try:
        return import_openvino()
    except ImportError as error:
        raise EngineNotInstalled("openvino is not installed: pip install openvino") from error


@cache
def openvino_core() -> openvino.Core:
    """Returns the process's only Core, which is never destroyed. Raises EngineNotInstalled if openvino is missing.

    OpenVINO's CPU plugin gives the thread that loads it a stack for signal handlers (sigaltstack), and frees that stack with
    its Core. A Core that another thread destroys, or two Cores that are not destroyed in reverse order, leave the thread with
    a freed stack, and the next Ctrl-C is a segmentation fault.
    """
    core: openvino.Core = openvino_library().Core()
    return core


def read_model(core: openvino.Core, path: Path) -> openvino.Model:
    """Reads the graph in `path`. Raises UnreadableModel if another library may read it.

    Raises ModelError if the file is not a model, or if the model's constants take too much memory (see `model_sizes`).
    """
    if found := how_to_convert(path):  # OpenVINO would try other formats, whose libraries print errors
        raise ModelError(f"{path}: not a model cyclecast can run: openvino cannot read it: {found}")
    try:
        model = core.read_model(str(path))
    except RuntimeError as error:
        if not path.is_file():
            raise MissingModelError(f"{path}: no such model") from error
        log.debug("openvino cannot read %s", path, exc_info=True)
        raise UnreadableModel(
            f"{path}: not a model cyclecast can run: openvino cannot read it (expected {EXPECTED_MODEL})"
        ) from error
    if excess := describe_excess(model):
        raise ModelError(f"{path}: not a model cyclecast can run: {excess}")
    return model


def find_excess(path: Path) -> str | None:
    """Returns that the model's constants take too much memory; None if they do not, or if OpenVINO cannot read the file."""
    if how_to_convert(path):
        return None
    try:
        return describe_excess(openvino_core().read_model(str(path)))
    except (EngineNotInstalled, RuntimeError):
        log.debug("openvino cannot read %s", path, exc_info=True)
        return None


def describe(path: Path, model: openvino.Model | None = None) -> tuple[tuple[int, int] | None, str | None]:
    """Returns the fixed (width, height) of a frame model, or None if it accepts any size; and its ModelSpec's JSON or None.

    model: the file's graph, if it has been read already. Raises ModelError if the file is not a frame model, or if its metadata
    cannot be read.
    """
    if model is None:
        model = read_model(openvino_core(), path)
    metadata = metadata_of(model)
    frame_spec(path, metadata)
    return frame_size(path, _tensors(model.inputs), _tensors(model.outputs)), metadata


def read_metadata(path: Path) -> str | None:
    """Reads the ModelSpec's JSON of an ONNX file; None if it has none. Raises ModelError if the file is not a model."""
    return metadata_of(read_model(openvino_core(), path))


def metadata_of(model: openvino.Model) -> str | None:
    """Reads the ModelSpec's JSON of a graph; None if it has none."""
    keys = ["framework", METADATA_KEY]
    return str(model.get_rt_info(keys).astype(str)) if model.has_rt_info(keys) else None


def _tensors(ports: Any) -> list[TensorSpec]:
    return [
        (port.element_type.get_type_name(), [d.get_length() if d.is_static else None for d in port.partial_shape])
        for port in ports
    ]
