"""Which engines are installed, and on which devices they really run: each one is tried."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from cyclecast.errors import EngineError
from cyclecast.isolated import call, last_line

LIBRARY_TIMEOUT_S = 120.0  # for each attempt: the disk may be slow, and the first use of a GPU compiles kernels
INSTALL = {
    "openvino": "pip install openvino",
    "onnxruntime": "pip install onnxruntime",
    "onnxruntime on NVIDIA": "pip install 'cyclecast[gpu]'",
    "tensorrt": "pip install 'cyclecast[tensorrt]'",
    "tensorrt-rtx": "pip install 'cyclecast[tensorrt-rtx]'",
    "webgpu": "pip install 'cyclecast[webgpu]'",
    "torch": "pip install 'cyclecast[train]'",
}
AZURE_PROVIDER = "AzureExecutionProvider"  # calls a service on the network; models without its operators run on the CPU
SLOW_PROVIDERS = ("TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")  # opened, but given no frame: they build first

Owners = Mapping[str, Sequence[str]]
"""Module -> names of the packages that installed it, as `importlib.metadata.packages_distributions` returns."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """A device that a library can compute on."""

    name: str
    """The library's name for it: CPU, CUDAExecutionProvider, cuda:0."""
    description: str
    precisions: list[str]
    """The precisions that it computes natively; empty if the library does not report them."""
    works: bool | None
    """Whether a frame went through the bundled model on it; None if that was not tried."""
    failure: str | None
    """Why it does not work."""


@dataclass(frozen=True)
class Library:
    """The library of an engine, or PyTorch."""

    name: str
    """The engine's name, as for `--engine`."""
    installed: bool
    version: str | None
    packages: list[str]
    """The packages that own its module, with versions. If there are several, they overwrite each other's files."""
    failure: str | None
    """Why it cannot be loaded, though it is installed."""
    devices: list[Device]
    install: str
    """The command that installs it."""

    @property
    def loads(self) -> bool:
        return self.installed and self.failure is None

    @property
    def runs(self) -> bool:
        """Whether a frame went through it on one of its devices."""
        return any(device.works for device in self.devices)


def find_openvino(owners: Owners) -> Library:
    """Finds OpenVINO and its devices. Runs a frame on each CPU, GPU and NPU."""

    def find_devices(facts: dict[str, Any]) -> list[Device]:
        devices = []
        for name, (description, capabilities) in facts["devices"].items():
            device_type, _, number = name.lower().partition(".")
            device = f"gpu:{number}" if device_type == "gpu" and number else device_type  # as for `--device`
            runs_frames = device_type in ("cpu", "gpu", "npu")
            result = call(run_frame, "openvino", device, seconds=LIBRARY_TIMEOUT_S) if runs_frames else None
            precisions = [word for word in ("fp32", "bf16", "fp16", "int8") if word.upper() in capabilities]
            works, failure = (None, None) if result is None else (result.failure is None, result.failure)
            devices.append(Device(name, description, precisions, works, failure))
        return devices

    return find_library("openvino", ["openvino"], owners, openvino_facts, find_devices)


def find_onnxruntime(owners: Owners) -> Library:
    """Finds ONNX Runtime and its execution providers. Requests each by name; the providers of the opened session count."""

    def find_devices(facts: dict[str, Any]) -> list[Device]:
        devices = []
        for provider in facts["providers"]:
            if provider == AZURE_PROVIDER:
                devices.append(Device(provider, "for models that call Azure; computes nothing here", [], None, None))
                continue
            result = call(start_provider, provider, seconds=LIBRARY_TIMEOUT_S)
            started = result.value or []
            failure = result.failure or (None if provider in started else _reason_for_failure(provider, result.output))
            description = f"the session uses {', '.join(started) or 'none'}"
            devices.append(Device(provider, description, [], failure is None, failure))
        return devices

    return find_library("onnxruntime", ["onnxruntime"], owners, onnxruntime_facts, find_devices)


def find_webgpu(owners: Owners) -> Library:
    """Finds ONNX Runtime's plugin for WebGPU, and the GPU that it chooses. Runs a frame on it."""

    def find_devices(facts: dict[str, Any]) -> list[Device]:
        result = call(run_frame, "webgpu", "gpu", seconds=LIBRARY_TIMEOUT_S)
        description, precision = result.value or ("", "")
        return [Device("gpu", description, [precision] if precision else [], result.failure is None, result.failure)]

    return find_library("webgpu", ["onnxruntime_ep_webgpu"], owners, module_facts, find_devices)


def find_tensorrt(owners: Owners) -> Library:
    """Finds TensorRT and the CUDA devices. Runs no frame, because building a plan can take minutes."""
    return find_library("tensorrt", ["tensorrt"], owners, module_facts, lambda facts: cuda_devices())


def find_tensorrt_rtx(owners: Owners) -> Library:
    """Finds TensorRT for RTX and the CUDA devices. Runs a frame on each, because building a plan takes only a second."""

    def find_devices(facts: dict[str, Any]) -> list[Device]:
        devices = []
        for device in cuda_devices():
            if device.works is None:
                result = call(run_frame, "tensorrt-rtx", device.name, seconds=LIBRARY_TIMEOUT_S)
                device = replace(device, works=result.failure is None, failure=result.failure)
            devices.append(device)
        return devices

    return find_library("tensorrt-rtx", ["tensorrt_rtx_bindings", "tensorrt_rtx"], owners, module_facts, find_devices)


def find_torch(owners: Owners) -> Library:
    """Finds PyTorch, which `train` and `export` need, and its devices."""

    def find_devices(facts: dict[str, Any]) -> list[Device]:
        return [Device(name, description, [], None, None) for name, description in facts["devices"]]

    return find_library("torch", ["torch"], owners, torch_facts, find_devices)


def find_library(
    name: str,
    modules: Sequence[str],
    owners: Owners,
    read_facts: Callable[[str], dict[str, Any]],
    find_devices: Callable[[dict[str, Any]], list[Device]],
) -> Library:
    """Finds a library by the first of its `modules` that is installed.

    read_facts: runs in a separate process with the name of the module. find_devices: gets its result.
    """
    packages = sorted({owner for module in modules for owner in owners.get(module, ())})
    module = next((module for module in modules if _is_installed(module)), None)
    if module is None and not packages:
        return Library(name, False, None, [], None, [], INSTALL[name])
    facts = call(read_facts, module or modules[0], seconds=LIBRARY_TIMEOUT_S)
    versions = {package: _version_of(package) for package in packages}
    version = versions[packages[0]] if len(packages) == 1 else None
    return Library(
        name,
        True,
        version or (facts.value or {}).get("version"),
        [f"{package} {version or '?'}" for package, version in versions.items()],
        facts.failure,
        [] if facts.failure else find_devices(facts.value),
        INSTALL[name],
    )


def cuda_devices() -> list[Device]:
    """Lists the devices of CUDA's runtime. If there are none, one that does not work, with the reason."""
    result = call(cuda_facts, seconds=LIBRARY_TIMEOUT_S)
    if result.failure:
        return [Device("cuda", "", [], False, result.failure)]
    return [Device(f"cuda:{index}", description, [], None, None) for index, description in enumerate(result.value)]


def openvino_facts(module: str) -> dict[str, Any]:
    """Returns {version, devices: {name: (full name, capabilities)}}."""
    from cyclecast.runtime.onnx_file import import_openvino

    openvino = import_openvino()
    core = openvino.Core()

    def describe(device: str) -> tuple[str, list[str]]:
        return str(core.get_property(device, "FULL_DEVICE_NAME")).strip(), core.get_property(device, "OPTIMIZATION_CAPABILITIES")

    return {"version": openvino.__version__, "devices": {device: describe(device) for device in core.available_devices}}


def onnxruntime_facts(module: str) -> dict[str, Any]:
    """Returns {version, providers: those that it was built with}."""
    import onnxruntime

    return {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}


def torch_facts(module: str) -> dict[str, Any]:
    """Returns {version, devices: [(name, description)]}."""
    import torch

    devices = [(f"cuda:{index}", torch.cuda.get_device_name(index)) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append(("mps", "Apple GPU"))
    return {"version": torch.__version__, "devices": [("cpu", ""), *devices]}


def module_facts(module: str) -> dict[str, Any]:
    """Returns {version} of any module."""
    return {"version": getattr(importlib.import_module(module), "__version__", None)}


def cuda_facts() -> list[str]:
    """Describes each CUDA device in one line. Raises EngineUnavailable if there is none, or no package to ask."""
    from cyclecast.runtime.cuda import Gpu

    (count,) = Gpu(0).call("cudaGetDeviceCount")
    return [f"{gpu.name}, SM {gpu.capability}" for gpu in map(Gpu, range(count))]


def run_frame(engine: str, device: str) -> tuple[str, str]:
    """Runs one frame through the bundled model. Returns the engine's device and precision; raises what `load` and `run` raise."""
    import numpy as np

    from cyclecast.runtime.model import load

    with load("monet", engine, device) as model:
        model(np.zeros((32, 32, 3), np.uint8))
        return model.engine.device, model.engine.precision


def start_provider(provider: str) -> list[str]:
    """Opens a session that requests this provider and runs a frame, unless that is slow. Returns the session's providers."""
    import numpy as np
    import onnxruntime

    from cyclecast.runtime.model import find_model

    if "CUDA" in provider or "ensorr" in provider:  # their libraries may have come by pip; only this call finds them there
        onnxruntime.preload_dlls(directory="")
    session = onnxruntime.InferenceSession(str(find_model("monet")), providers=[provider])
    if provider not in SLOW_PROVIDERS:
        try:
            session.run(None, {session.get_inputs()[0].name: np.zeros((1, 32, 32, 3), np.uint8)})
        except Exception as error:  # the exception types of ONNX Runtime are private and share no other base class
            log.debug("a frame failed on %s", provider, exc_info=True)
            raise EngineError(f"a frame failed on it: {error}") from error
    return list(session.get_providers())


def _is_installed(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None  # a folder that happens to have this name has no origin


def _version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _reason_for_failure(provider: str, output: str) -> str:
    """Finds the missing library in the messages that ONNX Runtime prints when it drops a provider."""
    missing = re.search(r"with error: (.+)", output)
    return missing[1].strip() if missing else last_line(output) or f"{provider} did not start and gave no reason"
