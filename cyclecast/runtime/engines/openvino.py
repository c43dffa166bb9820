"""OpenVINO: the fastest engine on CPUs, above all on those that compute bf16. Also runs on Intel GPUs and NPUs."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from cyclecast.errors import ConfigError, EngineError, EngineUnavailable
from cyclecast.future import Completed, Deferred, Future
from cyclecast.runtime.engine import (
    IN_FLIGHT,
    DeviceFailed,
    Image,
    OnBuild,
    PerSizeCache,
    check_frame,
    check_precision,
    check_size,
    dense,
    frame_spec,
)
from cyclecast.runtime.machine import cache_folder, shrink_cache
from cyclecast.runtime.model_file import ModelFile, as_model_file
from cyclecast.runtime.onnx_file import describe, openvino_core, openvino_library, read_model
from cyclecast.runtime.threads import ThreadsRefused
from cyclecast.spec import ModelSpec

if TYPE_CHECKING:
    import openvino

log = logging.getLogger(__name__)

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}  # our name of a precision -> OpenVINO's


class OpenVinoEngine:
    """Compiles the graph once for each frame size, and caches the result on disk.

    Device "gpu" is a discrete Intel GPU if there is one, or else an integrated one; "gpu:N" is GPU.N in OpenVINO's list.
    """

    name = "openvino"

    def __init__(self, model: Path | ModelFile, device: str, precision: str) -> None:
        self._openvino = openvino_library()
        self._core = openvino_core()
        self._target = self._pick_device(device)
        self.device = str(self._property("FULL_DEVICE_NAME")).strip()
        self._file = as_model_file(model)
        self._path = self._file.path
        self.on_build: OnBuild | None = None  # never called, because a size compiles in well under a second
        with self._file.on_disk() as path:
            graph = read_model(self._core, path)
        self.size, self.metadata = describe(self._path, graph)
        spec = frame_spec(self._path, self.metadata)
        self.precision = self._pick_precision(precision, graph, spec)
        self._threads: int | None = None
        self._requests = PerSizeCache(self._compile, release=_wait_for_all)

    def _pick_device(self, device: str) -> str:
        """Returns OpenVINO's name for the device, such as CPU, GPU.1 or NPU."""
        device_type, _, number = device.partition(":")
        if device_type not in ("cpu", "gpu", "npu") or (number and (device_type != "gpu" or not number.isdigit())):
            raise EngineUnavailable(f"openvino runs on cpu, gpu, gpu:N or npu (Intel's), not on {device!r}")
        present: list[str] = list(self._core.available_devices)
        of_type = [name for name in present if name.partition(".")[0] == device_type.upper()]
        found = [
            name for name in of_type if not number or (name.partition(".")[2] or "0") == number
        ]  # a single GPU has no number
        if not found:
            raise EngineUnavailable(f"openvino finds no {device.upper()} here, only: {', '.join(present)}")
        return next((name for name in found if device_type == "gpu" and self._is_discrete(name)), found[0])

    def _is_discrete(self, name: str) -> bool:
        try:
            return bool(self._core.get_property(name, "DEVICE_TYPE") == self._openvino.properties.device.Type.DISCRETE)
        except RuntimeError:
            log.debug("openvino does not know the type of %s", name, exc_info=True)
            return False

    def _property(self, name: str) -> Any:
        """Asks the device for a property. Raises DeviceFailed if it does not answer."""
        try:
            return self._core.get_property(self._target, name)
        except RuntimeError as error:
            raise DeviceFailed(f"openvino lists {self._target} but cannot use it: {_last_line(error)}") from error

    def _pick_precision(self, precision: str, model: openvino.Model, spec: ModelSpec) -> str:
        """Returns the precision to compute in, and sets that of the parts of an int8 model that are not in int8."""
        native = self._property("OPTIMIZATION_CAPABILITIES")
        if precision not in ("auto", "int8", *HINTS):
            raise ConfigError(f"no precision named {precision!r}; expected one of: auto, int8, {', '.join(HINTS)}")
        if "int8" in (precision, spec.precision):
            check_precision(self.name, spec.precision, precision)
            self._hint = HINTS[self._fastest_precision(native, model, spec.auto_precision)]
            return "int8"
        picked = self._fastest_precision(native, model, spec.auto_precision) if precision == "auto" else precision
        self._hint = HINTS[picked]
        if picked.upper() not in native and (picked != "fp32" or self._target.startswith("NPU")):
            raise EngineUnavailable(f"{self.device} does not compute {picked}")
        return picked

    def _fastest_precision(self, native: Sequence[str], model: openvino.Model, recorded: str) -> str:
        """Returns the fastest precision of floating point that is accurate enough.

        native: those of the device. recorded: the `auto_precision` of the model's metadata.
        """
        # Never fp16 on a CPU: one that computes bf16 runs fp16 ten times slower.
        fast = "BF16" if self._target == "CPU" else "FP16"
        overflows = self._target != "CPU" and overflows_in_fp16(self._openvino.__version__, model)
        if fast not in native or overflows:
            return "fp32"
        if recorded == "fp32" and fast == "BF16":
            log.warning("%s: bf16 costs this model too much accuracy, as its file says: computing in fp32", self._path.stem)
            return "fp32"
        return fast.lower()

    def _compile(self, width: int, height: int) -> deque[_Request]:
        check_size(width, height, self.size)
        try:
            folder = cache_folder("openvino")
            with self._file.on_disk() as path:
                model = read_model(self._core, path)
                if self.size is None:
                    model.reshape([1, height, width, 3])
                compiled = self._core.compile_model(model, self._target, self._properties(folder))
        except RuntimeError as error:
            raise EngineError(f"openvino cannot compile {self._path} for {width}x{height}: {_last_line(error)}") from error
        if folder is not None:
            shrink_cache(folder)
        return deque(_Request(self._openvino, compiled) for _ in range(IN_FLIGHT))

    def _properties(self, folder: Path | None) -> dict[str, str]:
        properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self._hint}
        if self._threads is not None:
            properties["INFERENCE_NUM_THREADS"] = str(self._threads)
        return properties if folder is None else properties | {"CACHE_DIR": str(folder)}

    def limit_threads(self, threads: int) -> None:
        if self._target != "CPU":
            raise ThreadsRefused(self.name, self.device)
        self._threads = threads

    def prepare(self, width: int, height: int) -> None:
        self._requests.get(width, height)

    def run(self, frame: Image) -> Image:
        return self.submit(frame).result()

    def submit(self, frame: Image) -> Future[Image]:
        requests = self._requests.get(*check_frame(frame, self.size))
        if self._target == "CPU":  # one frame uses all cores; a second one in flight would only distort the timings
            return Completed(requests[0].run(frame))
        requests.rotate()
        return requests[0].submit(frame)

    def close(self) -> None:
        self._requests.close()


def overflows_in_fp16(version: str, model: openvino.Model) -> bool:
    """Returns whether a norm may overflow on Intel GPUs: before 2026.3, OpenVINO summed squares in fp16, which ends at 65,504.

    We do not require 2026.3, because it has no wheels for Intel Macs.
    """
    year, release = (int(part) for part in version.split(".")[:2])
    return (year, release) < (2026, 3) and any(node.get_type_name() == "MVN" for node in model.get_ops())


class _Request:
    """One frame in flight. Holds the memory that OpenVINO reads and writes, which must outlive the computation."""

    def __init__(self, library: ModuleType, compiled: openvino.CompiledModel) -> None:
        self._library = library
        self._request = compiled.create_infer_request()
        self._memory: tuple[Image, Image] | None = None  # declared after the request, so that it is freed later

    def run(self, frame: Image) -> Image:
        """Computes the output of the frame, and waits for it."""
        with _engine_errors(frame):
            styled = self._bind(frame)
            self._request.infer()
        return styled

    def submit(self, frame: Image) -> Future[Image]:
        """Waits for the previous frame, then starts this one."""
        with _engine_errors(frame):
            self._request.wait()
            styled = self._bind(frame)
            self._request.start_async()

        def wait() -> Image:
            with _engine_errors(frame):
                self._request.wait()
            return styled

        return Deferred(wait)

    def _bind(self, frame: Image) -> Image:
        """Binds the request's input and output memory; returns the output."""
        frame = dense(frame)
        styled = np.empty_like(frame)  # the request writes into it directly, and the caller gets it
        self._memory = frame, styled
        self._request.set_input_tensor(self._library.Tensor(frame[None], shared_memory=True))
        self._request.set_output_tensor(self._library.Tensor(styled[None], shared_memory=True))
        return styled

    def finish(self) -> None:
        """Waits for the frame in flight, and ignores its errors."""
        with suppress(RuntimeError):
            self._request.wait()


def _wait_for_all(requests: deque[_Request]) -> None:
    for request in requests:
        request.finish()


@contextmanager
def _engine_errors(frame: Image) -> Iterator[None]:
    """Raises OpenVINO's errors as EngineError."""
    try:
        yield
    except RuntimeError as error:
        raise EngineError(f"openvino failed on a frame of {frame.shape[1]}x{frame.shape[0]}: {_last_line(error)}") from error


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
