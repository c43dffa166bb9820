"""OpenVINO: the quickest engine on a CPU, by far where the CPU computes bf16; Intel GPUs too."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from cyclecast.errors import ConfigError, EngineError, EngineUnavailable
from cyclecast.future import Completed, Deferred, Future
from cyclecast.runtime.engine import IN_FLIGHT, Image, OnBuild, PerSizeCache, check_frame, check_size
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
        self._path = path
        self.on_build: OnBuild | None = None  # a size compiles in well under a second
        model = read_model(self._core, path)
        self.size, self.metadata = describe(path, model)
        self.precision = self._pick_precision(precision, model)
        self._requests = PerSizeCache(self._compile, drop=_settle)

    def _pick_device(self, device: str) -> str:
        target = {"auto": "CPU", "cpu": "CPU", "gpu": "GPU"}.get(device)
        if target is None:
            raise EngineUnavailable(f"openvino runs on cpu or gpu (Intel), not on {device!r}")
        if target not in {name.split(".")[0] for name in self._core.available_devices}:
            raise EngineUnavailable(f"openvino finds no {target} here; it has: {', '.join(self._core.available_devices)}")
        return target

    def _pick_precision(self, precision: str, model: openvino.Model) -> str:
        native = self._core.get_property(self._target, "OPTIMIZATION_CAPABILITIES")
        if precision == "auto":
            # On a CPU never f16: one that has bf16 runs it ten times slower.
            quick = "BF16" if self._target == "CPU" else "FP16"
            spoilt = self._target == "GPU" and overflows_in_fp16(self._openvino.__version__, model)
            return quick.lower() if quick in native and not spoilt else "fp32"
        if precision not in HINTS:
            raise ConfigError(f"no precision named {precision!r}; there are: auto, {', '.join(HINTS)}")
        if precision != "fp32" and precision.upper() not in native:
            raise EngineUnavailable(f"{self.device} does not compute {precision}")
        return precision

    def _compile(self, width: int, height: int) -> deque[_Request]:
        check_size(width, height, self.size)
        model = read_model(self._core, self._path)
        try:
            if self.size is None:
                model.reshape([1, height, width, 3])
            compiled = self._core.compile_model(model, self._target, self._properties())
        except RuntimeError as error:
            raise EngineError(f"openvino cannot compile {self._path} for {width}x{height}: {_last_line(error)}") from error
        return deque(_Request(self._openvino, compiled) for _ in range(IN_FLIGHT))

    def _properties(self) -> dict[str, str]:
        properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": HINTS[self.precision]}
        folder = cache_folder("openvino")
        return properties if folder is None else properties | {"CACHE_DIR": str(folder)}

    def prepare(self, width: int, height: int) -> None:
        self._requests.get(width, height)

    def run(self, frame: Image) -> Image:
        return self.submit(frame).result()

    def submit(self, frame: Image) -> Future[Image]:
        requests = self._requests.get(*check_frame(frame, self.size))
        if self._target == "CPU":  # a frame has all cores: a second one gained nothing, and blurs who takes the time
            return Completed(requests[0].run(frame))
        requests.rotate()
        return requests[0].submit(frame)

    def close(self) -> None:
        self._requests.close()


def overflows_in_fp16(version: str, model: openvino.Model) -> bool:
    """Whether a norm may overflow on Intel's GPUs: before 2026.3 they summed its squares in fp16, which ends at 65,504.

    To require 2026.3 would be simpler, but it has no wheels for Macs with Intel's processors.
    """
    year, release = (int(part) for part in version.split(".")[:2])
    return (year, release) < (2026, 3) and any(node.get_type_name() == "MVN" for node in model.get_ops())


class _Request:
    """One frame under way, with the memory that OpenVINO reads and writes by itself: it must not go while that is at work."""

    def __init__(self, library: ModuleType, compiled: openvino.CompiledModel) -> None:
        self._library = library
        self._request = compiled.create_infer_request()
        self._memory: tuple[Image, Image] | None = None  # after the request: it goes later

    def run(self, frame: Image) -> Image:
        """The frame's picture."""
        with _told(frame):
            styled = self._take(frame)
            self._request.infer()
        return styled

    def submit(self, frame: Image) -> Future[Image]:
        """Starts on the frame, when the one before is done."""
        with _told(frame):
            self._request.wait()
            styled = self._take(frame)
            self._request.start_async()

        def wait() -> Image:
            with _told(frame):
                self._request.wait()
            return styled

        return Deferred(wait)

    def _take(self, frame: Image) -> Image:
        """Gives the request the memory that it reads and writes; returns the latter."""
        frame = np.ascontiguousarray(frame)
        styled = np.empty_like(frame)  # ours to give away: the request writes straight into it
        self._memory = frame, styled
        self._request.set_input_tensor(self._library.Tensor(frame[None], shared_memory=True))
        self._request.set_output_tensor(self._library.Tensor(styled[None], shared_memory=True))
        return styled

    def settle(self) -> None:
        """Waits until it is at work no more, whatever came of it."""
        with suppress(RuntimeError):
            self._request.wait()


def _settle(requests: deque[_Request]) -> None:
    for request in requests:
        request.settle()


@contextmanager
def _told(frame: Image) -> Iterator[None]:
    """OpenVINO's errors as ours."""
    try:
        yield
    except RuntimeError as error:
        raise EngineError(f"openvino failed on a frame of {frame.shape[1]}x{frame.shape[0]}: {_last_line(error)}") from error


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
