"""WebGPU: ONNX Runtime's plugin for GPUs of any maker, through Vulkan on Linux, Direct3D 12 on Windows, Metal on macOS."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from cyclecast.errors import EngineNotInstalled, EngineUnavailable, ModelError
from cyclecast.runtime.engine import DeviceFailed
from cyclecast.runtime.engines.onnxruntime import OnnxRuntimeEngine, Provider, Run
from cyclecast.runtime.model_file import ModelFile
from cyclecast.runtime.vulkan import Adapter, list_adapters

log = logging.getLogger(__name__)

PROVIDER = "WebGpuExecutionProvider"
REGISTERED_AS = "cyclecast-webgpu"
OPTIONS = {"preserveDevice": "1"}  # shaders that one session compiled serve the next
ALLOW_SOFTWARE = "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER"  # the plugin's own variable: 1 allows programs that compute on the CPU
DISABLED_DRIVERS = "VK_LOADER_DRIVERS_DISABLE"  # the Vulkan loader's own variable: patterns of driver files
SOFTWARE_DRIVERS = "*lvp_icd*,*swiftshader*"  # llvmpipe and SwiftShader

_lock = threading.Lock()


class WebGpuEngine(OnnxRuntimeEngine):
    """Runs the graph on one GPU, and the nodes that the plugin has no kernel for on the CPU; the debug log names them.

    The plugin chooses the GPU, a discrete one if there is one, and uses it in the whole process. A program that computes on the
    CPU in place of a GPU (llvmpipe, SwiftShader) is used only if `ALLOW_SOFTWARE` is 1.
    """

    name = "webgpu"
    _has_started = False  # whether this process has opened the GPU

    def __init__(self, model: Path | ModelFile, device: str, precision: str) -> None:
        try:
            import onnxruntime  # noqa: F401
            import onnxruntime_ep_webgpu
        except ImportError as error:
            needs = "webgpu needs Python 3.11 or later, and" if sys.version_info < (3, 11) else "webgpu is not installed:"
            raise EngineNotInstalled(f"{needs} pip install 'cyclecast[webgpu]'") from error
        self._plugin = onnxruntime_ep_webgpu
        super().__init__(model, device, precision)

    def _pick_device(self, device: str) -> tuple[str, int | None, list[Provider]]:
        if device not in ("auto", "gpu"):
            raise EngineUnavailable(f"webgpu runs on gpu, which is the one that its library chooses, not on {device!r}")
        adapter = find_vulkan_adapter() if sys.platform == "linux" else None
        devices = register_plugin(self._onnxruntime, self._plugin.get_library_path())
        if not devices:
            raise EngineUnavailable("webgpu finds no GPU here")
        self._ep_device = devices[0]
        return adapter.name if adapter else hardware_name(devices[0].device), 0, [(PROVIDER, {})]

    def _add_providers(self, options: Any, cuda_graph: bool) -> list[Provider]:
        options.add_provider_for_devices([self._ep_device], OPTIONS)
        if log.isEnabledFor(logging.DEBUG):
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        return []

    def _open(self, dimensions: dict[str, int], cuda_graph: bool = False) -> Any:
        try:
            with _lock, _without_software_drivers() if not WebGpuEngine._has_started else nullcontext():
                session = super()._open(dimensions)
                WebGpuEngine._has_started = True
            return session
        except ModelError as error:
            if not self._opens_on_cpu():
                raise
            # Without the plugin's source file and function, which come first.
            reason = re.split(r" was false\. |\.cc:\d+ \w+ ", " ".join(str(error.__cause__).split()))[-1][:200]
            raise DeviceFailed(f"webgpu cannot run this model on {self.device}: {reason}") from error

    def _open_for_size(self, fixed: dict[str, int], shape: tuple[int, ...]) -> Run:
        session = self._open(fixed)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("webgpu runs on the CPU at %dx%d: %s", shape[2], shape[1], ", ".join(cpu_nodes(session)) or "no node")
        return lambda batch: np.asarray(session.run(None, {self._input: batch})[0], np.uint8)


def find_vulkan_adapter() -> Adapter:
    """Returns the adapter of Vulkan that the plugin will use. Raises EngineUnavailable if there is none that it may use."""
    try:
        adapters = list_adapters()
    except OSError as error:
        raise EngineUnavailable("webgpu needs the Vulkan loader: sudo apt install libvulkan1") from error
    allowed = [adapter for adapter in adapters if is_software_allowed() or not adapter.is_software]
    if allowed:
        return allowed[0]
    if adapters:
        names = ", ".join(adapter.name for adapter in adapters)
        raise EngineUnavailable(
            f"webgpu finds no GPU here, only {names}, which computes on the CPU ({ALLOW_SOFTWARE}=1 allows it)"
        )
    raise EngineUnavailable(
        "webgpu finds no GPU with a Vulkan driver: sudo apt install mesa-vulkan-drivers (AMD, Intel), or NVIDIA's own driver"
    )


def is_software_allowed() -> bool:
    """Returns whether the user allows programs that compute on the CPU in place of a GPU."""
    return os.environ.get(ALLOW_SOFTWARE) == "1"


def register_plugin(onnxruntime: Any, path: str) -> list[Any]:
    """Registers the plugin in this process, if it is not yet, and returns its devices, the fastest first.

    On Linux, ONNX Runtime lists only GPUs on the PCI bus with a kernel driver. For those that only Vulkan lists, the plugin
    offers the device that stands for software adapters; the adapter behind it is the same for all of the plugin's devices.
    """
    with _lock:
        for variables in ({}, {ALLOW_SOFTWARE: "1"}) if sys.platform == "linux" else ({},):
            if devices := _listed_devices(onnxruntime):
                return devices
            try:
                with _environment(variables):
                    onnxruntime.register_execution_provider_library(REGISTERED_AS, path)
            except Exception as error:  # its exception types are private, and an old version lacks the function
                log.debug("onnxruntime cannot register %s", path, exc_info=True)
                reason = " ".join(str(error).split())[:200]
                raise EngineUnavailable(
                    f"webgpu: this onnxruntime cannot load the plugin ({reason}): pip install --upgrade 'cyclecast[webgpu]'"
                ) from error
            if devices := _listed_devices(onnxruntime):
                return devices
            onnxruntime.unregister_execution_provider_library(REGISTERED_AS)
        return []


def hardware_name(hardware: Any) -> str:
    """Returns the name of a device of ONNX Runtime, for people. Linux and macOS do not report one."""
    device_type = str(hardware.type).rpartition(".")[2]  # CPU stands for software adapters
    return hardware.metadata.get("Description") or f"{hardware.vendor} {'GPU' if device_type == 'GPU' else 'software adapter'}"


def cpu_nodes(session: Any) -> Sequence[str]:
    """Lists the nodes ("Round node_round_1") of a session that records its assignments and that the plugin does not run."""
    subgraphs = session.get_provider_graph_assignment_info()
    return [f"{node.op_type} {node.name}" for part in subgraphs if part.ep_name != PROVIDER for node in part.get_nodes()]


def _listed_devices(onnxruntime: Any) -> list[Any]:
    devices = [
        device
        for device in onnxruntime.get_ep_devices()
        if device.ep_name == PROVIDER and "is_virtual" not in device.device.metadata  # a virtual one only compiles
    ]
    return sorted(devices, key=lambda device: int(device.device.metadata.get("DxgiHighPerformanceIndex", 0)))  # Windows


@contextmanager
def _without_software_drivers() -> Iterator[None]:
    """Hides software drivers from the Vulkan loader, which WebGPU's library would use if it rejects all GPUs."""
    patterns = [os.environ.get(DISABLED_DRIVERS), SOFTWARE_DRIVERS]
    with _environment({} if is_software_allowed() else {DISABLED_DRIVERS: ",".join(filter(None, patterns))}):
        yield


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets variables of the environment, and restores them afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
