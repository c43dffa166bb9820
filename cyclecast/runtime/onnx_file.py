"""What an ONNX frame model says of itself, without running it; OpenVINO, which is always installed, reads it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cyclecast.errors import EngineNotInstalled, MissingModelError, ModelError
from cyclecast.runtime.engine import frame_size
from cyclecast.spec import METADATA_KEY

if TYPE_CHECKING:
    import openvino


def import_openvino() -> ModuleType:
    """The module openvino, which then calls nobody: without this its import reports to its maker, from a process of its own.

    ImportError if it cannot be loaded.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # so that it takes its own silent stand-in
    import openvino

    module: ModuleType = openvino
    return module


def openvino_library() -> ModuleType:
    """The same; EngineUnavailable, with the line to type, if it cannot be loaded."""
    try:
        return import_openvino()
    except ImportError as error:
        raise EngineNotInstalled("openvino is not installed: pip install openvino") from error


def read_model(core: openvino.Core, path: Path) -> openvino.Model:
    """The graph in `path`. ModelError if it is none."""
    try:
        return core.read_model(str(path))
    except RuntimeError as error:
        if not path.is_file():
            raise MissingModelError(f"{path}: no such model") from error
        raise ModelError(f"{path}: openvino cannot read it as a model") from error


def describe(path: Path, model: openvino.Model | None = None) -> tuple[tuple[int, int] | None, str | None]:
    """The fixed (width, height) of a frame model, None if it takes any, and its ModelSpec's JSON, if it has one.

    model: the file's graph, where it has been read already. ModelError if it is not a frame model.
    """
    if model is None:
        model = read_model(openvino_library().Core(), path)
    return frame_size(path, _ports(model.inputs), _ports(model.outputs)), metadata_of(model)


def read_metadata(path: Path) -> str | None:
    """The ModelSpec's JSON of an ONNX file, if it has one. ModelError if it is no model."""
    return metadata_of(read_model(openvino_library().Core(), path))


def metadata_of(model: openvino.Model) -> str | None:
    """The ModelSpec's JSON of a graph, if it has one."""
    where = ["framework", METADATA_KEY]
    return str(model.get_rt_info(where).astype(str)) if model.has_rt_info(where) else None


def _ports(ports: Any) -> list[tuple[str, list[int | None]]]:
    return [
        (port.element_type.get_type_name(), [d.get_length() if d.is_static else None for d in port.partial_shape])
        for port in ports
    ]
