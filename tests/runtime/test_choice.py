"""What `auto` chooses, with stand-ins for GPUs and NPUs: devices that work, that do not start, and that compute another frame."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from cyclecast.cli.console import open_model
from cyclecast.errors import ConfigError, EngineError, EngineUnavailable, ModelError
from cyclecast.runtime import candidates, trial
from cyclecast.runtime.candidates import CANDIDATES, Candidate
from cyclecast.runtime.engine import Engine, Image
from cyclecast.runtime.engines import ENGINES, open_engine
from cyclecast.runtime.engines import onnxruntime as onnxruntime_engine
from cyclecast.runtime.engines.onnxruntime import COREML, CPU, CUDA, OnnxRuntimeEngine
from cyclecast.runtime.engines.openvino import OpenVinoEngine
from cyclecast.runtime.machine import processor_name
from cyclecast.runtime.onnx_file import openvino_core, openvino_library
from tests.conftest import moving_frames
from tests.documents import ROOT
from tests.runtime.test_engines import model_file


@pytest.fixture(autouse=True)
def only_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """No trial of another test counts, and no GPU of this machine."""
    monkeypatch.setattr(trial, "verdicts", {})
    for library in ("tensorrt", "tensorrt_rtx_bindings", "onnxruntime_ep_webgpu"):
        monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [CPU])


def name_of(engine: Engine) -> tuple[str, str, str]:
    """Returns (engine, device, precision), and closes the engine."""
    engine.close()
    return engine.name, engine.device, engine.precision


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns the warnings, each of which is one line, and forgets them."""
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert not any("\n" in line for line in lines)
    caplog.clear()
    return lines


class StandInCore:
    """OpenVINO's Core with more devices, which compute on the CPU.

    types: of the devices, DISCRETE or INTEGRATED; None: its driver does not answer. wrong: (device, precision hint) that compute
    another model. broken: devices on which nothing compiles. compiled: (device, precision hint) of each model that was compiled.
    """

    def __init__(self, types: dict[str, str | None], other_model: Path) -> None:
        self.types, self.other_model = types, other_model
        self.wrong: set[tuple[str, str]] = set()
        self.broken: set[str] = set()
        self.compiled: list[tuple[str, str]] = []

    @property
    def available_devices(self) -> list[str]:
        return ["CPU", *self.types]

    def get_property(self, name: str, key: str) -> Any:
        if name == "CPU":
            return openvino_core().get_property(name, key)
        kind = self.types[name]
        if kind is None:
            raise RuntimeError("Check failed\nno driver for it")
        return {
            "FULL_DEVICE_NAME": f"Intel {name}",
            "OPTIMIZATION_CAPABILITIES": ["FP16"] if name == "NPU" else ["FP32", "FP16"],
            "DEVICE_TYPE": getattr(openvino_library().properties.device.Type, kind),
        }[key]

    def compile_model(self, model: Any, device: str, properties: dict[str, str]) -> Any:
        hint = properties["INFERENCE_PRECISION_HINT"]
        self.compiled.append((device, hint))
        if device in self.broken:
            raise RuntimeError("Exception\nout of memory on the device")
        if (device, hint) in self.wrong:
            shape = model.inputs[0].partial_shape
            model = openvino_core().read_model(str(self.other_model))
            model.reshape(shape)
        return openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32" if device != "CPU" else hint})

    def __getattr__(self, name: str) -> Any:
        return getattr(openvino_core(), name)


@pytest.fixture
def core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInCore:
    """The Core of the OpenVINO engine from now on, with no devices but the CPU."""
    core = StandInCore({}, model_file(tmp_path / "identity.onnx", TensorProto.UINT8, [1, "h", "w", 3]))
    monkeypatch.setattr("cyclecast.runtime.engines.openvino.openvino_core", lambda: core)
    monkeypatch.setattr("cyclecast.runtime.engines.openvino.overflows_in_fp16", lambda version, model: False)
    return core


@pytest.fixture
def on_cpu(core: StandInCore, tiny_model: Path) -> tuple[str, str, str]:
    """What `auto` chooses without any other device."""
    return name_of(open_engine(tiny_model, "auto", "cpu"))


@pytest.mark.parametrize(
    ("types", "device", "chosen"),
    [
        ({"GPU": "INTEGRATED"}, "auto", "Intel GPU"),
        ({"GPU": "INTEGRATED", "NPU": "INTEGRATED"}, "auto", "Intel GPU"),
        ({"NPU": "INTEGRATED"}, "auto", "Intel NPU"),
        ({"GPU.0": "INTEGRATED", "GPU.1": "DISCRETE"}, "auto", "Intel GPU.1"),
        ({"GPU.0": "INTEGRATED", "GPU.1": "DISCRETE"}, "gpu", "Intel GPU.1"),
        ({"GPU.0": "INTEGRATED", "GPU.1": "DISCRETE"}, "gpu:0", "Intel GPU.0"),
        ({"GPU": "DISCRETE"}, "gpu:0", "Intel GPU"),
        ({"GPU": "DISCRETE", "NPU": "INTEGRATED"}, "npu", "Intel NPU"),
    ],
    ids=str,
)
def test_an_intel_gpu_or_npu_is_chosen_after_a_trial_unless_it_was_requested(
    types: dict[str, str], device: str, chosen: str, core: StandInCore, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    core.types = dict(types)
    target = chosen.removeprefix("Intel ")
    for engine in ("auto", "openvino"):
        core.compiled.clear()
        trial.verdicts.clear()
        assert name_of(open_engine(tiny_model, engine, device)) == ("openvino", chosen, "fp16")
        is_choice = "auto" in (engine, device)
        assert core.compiled == ([(target, "f16"), ("CPU", "f32")] if is_choice else [])
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("device", ["gpu", "gpu:1", "npu", "gpu:x", "cpu:0", "npu:0", "tpu"])
def test_a_requested_device_that_is_absent_is_an_error(device: str, core: StandInCore, tiny_model: Path) -> None:
    core.types = {"GPU": "DISCRETE"} if device == "gpu:1" else {}
    with pytest.raises(EngineUnavailable, match=r"openvino finds no \S+ here, only: CPU|openvino runs on cpu, gpu, gpu:N or npu"):
        open_engine(tiny_model, "openvino", device)
    with pytest.raises(EngineUnavailable, match="no engine can run it here: ") as error:
        open_engine(tiny_model, "auto", device)
    assert ("tensorrt" in str(error.value)) == (device != "npu")  # which no other engine has
    assert core.compiled == []


def test_a_device_that_computes_another_frame_gets_fp32_and_then_the_next_candidate_gets_its_turn(
    core: StandInCore, tiny_model: Path, on_cpu: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    core.types = {"GPU": "INTEGRATED", "NPU": "INTEGRATED"}
    core.wrong = {("GPU", "f16")}

    def printed() -> list[str]:
        with open_model(str(tiny_model), "auto", "auto", "auto") as model:
            assert np.array_equal(model(moving_frames(1)[0]), expected) == (model.engine.precision == "fp32")
        return capsys.readouterr().err.splitlines()

    expected = open_engine(tiny_model, "openvino", "cpu", "fp32").run(moving_frames(1)[0])
    reason = r"openvino fp16 on Intel {} computes another frame than the CPU: \d+\.\d dB, expected at least 40; using openvino {}"
    warned, chosen = printed()
    assert re.fullmatch(reason.format("GPU", "fp32 on Intel GPU"), warned) and chosen == "tiny on openvino fp32, Intel GPU"
    core.compiled.clear()
    assert printed()[-1] == chosen and ("CPU", "f32") not in core.compiled  # found out before: nothing is compared again
    core.wrong |= {("GPU", "f32"), ("NPU", "f16")}
    trial.verdicts.clear()
    opened = open_engine(tiny_model)
    assert name_of(opened) == on_cpu


def test_a_device_that_does_not_compile_or_answer_is_passed_over_in_one_line(
    core: StandInCore, tiny_model: Path, on_cpu: tuple[str, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    core.types, core.broken = {"GPU": None, "NPU": "INTEGRATED"}, {"NPU"}
    for engine in ("auto", "openvino"):
        assert name_of(open_engine(tiny_model, engine)) == on_cpu
        unanswered, uncompiled = warnings_of(caplog)
        assert unanswered == "openvino lists GPU but cannot use it: no driver for it; trying the next candidate"
        assert uncompiled.endswith(f"for 64x64: out of memory on the device; using openvino {on_cpu[2]} on {on_cpu[1]}")
    with pytest.raises(EngineUnavailable, match="openvino lists GPU but cannot use it: no driver for it"):
        open_engine(tiny_model, "openvino", "gpu")
    with pytest.raises(EngineUnavailable, match="Intel NPU does not compute fp32"):
        open_engine(tiny_model, "openvino", "npu", "fp32")
    with pytest.raises(EngineError, match="out of memory on the device"):  # nothing else is left
        open_engine(tiny_model, "auto", "npu")


def test_nothing_is_compiled_where_only_a_cpu_exists(
    core: StandInCore, tiny_model: Path, on_cpu: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a frame was tried")

    monkeypatch.setattr(OpenVinoEngine, "run", refuse)
    monkeypatch.setattr(OnnxRuntimeEngine, "run", refuse)
    for engine in ("auto", "openvino", "onnxruntime"):
        assert name_of(open_engine(tiny_model, engine))[1] == on_cpu[1]
    assert core.compiled == []


class StandInSession:
    """A session that claims other providers than the CPU's but computes there."""

    def __init__(self, session: Any, providers: list[str]) -> None:
        self._session, self._providers = session, providers

    def get_providers(self) -> list[str]:
        return self._providers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


@pytest.fixture
def provider(core: StandInCore, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Makes onnxruntime list a provider. name: its name; starts: whether it starts; raises: what a session with it raises."""
    import onnxruntime

    state = SimpleNamespace(name=CUDA, starts=True, raises=None, options=None)
    real, in_place = onnxruntime.InferenceSession, onnxruntime_engine.in_place

    def open_session(path: str, options: Any = None, providers: Any = (), **settings: Any) -> Any:
        pairs = [provider if isinstance(provider, tuple) else (provider, {}) for provider in providers]
        requested: dict[str, Any] = dict(pairs)
        state.options = requested.get(state.name, state.options)
        if state.name in requested and state.raises is not None:
            raise state.raises
        session = real(path, options, providers=[CPU])
        kept = [name for name in requested if name != state.name or state.starts]
        return StandInSession(session, list(dict.fromkeys([*kept, CPU])))

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [state.name, CPU])
    monkeypatch.setattr(onnxruntime_engine, "in_place", lambda session, shape, device, index: in_place(session, shape, "cpu", 0))
    return state


def test_auto_prefers_cuda_to_intel_and_the_cpu(core: StandInCore, tiny_model: Path, provider: SimpleNamespace) -> None:
    core.types = {"GPU": "DISCRETE"}
    for engine, device in (("auto", "auto"), ("onnxruntime", "auto"), ("auto", "gpu"), ("auto", "cuda:0")):
        assert name_of(open_engine(tiny_model, engine, device)) == ("onnxruntime", "cuda:0", "fp32")
    assert open_engine(tiny_model, "auto", "cpu").name == "openvino"
    assert open_engine(tiny_model, "openvino").device == "Intel GPU"
    assert open_engine(tiny_model, "onnxruntime", "cpu").device == processor_name()


@pytest.mark.parametrize("raises", [None, RuntimeError("CUDA failure 35: driver too old")], ids=["drops out", "raises"])
def test_auto_logs_why_a_gpu_does_not_start_and_tries_the_next_engine(
    raises: Exception | None, tiny_model: Path, provider: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    provider.starts, provider.raises = False, raises
    assert open_engine(tiny_model).name == "openvino"
    engine = open_engine(tiny_model, "onnxruntime")
    assert engine.device == processor_name()
    assert engine.run(moving_frames(1)[0]).shape == (48, 64, 3)
    reasons = warnings_of(caplog)
    assert len(reasons) == 2 and all("onnxruntime could not start CUDAExecutionProvider" in reason for reason in reasons)
    assert raises is None or all(str(raises) in reason for reason in reasons)
    for device in ("gpu", "cuda:0"):
        with pytest.raises(EngineUnavailable, match="could not start CUDAExecutionProvider"):
            open_engine(tiny_model, "onnxruntime", device)
        with pytest.raises(EngineUnavailable, match="no engine can run it here: .*could not start CUDAExecutionProvider"):
            open_engine(tiny_model, "auto", device)


def test_a_mac_computes_with_core_ml(
    core: StandInCore, tiny_model: Path, provider: SimpleNamespace, on_cpu: tuple[str, str, str]
) -> None:
    with pytest.raises(EngineUnavailable, match="this onnxruntime has no Core ML"):
        open_engine(tiny_model, "onnxruntime", "coreml")
    provider.name = COREML
    chosen = ("onnxruntime", f"{processor_name()}, Core ML", "fp32")
    for engine, device in (("auto", "auto"), ("onnxruntime", "auto"), ("onnxruntime", "gpu"), ("onnxruntime", "coreml")):
        assert name_of(open_engine(tiny_model, engine, device)) == chosen
    assert provider.options["RequireStaticInputShapes"] == "1"
    with pytest.raises(ConfigError, match="no effect on onnxruntime, which computes on .*Core ML"):
        open_engine(tiny_model, "onnxruntime", "coreml", threads=1)
    provider.starts = False
    assert name_of(open_engine(tiny_model)) == on_cpu


def test_a_broken_model_is_a_model_error_even_with_a_gpu(tmp_path: Path, provider: SimpleNamespace) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    for engine in ("auto", "onnxruntime"):
        with pytest.raises(ModelError, match="text.onnx: not a model cyclecast can run"):
            open_engine(tmp_path / "text.onnx", engine)


class NewEngine(OnnxRuntimeEngine):
    """An engine that one more line of the table adds. returns: what it makes of the right output."""

    name = "new"
    requested: list[tuple[str, str]] = []

    def __init__(self, model: Any, device: str, precision: str) -> None:
        type(self).requested.append((device, precision))
        super().__init__(model, "cpu", "auto")
        self.device = "a new GPU"

    @staticmethod
    def returns(styled: Image) -> Image:
        return styled

    def run(self, frame: Image) -> Image:
        return self.returns(super().run(frame))


def lose_the_device(styled: Image) -> Image:
    raise RuntimeError("Device lost.\nTry again")


@pytest.mark.parametrize(
    ("returns", "reason"),
    [
        (lambda styled: styled, None),
        (lambda styled: (styled // 2 * 2).astype(np.uint8), None),  # the rounding of fp16 or bf16 is less
        (lambda styled: np.clip(styled.astype(int) + 4, 0, 255).astype(np.uint8), r"another frame than the CPU: 3\d\.\d dB"),
        (lambda styled: np.zeros_like(styled), r"another frame than the CPU: \d\.\d dB"),
        (lose_the_device, r"new failed on a new GPU: Device lost\. Try again; using openvino"),
    ],
    ids=["equal", "rounded", "lighter", "black", "raises"],
)
def test_one_line_in_the_table_adds_an_engine_that_is_tried_first(
    returns: Any,
    reason: str | None,
    tiny_model: Path,
    on_cpu: tuple[str, str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(ENGINES, "new", NewEngine)
    monkeypatch.setattr(NewEngine, "returns", staticmethod(returns))
    monkeypatch.setattr(NewEngine, "requested", [])
    row = Candidate("new", "gpu", "other GPUs")
    monkeypatch.setattr(candidates, "CANDIDATES", (row, *CANDIDATES))
    assert name_of(open_engine(tiny_model)) == (("new", "a new GPU", "fp32") if reason is None else on_cpu)
    assert NewEngine.requested == [("gpu", "auto")]
    assert open_engine(tiny_model, "new").name == "new"  # requested, and it has one device: there is nothing to choose
    assert NewEngine.requested[1:] == [("gpu", "auto")]
    lines = warnings_of(caplog)
    assert len(lines) == (reason is not None) and all(re.search(str(reason), line) for line in lines)


def test_without_an_engine_on_the_cpu_a_frame_that_runs_is_enough(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cyclecast.runtime.engines.ENGINES", {"new": NewEngine})
    monkeypatch.setattr(NewEngine, "returns", staticmethod(np.zeros_like))
    monkeypatch.setattr(candidates, "CANDIDATES", (Candidate("new", "gpu", "other GPUs"), *CANDIDATES))
    assert open_engine(tiny_model).name == "new"


def test_tensorrt_is_not_tried(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plan for the frame of a trial would take minutes to build."""
    monkeypatch.setitem(ENGINES, "tensorrt", NewEngine)
    monkeypatch.setattr(NewEngine, "returns", staticmethod(lose_the_device))
    monkeypatch.setattr("cyclecast.runtime.engines.has_driver", lambda: True)
    assert open_engine(tiny_model).device == "a new GPU"


def test_tensorrt_is_not_opened_without_nvidias_driver_unless_it_is_requested(
    tiny_model: Path, on_cpu: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tensorrt", "tensorrt-rtx"):
        monkeypatch.setitem(ENGINES, name, NewEngine)
    monkeypatch.setattr(NewEngine, "requested", [])
    monkeypatch.setattr("cyclecast.runtime.engines.has_driver", lambda: False)
    assert name_of(open_engine(tiny_model)) == on_cpu and NewEngine.requested == []
    open_engine(tiny_model, "tensorrt")
    open_engine(tiny_model, "tensorrt-rtx")
    assert NewEngine.requested == [("gpu", "auto")] * 2


def test_the_trial_frame_has_the_contrast_and_the_texture_of_a_photo() -> None:
    frame = trial.draw_trial_frame(64, 48)
    assert frame.shape == (48, 64, 3) and frame.dtype == np.uint8
    assert all(20 < frame[..., channel].std() < 100 for channel in range(3))
    assert 2 < np.abs(np.diff(frame.astype(int), axis=1)).mean() < 20


def test_the_documented_table_is_the_one_in_use() -> None:
    text = (ROOT / "docs" / "engines.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\S+)` \| `(\S+)` \| (.+?) \|$", text, re.MULTILINE)
    assert rows == [(candidate.engine, candidate.device, candidate.reason) for candidate in CANDIDATES]
    assert {candidate.engine for candidate in CANDIDATES} <= set(ENGINES)
