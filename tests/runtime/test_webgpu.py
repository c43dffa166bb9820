"""The engine `webgpu`: a model's output, the adapter that it uses, and its errors. Computes on SwiftShader without a GPU."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cyclecast.errors import EngineNotInstalled, EngineUnavailable
from cyclecast.runtime import vulkan
from cyclecast.runtime.engine import Engine
from cyclecast.runtime.engines import open_engine, webgpu
from cyclecast.runtime.engines.webgpu import ALLOW_SOFTWARE, find_vulkan_adapter, hardware_name, is_software_allowed
from cyclecast.runtime.vulkan import Adapter, list_adapters
from tests.conftest import SWIFTSHADER

GOLDEN = Path(__file__).parent.parent / "golden" / "models"
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Vulkan is used on Linux only")


def open_or_skip(model: Path, device: str = "gpu", precision: str = "auto") -> Engine:
    try:
        return open_engine(model, "webgpu", device, precision)
    except EngineUnavailable as error:
        pytest.skip(str(error))


def test_the_output_equals_the_recorded_one_and_the_debug_log_names_the_nodes_on_the_cpu(
    software_gpu: None, caplog: pytest.LogCaptureFixture
) -> None:
    with np.load(GOLDEN / "expected.npz") as arrays:
        expected = dict(arrays)
    with caplog.at_level(logging.DEBUG):
        engine = open_or_skip(GOLDEN / "frame-fp32.onnx")
        styled = engine.run(expected["frame"])
    assert np.abs(styled.astype(int) - expected["fp32"]).max() <= 1
    assert (engine.name, engine.precision) == ("webgpu", "fp32")
    (line,) = [record.getMessage() for record in caplog.records if "runs on the CPU" in record.getMessage()]
    assert line.startswith("webgpu runs on the CPU at 64x48: ") and ("Round" in line or line.endswith("no node"))
    if sys.platform == "linux":
        assert engine.device == list_adapters()[0].name
    if is_software_allowed():
        assert "SwiftShader" in engine.device
        with pytest.raises(EngineUnavailable, match="webgpu cannot run .* on SwiftShader .*: Program .* requires f16 but"):
            open_engine(GOLDEN / "frame-fp16.onnx", "webgpu")


def test_a_missing_package_device_or_precision_is_an_error(software_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = GOLDEN / "frame-fp32.onnx"
    open_or_skip(model)
    for device in ("cpu", "cuda:0", "gpu:1"):
        with pytest.raises(EngineUnavailable, match=f"webgpu runs on gpu, .*, not on '{device}'"):
            open_engine(model, "webgpu", device)
    with pytest.raises(EngineUnavailable, match="computes this model in fp32, not in fp16"):
        open_engine(model, "webgpu", precision="fp16")
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_webgpu", None)
    with pytest.raises(EngineNotInstalled, match=r"pip install 'cyclecast\[webgpu\]'"):
        open_engine(model, "webgpu")


@on_linux
def test_a_software_adapter_is_used_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    software, board = Adapter("llvmpipe", "software"), Adapter("V3D 7.1", "integrated")
    monkeypatch.setattr(webgpu, "list_adapters", lambda: [software])
    monkeypatch.delenv(ALLOW_SOFTWARE, raising=False)
    with pytest.raises(EngineUnavailable, match=f"finds no GPU here, only llvmpipe, .*{ALLOW_SOFTWARE}=1"):
        find_vulkan_adapter()
    monkeypatch.setenv(ALLOW_SOFTWARE, "1")
    assert find_vulkan_adapter() == software
    monkeypatch.setattr(webgpu, "list_adapters", lambda: [board, software])
    assert find_vulkan_adapter() == board
    monkeypatch.setattr(webgpu, "list_adapters", list)
    with pytest.raises(EngineUnavailable, match="no GPU with a Vulkan driver: sudo apt install mesa-vulkan-drivers"):
        find_vulkan_adapter()
    monkeypatch.setattr(webgpu, "list_adapters", lambda: list_adapters("libmissing.so.1"))
    with pytest.raises(EngineUnavailable, match="sudo apt install libvulkan1"):
        find_vulkan_adapter()


@on_linux
def test_vulkan_lists_the_adapters_of_its_drivers_the_fastest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        monkeypatch.setenv("VK_DRIVER_FILES", os.devnull)
        assert list_adapters() == []
    except OSError as error:
        pytest.skip(str(error))
    if SWIFTSHADER.exists():
        monkeypatch.setenv("VK_DRIVER_FILES", str(SWIFTSHADER))
        (adapter,) = list_adapters()
        assert "SwiftShader" in adapter.name and adapter.is_software
    types = iter(["software", "virtual", "integrated", "discrete"])
    monkeypatch.setattr(vulkan, "_describe", lambda library, handle: Adapter("a GPU", next(types)))
    handles = SimpleNamespace(
        vkCreateInstance=lambda *arguments: 0,
        vkEnumeratePhysicalDevices=lambda instance, count, array: fill(count._obj, array, 4),
        vkDestroyInstance=lambda *arguments: None,
    )
    monkeypatch.setattr("ctypes.CDLL", lambda name: handles)
    assert [adapter.type for adapter in list_adapters("a loader of four")] == ["discrete", "integrated", "software", "virtual"]


def fill(count: object, array: object, length: int) -> None:
    """Enumerates `length` devices, as Vulkan does: first their number, then their handles."""
    count.value = length  # type: ignore[attr-defined]
    for index in range(length if array is not None else 0):
        array[index] = index + 1  # type: ignore[index]


HIDDEN = """
import sys
from pathlib import Path
from cyclecast.errors import EngineUnavailable
from cyclecast.runtime.engines import open_engine, webgpu
from cyclecast.runtime.vulkan import Adapter

webgpu.list_adapters = lambda: [Adapter("a GPU that WebGPU's library rejects", "integrated")]
try:
    open_engine(Path(sys.argv[1]), "webgpu")
except EngineUnavailable as error:
    print(error)
"""


@on_linux
@pytest.mark.skipif(not SWIFTSHADER.exists(), reason="needs Debian's chromium")
def test_a_gpu_that_the_library_rejects_is_not_replaced_by_software(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime does not list this GPU either, so it takes the plugin's device for software adapters to get so far."""
    pytest.importorskip("onnxruntime_ep_webgpu")
    monkeypatch.delenv(ALLOW_SOFTWARE, raising=False)
    monkeypatch.setenv("VK_DRIVER_FILES", str(SWIFTSHADER))
    command = [sys.executable, "-c", HIDDEN, str(GOLDEN / "frame-fp32.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("webgpu cannot run this model on a GPU that"), done.stderr
    assert "Failed to get a WebGPU adapter: No supported adapters" in done.stdout


def test_devices_are_named_after_their_hardware() -> None:
    windows = SimpleNamespace(type="OrtHardwareDeviceType.GPU", vendor="AMD", metadata={"Description": "AMD Radeon RX 7600"})
    apple = SimpleNamespace(type="OrtHardwareDeviceType.GPU", vendor="Apple", metadata={})
    assert [hardware_name(device) for device in (windows, apple)] == ["AMD Radeon RX 7600", "Apple GPU"]
