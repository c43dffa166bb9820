"""ONNX Runtime: runs wherever Python does; on NVIDIA GPUs with the package onnxruntime-gpu."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cyclecast.errors import EngineError, EngineNotInstalled, EngineUnavailable, ModelError
from cyclecast.runtime.engine import (
    Image,
    PerSizeCache,
    SynchronousEngine,
    check_frame,
    check_size,
    check_styled,
    frame_size,
    stated_precision,
)
from cyclecast.runtime.machine import cache_folder, processor_name
from cyclecast.spec import METADATA_KEY

Provider = tuple[str, dict[str, Any]]
RECORDS = {  # what makes a provider record a frame's work as a CUDA graph, and then start it in one call
    "CUDAExecutionProvider": {"enable_cuda_graph": "1"},
    "TensorrtExecutionProvider": {"trt_cuda_graph_enable": "1"},
}
Run = Callable[[Image], Image]  # (1, H, W, 3) uint8 to a new array of the same


class OnnxRuntimeEngine(SynchronousEngine):
    """One session for each frame size, the graph's free dimensions fixed to it."""

    name = "onnxruntime"

    def __init__(self, path: Path, device: str, precision: str) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineNotInstalled(
                "onnxruntime is not installed: pip install onnxruntime, or for NVIDIA GPUs cyclecast[gpu]; never both"
            ) from error
        self._onnxruntime = onnxruntime
        self.device, self._gpu, self._providers = self._pick_device(device)
        self._path = path
        session = self._open({})
        free = session.get_inputs()[0].shape if session.get_inputs() else []
        self.size = frame_size(path, _ports(session.get_inputs()), _ports(session.get_outputs()))
        self._free = [name if isinstance(name, str) else None for name in free[1:3]]  # symbols of H and W
        self.metadata: str | None = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        self.precision = stated_precision(self.metadata)
        if precision not in ("auto", self.precision):
            raise EngineUnavailable(f"onnxruntime computes this model in {self.precision}, not in {precision}")
        self._input = session.get_inputs()[0].name
        self._sessions = PerSizeCache(self._specialize)

    def _pick_device(self, device: str) -> tuple[str, int | None, list[Provider]]:
        """The device in words, the GPU's index, and the providers that compute, the first one first."""
        if device in ("auto", "cpu"):
            return processor_name(), None, [("CPUExecutionProvider", {})]
        kind, _, number = device.partition(":")
        if kind not in ("gpu", "cuda", "tensorrt") or not (number or "0").isdigit():
            raise EngineUnavailable(f"onnxruntime runs on cpu, gpu, cuda:N or tensorrt:N, not on {device!r}")
        index = int(number or 0)
        # fp32 is fp32, as verify and bench take it. TensorRT's provider has no such option: NVIDIA_TF32_OVERRIDE=0 is its own.
        cuda: Provider = ("CUDAExecutionProvider", {"device_id": index, "use_tf32": "0"})
        providers = [cuda]
        if kind == "tensorrt":
            kept = cache_folder("onnxruntime-tensorrt")
            cache = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(kept)} if kept else {}
            providers = [("TensorrtExecutionProvider", {"device_id": index, **cache}), cuda]
        present = self._onnxruntime.get_available_providers()
        if cuda[0] not in present:
            raise EngineUnavailable("this onnxruntime has no CUDA: pip uninstall onnxruntime, then pip install cyclecast[gpu]")
        if providers[0][0] not in present:
            raise EngineUnavailable("this onnxruntime has no TensorRT: --engine tensorrt needs none of it")
        self._onnxruntime.preload_dlls(directory="")
        return f"{'tensorrt' if kind == 'tensorrt' else 'cuda'}:{index}", index, providers

    def _require_provider(self, session: Any) -> None:
        """The session as it is, not as it was asked for: providers that fail to load drop out without an error."""
        wanted, got = self._providers[0][0], session.get_providers()
        if wanted not in got:
            raise EngineUnavailable(f"onnxruntime could not start {wanted} and would have run on {', '.join(got)}")

    def _open(self, dimensions: dict[str, int], recorded: bool = False) -> Any:
        options = self._onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: warnings about shapes would land on the user's terminal
        # Threads that spin between frames steal the cores from decoder and encoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        for name, value in dimensions.items():
            options.add_free_dimension_override_by_name(name, value)
        if not self._path.is_file():
            raise ModelError(f"{self._path}: no such model")
        try:
            providers = [(name, settings | (RECORDS.get(name, {}) if recorded else {})) for name, settings in self._providers]
            session = self._onnxruntime.InferenceSession(str(self._path), options, providers=providers)
        except Exception as error:  # its exception types are private and share no other base
            raise ModelError(f"{self._path}: onnxruntime cannot read it as a model") from error
        self._require_provider(session)
        return session

    def _specialize(self, width: int, height: int) -> Run:
        check_size(width, height, self.size)
        sizes = zip(self._free, (height, width), strict=True)
        fixed = {name: value for name, value in sizes if name is not None}
        if self._gpu is None:
            session = self._open(fixed)
            return lambda batch: np.asarray(session.run(None, {self._input: batch})[0], np.uint8)
        try:
            session = self._open(fixed, recorded=True)
        except ModelError:  # part of this graph computes on the CPU, and cannot be recorded
            session = self._open(fixed)
        return in_place(session, (1, height, width, 3), "cuda", self._gpu)

    def prepare(self, width: int, height: int) -> None:
        self._sessions.get(width, height)

    def run(self, frame: Image) -> Image:
        width, height = check_frame(frame, self.size)
        run = self._sessions.get(width, height)
        try:
            styled = run(np.ascontiguousarray(frame)[None])
        except Exception as error:  # as above
            raise EngineError(f"onnxruntime failed on a frame of {width}x{height}: {error}") from error
        return check_styled(styled[0], frame)

    def close(self) -> None:
        self._sessions.close()


def in_place(session: Any, shape: tuple[int, ...], device: str, index: int) -> Run:
    """Runs a session with its one input and its one output, uint8, at fixed addresses on a device, as CUDA graphs need it."""
    from onnxruntime import OrtValue

    takes, gives = (OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, device, index) for _ in range(2))
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, takes)
    binding.bind_ortvalue_output(session.get_outputs()[0].name, gives)

    def run(batch: Image) -> Image:
        takes.update_inplace(batch)
        session.run_with_iobinding(binding)
        return np.array(gives.numpy())  # on a CPU that is the memory which the next frame is written to

    return run


def _ports(ports: Any) -> list[tuple[str, list[int | None]]]:
    return [(port.type, [d if isinstance(d, int) else None for d in port.shape]) for port in ports]
