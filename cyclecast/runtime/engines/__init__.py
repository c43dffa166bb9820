"""The engines: one file each, one line in this dict. Their libraries load when one is opened, not before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cyclecast.errors import ConfigError, EngineUnavailable
from cyclecast.runtime.engine import Engine
from cyclecast.runtime.engines.onnxruntime import OnnxRuntimeEngine
from cyclecast.runtime.engines.openvino import OpenVinoEngine
from cyclecast.runtime.engines.tensorrt import TensorRtEngine, TensorRtRtxEngine
from cyclecast.runtime.plan import engine_of_plan

Opener = Callable[[Path, str, str, str], Engine]  # model, engine, device, precision, as `open_engine` takes them

ENGINES: dict[str, Callable[[Path, str, str], Engine]] = {  # `auto` takes the first that this machine has
    "tensorrt": TensorRtEngine,
    "tensorrt-rtx": TensorRtRtxEngine,
    "openvino": OpenVinoEngine,
    "onnxruntime": OnnxRuntimeEngine,
}


def open_engine(model: Path, engine: str = "auto", device: str = "auto", precision: str = "auto") -> Engine:
    """Opens the frame model, or the plan, at `model`; what was chosen is in the engine's name, device and precision.

    engine: "auto" or a key of `ENGINES`; a plan has its own. device: "auto", "cpu", "gpu" or "cuda:N". precision: "auto",
    "fp32", "bf16" or "fp16". EngineUnavailable if what was asked for is not here, ModelError if the file is not a frame model.
    """
    if engine != "auto" and engine not in ENGINES:
        known = ["auto", *ENGINES, "torch"]  # the last one by `cyclecast.open_engine`: this room does without
        raise ConfigError(f"no engine named {engine!r}; there are: {', '.join(known)}")
    own = engine_of_plan(model)
    if own is not None and engine not in ("auto", own):
        raise ConfigError(f"{model}: a plan of {own}, which {engine} cannot run")
    engine = own or engine
    if engine != "auto":
        return ENGINES[engine](model, device, precision)
    absent = []
    for opener in ENGINES.values():
        try:
            return opener(model, device, precision)
        except EngineUnavailable as error:
            absent.append(str(error))
    raise EngineUnavailable("no engine can run it here: " + "; ".join(absent))
