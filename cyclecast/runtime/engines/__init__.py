"""All engines: each has a file here and a line in `ENGINES`. An engine imports its library when it is opened."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cyclecast.errors import ConfigError, EngineError, EngineUnavailable, ModelError
from cyclecast.runtime.cuda import has_driver
from cyclecast.runtime.engine import Engine, UnreadableModel, spec_from_metadata
from cyclecast.runtime.engines.onnxruntime import DeviceFailed, OnnxRuntimeEngine
from cyclecast.runtime.engines.openvino import OpenVinoEngine
from cyclecast.runtime.engines.tensorrt import TensorRtEngine, TensorRtRtxEngine
from cyclecast.runtime.model_file import ModelFile, as_model_file
from cyclecast.runtime.plan import engine_of_plan

log = logging.getLogger(__name__)

Opener = Callable[[Path | ModelFile, str, str, str], Engine]  # arguments as in `open_engine`: model, engine, device, precision

ENGINES: dict[str, Callable[[Path | ModelFile, str, str], Engine]] = {
    "tensorrt": TensorRtEngine,
    "tensorrt-rtx": TensorRtRtxEngine,
    "openvino": OpenVinoEngine,
    "onnxruntime": OnnxRuntimeEngine,
}

# The engines and devices that `--engine auto --device auto` tries, the fastest first: NVIDIA GPUs, then OpenVINO on a discrete
# Intel GPU or else on the CPU, then ONNX Runtime on the CPU.
BEST_FIRST = (
    ("tensorrt", "auto"),
    ("tensorrt-rtx", "auto"),
    ("onnxruntime", "gpu"),
    ("openvino", "auto"),
    ("onnxruntime", "cpu"),
)

TRIAL_SIZE = (64, 64)  # (width, height) of the frame on which `auto` tries a model


def open_engine(model: Path | ModelFile, engine: str = "auto", device: str = "auto", precision: str = "auto") -> Engine:
    """Opens the frame model or plan at `model`. The engine's name, device and precision show what `auto` has chosen.

    It reads the file once: a file that is replaced or deleted later changes nothing.

    engine: "auto" or a key of `ENGINES`; a plan runs on its own engine only. device: "auto" (the best device present), "cpu",
    "gpu" or "cuda:N". precision: "auto", "fp32", "bf16" or "fp16".

    "auto" tries a model that cyclecast did not export on a small frame, and uses the next precision or engine if that fails. It
    logs a warning then.

    Raises EngineUnavailable if this machine lacks the engine or device, ConfigError for an unknown engine, and ModelError if
    the file is not a frame model.
    """
    if engine != "auto" and engine not in ENGINES:
        known = ["auto", *ENGINES, "torch"]  # `cyclecast.open_engine` adds torch
        raise ConfigError(f"no engine named {engine!r}; expected one of: {', '.join(known)}")
    file = as_model_file(model)
    own = engine_of_plan(file)
    if own is not None and engine not in ("auto", own):
        raise ConfigError(f"{file.path}: a plan of {own}, which {engine} cannot run; use --engine {own}")
    engine = own or engine
    if engine != "auto":
        return ENGINES[engine](file, device, precision)
    reasons: list[str] = []
    failures: list[EngineError | ModelError] = []
    failing: list[tuple[str, str]] = []
    for name, its_device in _candidates(device):
        try:
            opened = _open_working(name, file, its_device, precision, failures)
        except EngineUnavailable as error:
            level = logging.WARNING if isinstance(error, DeviceFailed) else logging.DEBUG
            log.log(level, "%s; trying the next engine", error)
            reasons.append(str(error))
        except UnreadableModel as error:
            failures.append(error)
        else:
            if opened is not None:
                for failure in dict.fromkeys(map(str, failures)):
                    log.warning("%s; using %s %s", failure, opened.name, opened.precision)
                return opened
            failing.append((name, its_device))
    if failing:  # its frames may have to be larger
        return ENGINES[failing[0][0]](file, failing[0][1], precision)
    if failures:
        raise failures[0]
    raise EngineUnavailable("no engine can run it here: " + "; ".join(dict.fromkeys(reasons)))


def _open_working(
    name: str, model: ModelFile, device: str, precision: str, failures: list[EngineError | ModelError]
) -> Engine | None:
    """Opens an engine in this precision, or in fp32 if it fails on a frame in the one that it chooses.

    None if it fails in all; adds its errors to `failures`. TensorRT is not tried, because it builds a plan for each size.
    """
    for tried in (precision, "fp32") if precision == "auto" else (precision,):
        engine = ENGINES[name](model, device, tried)
        spec = spec_from_metadata(model.path, engine.metadata)
        if name.startswith("tensorrt") or (engine.metadata and spec.recipe != "adopted"):
            return engine
        width, height = engine.size or TRIAL_SIZE
        try:
            engine.run(np.zeros((height, width, 3), np.uint8))
        except EngineError as error:
            log.debug("%s %s cannot run %s", name, engine.precision, model.path, exc_info=True)
            failures.append(error)
            engine.close()
            if engine.precision == "fp32":
                break
        else:
            return engine
    return None


def _candidates(device: str) -> list[tuple[str, str]]:
    """Returns (engine, device) pairs to try in turn; engines use no other device than a requested one."""
    pairs = [(name, own if device == "auto" else device) for name, own in BEST_FIRST if name in ENGINES]
    if device == "auto" and not has_driver():  # a quarter of a second, for TensorRT to find that out
        pairs = [pair for pair in pairs if not pair[0].startswith("tensorrt")]
    if device == "cpu":  # OpenVINO is the faster one there
        pairs.sort(key=lambda pair: pair[0] != "openvino")
    return list(dict.fromkeys(pairs))
