"""All engines: each has a file here and a line in `ENGINES`. An engine imports its library when it is opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from cyclecast.errors import ConfigError, EngineError, EngineUnavailable, ModelError
from cyclecast.runtime.candidates import Candidate, find_candidates
from cyclecast.runtime.cuda import has_driver
from cyclecast.runtime.engine import DeviceFailed, Engine, Image, UnreadableModel, spec_from_metadata
from cyclecast.runtime.engines.onnxruntime import OnnxRuntimeEngine
from cyclecast.runtime.engines.openvino import OpenVinoEngine
from cyclecast.runtime.engines.tensorrt import TensorRtEngine, TensorRtRtxEngine
from cyclecast.runtime.engines.webgpu import WebGpuEngine
from cyclecast.runtime.machine import is_x86
from cyclecast.runtime.model_file import ModelFile, as_model_file
from cyclecast.runtime.plan import engine_of_plan
from cyclecast.runtime.threads import ThreadsRefused, check_threads
from cyclecast.runtime.trial import find_failure

log = logging.getLogger(__name__)

# Arguments as in `open_engine`: model, engine, device, precision, threads.
Opener = Callable[[Path | ModelFile, str, str, str, int | None], Engine]

ENGINES: dict[str, Callable[[Path | ModelFile, str, str], Engine]] = {
    "tensorrt": TensorRtEngine,
    "tensorrt-rtx": TensorRtRtxEngine,
    "openvino": OpenVinoEngine,
    "onnxruntime": OnnxRuntimeEngine,
    "webgpu": WebGpuEngine,
}


def open_engine(
    model: Path | ModelFile, engine: str = "auto", device: str = "auto", precision: str = "auto", threads: int | None = None
) -> Engine:
    """Opens the frame model or plan at `model`. The engine's name, device and precision show what `auto` has chosen.

    It reads the file once: a file that is replaced or deleted later changes nothing.

    engine: "auto" or a key of `ENGINES`; a plan runs on its own engine only. device: "auto" (the best device present), "cpu",
    "gpu", "gpu:N", "npu", "coreml" or "cuda:N". precision: "auto", "int8", "fp32", "bf16" or "fp16". threads: the number of CPU
    threads that compute; None: the engine's choice.

    If the engine or the device is "auto", the first of `CANDIDATES` that works is chosen. Other devices than the CPU first
    compute a small frame, which is compared with the CPU's. A model that cyclecast did not export is tried on the CPU, too. If
    a trial fails, the next precision or candidate is used, and a warning is logged.

    Raises EngineUnavailable if this machine lacks the engine or device, ConfigError for an unknown engine, for more threads than
    logical cores and for threads on a GPU, and ModelError if the file is not a frame model.
    """
    if engine != "auto" and engine not in ENGINES:
        known = ["auto", *ENGINES, "torch"]  # `cyclecast.open_engine` adds torch
        raise ConfigError(f"no engine named {engine!r}; expected one of: {', '.join(known)}")
    check_threads(threads)
    file = as_model_file(model)
    own = engine_of_plan(file)
    if own is not None and engine not in ("auto", own):
        raise ConfigError(f"{file.path}: a plan of {own}, which {engine} cannot run; use --engine {own}")
    engine = own or engine
    candidates = find_candidates(ENGINES if engine == "auto" else (engine,), device)
    if engine == device == "auto" and not has_driver():  # TensorRT would import for a tenth of a second to find that out
        candidates = [candidate for candidate in candidates if not candidate.engine.startswith("tensorrt")]
    if engine != "auto" and (device != "auto" or len(candidates) < 2):  # there is no choice
        device = candidates[0].device if device == "auto" and candidates else device
        return _open(engine, file, device, precision, threads)
    return _choose(candidates, file, precision, threads, has_engine=engine != "auto")


def _choose(candidates: Sequence[Candidate], file: ModelFile, precision: str, threads: int | None, *, has_engine: bool) -> Engine:
    """Opens the first candidate that works. has_engine: the user requested the engine; only its device is to be chosen."""
    unavailable: list[EngineUnavailable] = []
    failures: list[EngineError | ModelError] = []
    failing: list[Candidate] = []
    for candidate in candidates:
        try:
            opened = _open_working(candidate, file, precision, threads, failures, has_engine)
        except EngineUnavailable as error:
            level = logging.WARNING if isinstance(error, DeviceFailed) else logging.DEBUG
            log.log(level, "%s; trying the next candidate", error)
            unavailable.append(error)
        except UnreadableModel as error:
            failures.append(error)
        else:
            if opened is not None:
                for failure in dict.fromkeys(map(str, failures)):
                    log.warning("%s; using %s %s on %s", failure, opened.name, opened.precision, opened.device)
                return opened
            failing += [candidate] if candidate.device == "cpu" else []
    if failing:  # its frames may have to be larger than in the trial
        for failure in dict.fromkeys(map(str, failures)):
            log.warning("%s; no engine passed its trial, using %s on the CPU", failure, failing[0].engine)
        return _open(failing[0].engine, file, failing[0].device, precision, threads)
    if failures:
        raise failures[0]
    if has_engine:
        raise unavailable[-1]
    raise EngineUnavailable("no engine can run it here: " + "; ".join(dict.fromkeys(map(str, unavailable))))


def _open(name: str, file: ModelFile, device: str, precision: str, threads: int | None) -> Engine:
    """Opens an engine, with a limited number of CPU threads unless `threads` is None.

    Opens a bundled model in int8 if that is requested, or if `auto` may choose the precision and int8 is the fastest.
    """
    if precision == "int8" or (precision == "auto" and (name, device) == ("openvino", "cpu") and is_x86()):
        file = file.in_precision("int8")
    return limit_threads(ENGINES[name](file, device, precision), threads)


def limit_threads(engine: Engine, threads: int | None) -> Engine:
    """Returns the engine, limited to this number of CPU threads; None: unchanged. Closes it if it refuses, and raises that."""
    if threads is not None:
        try:
            engine.limit_threads(threads)
        except ThreadsRefused:
            engine.close()
            raise
    return engine


def _open_working(
    candidate: Candidate,
    file: ModelFile,
    precision: str,
    threads: int | None,
    failures: list[EngineError | ModelError],
    has_engine: bool,
) -> Engine | None:
    """Opens a candidate in this precision, or in fp32 if it fails its trial in the one that it chooses.

    None if it fails in all; adds its errors to `failures`.
    """
    for tried in (precision, "fp32") if precision == "auto" else (precision,):
        engine = _open(candidate.engine, file, candidate.device, tried, threads)
        if candidate.device == "cpu":
            is_ours = bool(engine.metadata) and spec_from_metadata(file.path, engine.metadata).recipe != "adopted"
            failure = None if is_ours or has_engine else find_failure(engine, file, None)
        else:
            failure = find_failure(engine, file, _run_on_cpu) if candidate.is_tried else None
        if failure is None:
            return engine
        failures.append(EngineError(failure))
        engine.close()
        if engine.precision == "fp32":
            break
    return None


def _run_on_cpu(file: ModelFile, frame: Image) -> Image | None:
    """Runs a frame on the CPU, in fp32 where an engine has that; None if no engine can."""
    for candidate in find_candidates(ENGINES, "cpu"):
        for precision in ("fp32", "auto"):
            try:
                with closing(ENGINES[candidate.engine](file, "cpu", precision)) as engine:
                    return engine.run(frame)
            except (EngineError, ModelError):
                log.debug("%s %s cannot run %s on the CPU", candidate.engine, precision, file.path, exc_info=True)
    return None
