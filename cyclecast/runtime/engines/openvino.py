"""OpenVINO: the quickest engine on a CPU, by far where the CPU computes bf16; Intel GPUs too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cyclecast.errors import ConfigError, EngineError, EngineUnavailable
from cyclecast.runtime.engine import BySize, Image, check_frame, check_size
from cyclecast.runtime.machine import cache_folder
from cyclecast.runtime.onnx_file import describe, openvino_library, read_model

if TYPE_CHECKING:
    import openvino

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}  # our name of a precision -> OpenVINO's


class OpenVinoEngine:
    """Reshapes the graph to each frame size and compiles it once; compiled graphs are cached on disk."""

    name = "openvino"

    def __init__(self, path: Path, device: str, precision: str) -> None:
        self._openvino = openvino_library()
        self._core = self._openvino.Core()
        self._target = self._pick_device(device)
        self.device = str(self._core.get_property(self._target, "FULL_DEVICE_NAME")).strip()
        self.precision = self._pick_precision(precision)
        self._path = path
        self.size, self.metadata = describe(path, read_model(self._core, path))
        self._compiled = BySize(self._compile)

    def _pick_device(self, device: str) -> str:
        target = {"auto": "CPU", "cpu": "CPU", "gpu": "GPU"}.get(device)
        if target is None:
            raise EngineUnavailable(f"openvino runs on cpu or gpu (Intel), not on {device!r}")
        if target not in {name.split(".")[0] for name in self._core.available_devices}:
            raise EngineUnavailable(f"openvino finds no {target} here; it has: {', '.join(self._core.available_devices)}")
        return target

    def _pick_precision(self, precision: str) -> str:
        native = self._core.get_property(self._target, "OPTIMIZATION_CAPABILITIES")
        if precision == "auto":
            # On a CPU never f16: one that has bf16 runs it ten times slower.
            quick = "BF16" if self._target == "CPU" else "FP16"
            return quick.lower() if quick in native else "fp32"
        if precision not in HINTS:
            raise ConfigError(f"no precision named {precision!r}; there are: auto, {', '.join(HINTS)}")
        if precision != "fp32" and precision.upper() not in native:
            raise EngineUnavailable(f"{self.device} does not compute {precision}")
        return precision

    def _compile(self, width: int, height: int) -> openvino.InferRequest:
        check_size(width, height, self.size)
        model = read_model(self._core, self._path)
        try:
            if self.size is None:
                model.reshape([1, height, width, 3])
            compiled = self._core.compile_model(model, self._target, self._properties())
        except RuntimeError as error:
            raise EngineError(f"openvino cannot compile {self._path} for {width}x{height}: {_last_line(error)}") from error
        return compiled.create_infer_request()

    def _properties(self) -> dict[str, str]:
        properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": HINTS[self.precision]}
        folder = cache_folder("openvino")
        return properties if folder is None else properties | {"CACHE_DIR": str(folder)}

    def prepare(self, width: int, height: int) -> None:
        self._compiled.get(width, height)

    def run(self, frame: Image) -> Image:
        request = self._compiled.get(*check_frame(frame, self.size))
        frame = np.ascontiguousarray(frame)
        styled = np.empty_like(frame)  # ours to give away: the request writes straight into it
        try:
            request.set_input_tensor(self._openvino.Tensor(frame[None], shared_memory=True))
            request.set_output_tensor(self._openvino.Tensor(styled[None], shared_memory=True))
            request.infer()
        except RuntimeError as error:
            raise EngineError(f"openvino failed on a frame of {frame.shape[1]}x{frame.shape[0]}: {_last_line(error)}") from error
        return styled

    def close(self) -> None:
        self._compiled.close()


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
