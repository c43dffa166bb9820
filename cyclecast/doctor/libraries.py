"""Which engines are installed here, and on which devices they really run: nothing is believed that was not tried."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from cyclecast.errors import EngineError
from cyclecast.isolated import call, last_line

SECONDS = 120.0  # for each thing that is tried: disks and processors may be slow, and a first touch of a GPU compiles kernels
INSTALL = {
    "openvino": "pip install openvino",
    "onnxruntime": "pip install onnxruntime",
    "onnxruntime on NVIDIA": "pip install 'cyclecast[gpu]'",
    "tensorrt": "pip install 'cyclecast[tensorrt]'",
    "tensorrt-rtx": "pip install 'cyclecast[tensorrt-rtx]'",
    "torch": "pip install 'cyclecast[train]'",
}
REMOTE = "AzureExecutionProvider"  # asks a service on the network; a model without its nodes runs on the CPU
SLOW_TO_BUILD = ("TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")  # opened, but no frame is run

Owners = Mapping[str, Sequence[str]]
"""Module -> names of the distributions that brought it, as `importlib.metadata.packages_distributions` tells."""


@dataclass(frozen=True)
class Device:
    """Something that a library can compute on."""

    name: str
    """As the library names it: CPU, CUDAExecutionProvider, cuda:0."""
    description: str
    precisions: list[str]
    """That it computes natively; empty where the library does not say."""
    works: bool | None
    """A frame went through the bundled model on it; None: that was not tried."""
    failure: str | None
    """Why it does not work."""


@dataclass(frozen=True)
class Library:
    """An engine's library, or PyTorch."""

    name: str
    """As in `--engine`."""
    installed: bool
    version: str | None
    packages: list[str]
    """The distributions that own its module, with their versions; more than one overwrite each other."""
    failure: str | None
    """Why it cannot be loaded, though it is installed."""
    devices: list[Device]
    install: str
    """The line to type."""

    @property
    def loads(self) -> bool:
        return self.installed and self.failure is None

    @property
    def runs(self) -> bool:
        """A frame went through it on one of its devices."""
        return any(device.works for device in self.devices)


def find_openvino(owners: Owners) -> Library:
    """Its devices; CPU and GPU are each given a frame."""

    def devices(found: dict[str, Any]) -> list[Device]:
        out = []
        for name, (description, capabilities) in found["devices"].items():
            kind = name.partition(".")[0].lower()
            tried = call(run_a_frame, "openvino", kind, seconds=SECONDS) if kind in ("cpu", "gpu") else None
            precisions = [word for word in ("fp32", "bf16", "fp16", "int8") if word.upper() in capabilities]
            works, failure = (None, None) if tried is None else (tried.failure is None, tried.failure)
            out.append(Device(name, description, precisions, works, failure))
        return out

    return look("openvino", ["openvino"], owners, openvino_facts, devices)


def find_onnxruntime(owners: Owners) -> Library:
    """Every provider that it was built with is asked for by name; what the session got is what counts."""

    def devices(found: dict[str, Any]) -> list[Device]:
        out = []
        for provider in found["providers"]:
            if provider == REMOTE:
                out.append(Device(provider, "for models that ask Azure; computes nothing here", [], None, None))
                continue
            tried = call(start_provider, provider, seconds=SECONDS)
            got = tried.value or []
            failure = tried.failure or (None if provider in got else _why_not(provider, tried.output))
            out.append(Device(provider, f"the session got {', '.join(got) or 'none'}", [], failure is None, failure))
        return out

    return look("onnxruntime", ["onnxruntime"], owners, onnxruntime_facts, devices)


def find_tensorrt(owners: Owners) -> Library:
    """Loads it and asks CUDA for devices; no frame is run, since building a plan can take minutes."""
    return look("tensorrt", ["tensorrt"], owners, module_facts, lambda found: cuda_devices())


def find_tensorrt_rtx(owners: Owners) -> Library:
    """TensorRT for RTX, which builds in a second: each CUDA device is given a frame."""

    def devices(found: dict[str, Any]) -> list[Device]:
        out = []
        for device in cuda_devices():
            if device.works is None:
                tried = call(run_a_frame, "tensorrt-rtx", device.name, seconds=SECONDS)
                device = replace(device, works=tried.failure is None, failure=tried.failure)
            out.append(device)
        return out

    return look("tensorrt-rtx", ["tensorrt_rtx_bindings", "tensorrt_rtx"], owners, module_facts, devices)


def look(
    name: str,
    modules: Sequence[str],
    owners: Owners,
    facts: Callable[[str], dict[str, Any]],
    devices: Callable[[dict[str, Any]], list[Device]],
) -> Library:
    """A library by the first of its modules that is here. facts: called elsewhere with the module's name; devices: with those."""
    packages = sorted({owner for module in modules for owner in owners.get(module, ())})
    module = next((module for module in modules if _is_here(module)), None)
    if module is None and not packages:
        return Library(name, False, None, [], None, [], INSTALL[name])
    found = call(facts, module or modules[0], seconds=SECONDS)
    known = [(package, _version(package)) for package in packages]
    version = next((version for _, version in known if version), None) if len(known) == 1 else None
    return Library(
        name,
        True,
        version or (found.value or {}).get("version"),
        [f"{package} {version or '?'}" for package, version in known],
        found.failure,
        [] if found.failure else devices(found.value),
        INSTALL[name],
    )


def cuda_devices() -> list[Device]:
    """What CUDA's runtime counts; one that does not work, saying why, if there is none."""
    found = call(cuda_facts, seconds=SECONDS)
    if found.failure:
        return [Device("cuda", "", [], False, found.failure)]
    return [Device(f"cuda:{index}", description, [], None, None) for index, description in enumerate(found.value)]


def openvino_facts(module: str) -> dict[str, Any]:
    """{version, devices: {name: (full name, capabilities)}}."""
    from cyclecast.runtime.onnx_file import import_openvino

    openvino = import_openvino()
    core = openvino.Core()

    def about(device: str) -> tuple[str, list[str]]:
        return str(core.get_property(device, "FULL_DEVICE_NAME")).strip(), core.get_property(device, "OPTIMIZATION_CAPABILITIES")

    return {"version": openvino.__version__, "devices": {device: about(device) for device in core.available_devices}}


def onnxruntime_facts(module: str) -> dict[str, Any]:
    """{version, providers: those it was built with}."""
    import onnxruntime

    return {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}


def module_facts(module: str) -> dict[str, Any]:
    """{version} of a module that only has to load."""
    return {"version": getattr(importlib.import_module(module), "__version__", None)}


def cuda_facts() -> list[str]:
    """A line for each CUDA device. EngineUnavailable if there is none, or no way to ask."""
    from cyclecast.runtime.cuda import Gpu

    (count,) = Gpu(0).call("cudaGetDeviceCount")
    return [f"{gpu.name}, SM {gpu.capability}" for gpu in map(Gpu, range(count))]


def run_a_frame(engine: str, device: str) -> str:
    """One frame through the bundled model; the precision it ran in. Errors as `load` and the engine raise them."""
    import numpy as np

    from cyclecast.runtime.model import load

    with load("monet", engine, device) as model:
        model(np.zeros((32, 32, 3), np.uint8))
        return model.engine.precision


def start_provider(provider: str) -> list[str]:
    """The providers that a session really got which asked for this one; a frame has been through it."""
    import numpy as np
    import onnxruntime

    from cyclecast.runtime.model import find_model

    if "CUDA" in provider or "ensorr" in provider:  # their libraries may have come by pip, which only this finds
        onnxruntime.preload_dlls(directory="")
    session = onnxruntime.InferenceSession(str(find_model("monet")), providers=[provider])
    if provider not in SLOW_TO_BUILD:
        try:
            session.run(None, {session.get_inputs()[0].name: np.zeros((1, 32, 32, 3), np.uint8)})
        except Exception as error:  # its exception types are private and share no other base
            raise EngineError(f"no frame goes through it: {error}") from error
    return list(session.get_providers())


def _is_here(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None  # a folder that happens to be called so has no origin


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _why_not(provider: str, said: str) -> str:
    """Of all that ONNX Runtime writes when a provider drops out, the library that it missed."""
    missed = re.search(r"with error: (.+)", said)
    return missed[1].strip() if missed else last_line(said) or f"{provider} did not start, without a word why"
