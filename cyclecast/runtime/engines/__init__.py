"""The engines: one file each, one line in this dict. Their libraries load when one is opened, not before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cyclecast.errors import ConfigError, EngineUnavailable
from cyclecast.runtime.engine import Engine
from cyclecast.runtime.engines.onnxruntime import OnnxRuntimeEngine
from cyclecast.runtime.engines.openvino import OpenVinoEngine

ENGINES: dict[str, Callable[[Path, str, str], Engine]] = {  # `auto` takes the first that this machine has
    "openvino": OpenVinoEngine,
    "onnxruntime": OnnxRuntimeEngine,
}


def open_engine(model: Path, engine: str = "auto", device: str = "auto", precision: str = "auto") -> Engine:
    """Opens the frame model at `model`; what was chosen is in the engine's name, device and precision.

    engine: "auto" or a key of `ENGINES`. device: "auto", "cpu", "gpu" or "cuda:N". precision: "auto" or "fp32", "bf16".
    EngineUnavailable if what was asked for is not here, ModelError if the file is not a frame model.
    """
    if engine != "auto":
        if engine not in ENGINES:
            raise ConfigError(f"no engine named {engine!r}; there are: auto, {', '.join(ENGINES)}")
        return ENGINES[engine](model, device, precision)
    absent = []
    for opener in ENGINES.values():
        try:
            return opener(model, device, precision)
        except EngineUnavailable as error:
            absent.append(str(error))
    raise EngineUnavailable("no engine can run it here: " + "; ".join(absent))
