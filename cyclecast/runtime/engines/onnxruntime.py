"""ONNX Runtime: runs wherever Python does, on NVIDIA GPUs with the package onnxruntime-gpu, and on Macs with Core ML."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cyclecast.errors import CyclecastError, EngineError, EngineNotInstalled, EngineUnavailable, ModelError
from cyclecast.runtime.engine import (
    EXPECTED_MODEL,
    DeviceFailed,
    Image,
    PerSizeCache,
    SynchronousEngine,
    TensorSpec,
    UnreadableModel,
    check_frame,
    check_precision,
    check_shape,
    check_size,
    dense,
    frame_size,
    frame_spec,
)
from cyclecast.runtime.file_type import how_to_convert
from cyclecast.runtime.machine import cache_folder, processor_name
from cyclecast.runtime.model_file import ModelFile, as_model_file
from cyclecast.runtime.onnx_file import find_excess
from cyclecast.runtime.threads import ThreadsRefused
from cyclecast.spec import METADATA_KEY

log = logging.getLogger(__name__)

Provider = tuple[str, dict[str, Any]]  # name, options
CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
COREML = "CoreMLExecutionProvider"
COREML_OPTIONS = {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL", "RequireStaticInputShapes": "1"}
CUDA_GRAPH_OPTIONS = {  # let a provider record a frame's work as a CUDA graph, which one call starts
    CUDA: {"enable_cuda_graph": "1"},
    TENSORRT: {"trt_cuda_graph_enable": "1"},
}
Run = Callable[[Image], Image]  # (1, H, W, 3) uint8 -> a new array of the same shape


class OnnxRuntimeEngine(SynchronousEngine):
    """Keeps one session for each frame size, with the graph's free dimensions fixed to it."""

    name = "onnxruntime"

    def __init__(self, model: Path | ModelFile, device: str, precision: str) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineNotInstalled(
                "onnxruntime is not installed: pip install onnxruntime, or for NVIDIA GPUs cyclecast[gpu]; never both"
            ) from error
        self._onnxruntime = onnxruntime
        self._threads = 0  # as many as onnxruntime chooses
        self.device, self._gpu, self._providers = self._pick_device(device)
        self._file = as_model_file(model)
        self._path = path = self._file.path
        with self._file.on_disk() as file:
            if excess := find_excess(file):
                raise ModelError(f"{path}: not a model cyclecast can run: {excess}")
        session = self._open_first()
        self.metadata: str | None = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        self.precision = frame_spec(path, self.metadata).precision
        inputs, outputs = session.get_inputs(), session.get_outputs()
        self.size = frame_size(path, _tensors(inputs), _tensors(outputs))
        self._free = [name if isinstance(name, str) else None for name in inputs[0].shape[1:3]]  # symbols of H and W
        check_precision(self.name, self.precision, precision)
        self._input = inputs[0].name
        self._sessions = PerSizeCache(self._specialize)

    def _open_first(self) -> Any:
        """Opens the first session. Raises DeviceFailed if the CPU can open the model and the device cannot."""
        try:
            return self._open({})
        except ModelError as error:
            if self._is_on_cpu() or not self._opens_on_cpu():
                raise
            reason = " ".join(str(error.__cause__).split())[:200]
            raise DeviceFailed(f"onnxruntime could not start {self._providers[0][0]}: {reason}") from error

    def _is_on_cpu(self) -> bool:
        return self._providers[0][0] == CPU

    def _opens_on_cpu(self) -> bool:
        try:
            with self._file.on_disk() as path:
                self._onnxruntime.InferenceSession(str(path), providers=[CPU])
        except Exception:  # as in `_open`
            log.debug("onnxruntime cannot open %s on the CPU either", self._path, exc_info=True)
            return False
        return True

    def _pick_device(self, device: str) -> tuple[str, int | None, list[Provider]]:
        """Returns the device's name for people, the GPU's index, and the providers, the preferred one first."""
        if device == "cpu":
            return processor_name(), None, [(CPU, {})]
        present = self._onnxruntime.get_available_providers()
        if device == "coreml" or (device == "gpu" and COREML in present):  # no build has both Core ML and CUDA
            if COREML not in present:
                raise EngineUnavailable("this onnxruntime has no Core ML: only that of Macs has")
            return f"{processor_name()}, Core ML", None, [(COREML, COREML_OPTIONS)]
        name, _, number = device.partition(":")
        if name not in ("gpu", "cuda", "tensorrt") or not (number or "0").isdigit():
            raise EngineUnavailable(f"onnxruntime runs on cpu, gpu, cuda:N, tensorrt:N or coreml, not on {device!r}")
        index = int(number or 0)
        # use_tf32=0: fp32 stays fp32, as verify and bench expect. TensorRT's provider has no such option; set
        # NVIDIA_TF32_OVERRIDE=0 for it.
        cuda: Provider = (CUDA, {"device_id": index, "use_tf32": "0"})
        providers = [cuda]
        if name == "tensorrt":
            folder = cache_folder("onnxruntime-tensorrt")
            cache = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)} if folder else {}
            providers = [(TENSORRT, {"device_id": index, **cache}), cuda]
        if CUDA not in present:
            raise EngineUnavailable("this onnxruntime has no CUDA: pip uninstall onnxruntime, then pip install cyclecast[gpu]")
        if providers[0][0] not in present:
            raise EngineUnavailable("this onnxruntime has no TensorRT: use --engine tensorrt, which does not need it")
        self._onnxruntime.preload_dlls(directory="")
        return f"{'tensorrt' if name == 'tensorrt' else 'cuda'}:{index}", index, providers

    def _require_provider(self, session: Any) -> None:
        """Raises DeviceFailed if the session lacks the requested provider: onnxruntime silently drops one that fails to load."""
        expected, got = self._providers[0][0], session.get_providers()
        if expected not in got:
            raise DeviceFailed(f"onnxruntime could not start {expected} and would have run on {', '.join(got)}")

    def _open(self, dimensions: dict[str, int], cuda_graph: bool = False) -> Any:
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3  # errors only: warnings about shapes would appear on the user's terminal
        # Threads that spin between frames take the cores from decoder and encoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        for name, value in dimensions.items():
            options.add_free_dimension_override_by_name(name, value)
        try:
            with self._file.on_disk() as path:
                if found := how_to_convert(path):
                    raise ModelError(f"{self._path}: not a model cyclecast can run: onnxruntime cannot read it: {found}")
                session = self._onnxruntime.InferenceSession(
                    str(path),
                    options,
                    providers=self._add_providers(options, cuda_graph),
                    enable_fallback=0,  # a fallback would print to stdout and run without the GPU
                )
        except CyclecastError:
            raise
        except Exception as error:  # its exception types are private and share no other base
            log.debug("onnxruntime cannot open %s", self._path, exc_info=True)
            raise UnreadableModel(
                f"{self._path}: not a model cyclecast can run: onnxruntime cannot read it (expected {EXPECTED_MODEL})"
            ) from error
        self._require_provider(session)
        return session

    def _add_providers(self, options: Any, cuda_graph: bool) -> list[Provider]:
        """Returns the providers for a session; an engine may add its own to the session's options instead."""
        return [(name, values | (CUDA_GRAPH_OPTIONS.get(name, {}) if cuda_graph else {})) for name, values in self._providers]

    def _specialize(self, width: int, height: int) -> Run:
        check_size(width, height, self.size)
        sizes = zip(self._free, (height, width), strict=True)
        fixed = {name: value for name, value in sizes if name is not None}
        return self._open_for_size(fixed, (1, height, width, 3))

    def _open_for_size(self, fixed: dict[str, int], shape: tuple[int, ...]) -> Run:
        """Opens a session whose free dimensions have these values, for frames of this shape."""
        if self._gpu is None:
            session = self._open(fixed)
            return lambda batch: np.asarray(session.run(None, {self._input: batch})[0], np.uint8)
        try:
            session = self._open(fixed, cuda_graph=True)
        except ModelError:  # part of this model runs on the CPU, which a CUDA graph cannot record
            session = self._open(fixed)
        return in_place(session, shape, "cuda", self._gpu)

    def limit_threads(self, threads: int) -> None:
        if not self._is_on_cpu():
            raise ThreadsRefused(self.name, self.device)
        self._threads = threads

    def prepare(self, width: int, height: int) -> None:
        self._sessions.get(width, height)

    def run(self, frame: Image) -> Image:
        width, height = check_frame(frame, self.size)
        try:
            run = self._sessions.get(width, height)
            styled = run(dense(frame)[None])
        except CyclecastError:
            raise
        except Exception as error:  # as above
            log.debug("onnxruntime failed on a frame", exc_info=True)
            raise EngineError(f"onnxruntime failed on a frame of {width}x{height}: {error}") from error
        check_shape(styled.shape[1:], frame.shape)
        output: Image = styled[0]
        return output

    def close(self) -> None:
        self._sessions.close()


def in_place(session: Any, shape: tuple[int, ...], device: str, index: int) -> Run:
    """Runs a session, with one uint8 input and one uint8 output, at fixed addresses on a device, as CUDA graphs require."""
    from onnxruntime import OrtValue

    input_value, output_value = (OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, device, index) for _ in range(2))
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, input_value)
    binding.bind_ortvalue_output(session.get_outputs()[0].name, output_value)

    def run(batch: Image) -> Image:
        input_value.update_inplace(batch)
        session.run_with_iobinding(binding)
        return np.array(output_value.numpy())  # a copy: on a CPU the next frame overwrites this memory

    return run


def _tensors(values: Any) -> list[TensorSpec]:
    return [(value.type, [d if isinstance(d, int) else None for d in value.shape]) for value in values]
