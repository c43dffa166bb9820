"""The contract of every engine. test_choice.py has the choice of an engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import PIL.Image
import pytest
from onnx import TensorProto, helper

import cyclecast
from cyclecast.errors import ConfigError, EngineError, EngineUnavailable, ModelError
from cyclecast.export.checkpoints import read_generator
from cyclecast.export.frame_graph import reference
from cyclecast.runtime.bench import psnr_db
from cyclecast.runtime.engine import Engine, PerSizeCache
from cyclecast.runtime.engines import ENGINES, open_engine
from cyclecast.runtime.engines.onnxruntime import in_place
from cyclecast.runtime.engines.openvino import OpenVinoEngine, overflows_in_fp16
from cyclecast.runtime.engines.webgpu import is_software_allowed
from cyclecast.runtime.machine import is_x86
from cyclecast.runtime.model import Model, bundled_models, load
from cyclecast.runtime.onnx_file import openvino_core, openvino_library, read_model
from cyclecast.spec import ModelSpec
from cyclecast.video.files.images import read_image
from cyclecast.video.scene import Scene
from tests.conftest import moving_frames


@pytest.fixture(params=list(ENGINES))
def name(request: pytest.FixtureRequest, small_model: Path, software_gpu: None) -> str:
    """The name of each engine; skips those that this machine lacks."""
    try:
        open_engine(small_model, request.param).close()
    except EngineUnavailable as error:
        pytest.skip(str(error))
    return str(request.param)


DEVICES = [("openvino", "gpu"), ("onnxruntime", "cuda:0"), ("onnxruntime", "tensorrt:0"), ("torch", "cuda:0")]


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    """A frame model of three nodes for SwiftShader, on which a frame through `tiny_model` takes a second: 255 - frame."""
    ports = [helper.make_tensor_value_info(port, TensorProto.UINT8, [1, "h", "w", 3]) for port in "xy"]
    nodes = [
        helper.make_node("Cast", ["x"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["white", "values"], ["inverted"]),
        helper.make_node("Cast", ["inverted"], ["y"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [helper.make_tensor("white", TensorProto.FLOAT, [], [255.0])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"cyclecast": ModelSpec(recipe="cyclegan").to_json()})
    onnx.save(model, str(tmp_path / "small.onnx"))
    return tmp_path / "small.onnx"


@pytest.fixture(params=[*((engine, "auto") for engine in (*ENGINES, "torch")), *DEVICES], ids="-".join)
def engine(
    request: pytest.FixtureRequest, tiny_model: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch, software_gpu: None
) -> Engine:
    """The tiny model in fp32 on each engine, torch too, with device `auto` and with `DEVICES`; on SwiftShader the small one.

    Skips engines and devices that this machine lacks.
    """
    name, device = request.param
    if device.startswith("tensorrt"):
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")  # the only way to turn TF32 off in this provider
    try:
        return cyclecast.open_engine(small_model if on_software(name) else tiny_model, name, device, "fp32")
    except EngineUnavailable as error:
        pytest.skip(str(error))


def on_software(engine: str) -> bool:
    """Returns whether this engine computes on SwiftShader in place of a GPU."""
    return engine == "webgpu" and is_software_allowed()


def test_an_engine_reports_its_name_device_and_precision(engine: Engine) -> None:
    assert engine.name in (*ENGINES, "torch")
    assert engine.device and engine.precision == "fp32" and engine.size is None
    assert engine.metadata is not None
    assert ModelSpec.from_json(engine.metadata).recipe == "cyclegan"


@pytest.mark.parametrize("size", [(16, 16), (131, 97), (64, 48), (320, 180)], ids=str)
def test_the_output_equals_pytorchs_within_a_gray_level(engine: Engine, run: Path, size: tuple[int, int]) -> None:
    import torch

    from cyclecast.training.networks import ResnetGenerator

    if on_software(engine.name):
        pytest.skip("takes seconds on SwiftShader; test_webgpu.py compares a faster model")
    frame = moving_frames(3, *size)[1]
    styled = engine.run(frame)
    assert styled.shape == frame.shape and styled.dtype == np.uint8
    network = read_generator(run, "a2b").network
    assert isinstance(network, ResnetGenerator)
    expected = reference(network, torch.from_numpy(frame)).numpy()
    assert np.abs(styled.astype(int) - expected).max() <= 1


def test_outputs_do_not_share_memory(engine: Engine) -> None:
    one, other = moving_frames(2)
    first = engine.run(one)
    kept = first.copy()
    engine.run(other)
    np.testing.assert_array_equal(first, kept)


def test_run_accepts_views_and_does_not_change_its_input(engine: Engine) -> None:
    frame = moving_frames(1, 80, 60)[0]
    before = frame.copy()
    styled = engine.run(frame[:, 8:72][:, ::-1])
    np.testing.assert_array_equal(frame, before)
    np.testing.assert_array_equal(styled, engine.run(np.ascontiguousarray(frame[:, 8:72][:, ::-1])))


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "bytes": lambda frame: np.frombuffer(frame.tobytes(), np.uint8).reshape(frame.shape),
    "pillow": lambda frame: np.asarray(PIL.Image.fromarray(frame)),
    "broadcast": lambda frame: np.broadcast_to(frame[:, :1], frame.shape),
    "negative strides": lambda frame: frame[::-1, ::-1, ::-1],
    "fortran": np.asfortranarray,
    "channels first": lambda frame: np.ascontiguousarray(frame.transpose(2, 0, 1)).transpose(1, 2, 0),
    "a slice": lambda frame: np.pad(frame, ((0, 0), (3, 5), (0, 1)))[:, 3:-5, :3],
    "locked": lambda frame: _locked(frame.copy()),
}


def _locked(frame: np.ndarray) -> np.ndarray:
    frame.setflags(write=False)
    return frame


@pytest.mark.parametrize("layout", LAYOUTS)
def test_frames_may_be_read_only_and_in_any_memory_layout(engine: Engine, layout: str) -> None:
    frame = LAYOUTS[layout](moving_frames(1)[0])
    before = frame.copy()
    expected = engine.run(np.array(frame, order="C"))
    styled, submitted = engine.run(frame), engine.submit(frame).result()
    np.testing.assert_array_equal(styled, expected)
    np.testing.assert_array_equal(submitted, expected)
    np.testing.assert_array_equal(frame, before)
    assert styled.flags.writeable and submitted.flags.writeable


def test_frame_sizes_may_alternate(engine: Engine) -> None:
    small, large = moving_frames(1, 32, 32)[0], moving_frames(1, 48, 64)[0]
    first = engine.run(small)
    assert engine.run(large).shape == large.shape
    np.testing.assert_array_equal(engine.run(small), first)


def test_a_frame_runs_after_prepare(engine: Engine) -> None:
    engine.prepare(64, 48)
    assert engine.run(moving_frames(1)[0]).shape == (48, 64, 3)


def test_an_engine_runs_in_another_thread(engine: Engine) -> None:
    frame, outputs = moving_frames(1)[0], []
    thread = threading.Thread(target=lambda: outputs.append(engine.run(frame)))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(outputs[0], engine.run(frame))


def test_two_frames_in_flight_have_separate_outputs(engine: Engine) -> None:
    frames = moving_frames(4)
    expected = [engine.run(frame) for frame in frames]
    first, second = engine.submit(frames[0]), engine.submit(frames[1])
    np.testing.assert_array_equal(first.result(), expected[0])
    third = engine.submit(frames[2])
    np.testing.assert_array_equal(second.result(), expected[1])
    np.testing.assert_array_equal(third.result(), expected[2])


def test_more_frames_than_fit_in_flight_can_be_submitted(engine: Engine) -> None:
    frames = moving_frames(5)
    expected = [engine.run(frame) for frame in frames]
    waiting = [engine.submit(frame) for frame in frames]
    for output, future in zip(reversed(expected), reversed(waiting), strict=True):  # results may be fetched in any order
        np.testing.assert_array_equal(future.result(), output)


def test_close_succeeds_with_frames_in_flight(engine: Engine) -> None:
    frames = moving_frames(2)
    future = engine.submit(frames[0])
    engine.submit(frames[1])
    engine.close()
    assert future.result().shape == frames[0].shape


def test_openvino_keeps_the_memory_of_two_frames_in_flight(tiny_model: Path) -> None:
    """Uses the requests directly: on a CPU, `submit` waits for its result, unlike on an Intel GPU."""
    engine = OpenVinoEngine(tiny_model, "cpu", "fp32")
    frames = moving_frames(3, 320, 180)
    expected = [engine.run(frame) for frame in frames]
    one, other = engine._requests.get(320, 180)
    first, second = one.submit(frames[0]), other.submit(frames[1])
    np.testing.assert_array_equal(second.result(), expected[1])
    np.testing.assert_array_equal(first.result(), expected[0])
    for _ in range(50):  # nobody else holds the frame, so the request must keep its memory alive
        one.submit(frames[2].copy())
        np.empty_like(frames[2]).fill(0)
    third = one.submit(frames[2])
    engine.close()
    np.testing.assert_array_equal(third.result(), expected[2])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), "frames start at 16x16, got 8x8"),
        (np.zeros((32, 32), np.uint8), r"a frame of shape \(H, W, 3\) uint8 BGR"),
        (np.zeros((32, 32, 4), np.uint8), r"a frame of shape \(H, W, 3\) uint8 BGR"),
        (np.zeros((32, 32, 3), np.float32), r"a frame of shape \(H, W, 3\) uint8 BGR"),
    ],
)
def test_arrays_that_are_not_frames_are_rejected(engine: Engine, frame: np.ndarray, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        engine.run(frame)


def model_file(path: Path, dtype: int, shape: list[int | str], inputs: int = 1) -> Path:
    """Writes an ONNX file with one Identity node and this number of inputs."""
    ports = [helper.make_tensor_value_info(f"x{i}", dtype, shape) for i in range(inputs)]
    out = helper.make_tensor_value_info("y", dtype, shape)
    graph = helper.make_graph([helper.make_node("Identity", ["x0"], ["y"])], "g", ports, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(path))
    return path


class TestFiles:
    def test_a_uint8_image_model_without_our_metadata_is_a_frame_model(self, name: str, tmp_path: Path) -> None:
        path = model_file(tmp_path / "m.onnx", TensorProto.UINT8, [1, "h", "w", 3])
        opened = open_engine(path, name)
        assert opened.metadata is None and opened.size is None
        frame = moving_frames(1)[0]
        np.testing.assert_array_equal(opened.run(frame), frame)

    def test_a_fixed_model_rejects_other_sizes(self, name: str, tmp_path: Path) -> None:
        path = model_file(tmp_path / "m.onnx", TensorProto.UINT8, [1, 48, 64, 3])
        opened = open_engine(path, name)
        assert opened.size == (64, 48)
        assert opened.run(moving_frames(1)[0]).shape == (48, 64, 3)
        with pytest.raises(EngineError, match="fixed to 64x48, got a frame of 32x32"):
            opened.run(moving_frames(1, 32, 32)[0])

    @pytest.mark.parametrize(
        ("dtype", "shape", "inputs", "message"),
        [
            (TensorProto.FLOAT, [1, 3, 64, 64], 1, "its input is .* \\(expected one uint8 input"),
            (TensorProto.UINT8, [1, 64, 64, 1], 1, "its input is .* 1\\) \\(expected"),
            (TensorProto.UINT8, [1, 64, 64, 3], 2, "it has 2 inputs and 1 outputs"),
        ],
    )
    def test_a_model_with_other_inputs_or_outputs_is_rejected(
        self, name: str, tmp_path: Path, dtype: int, shape: list[int | str], inputs: int, message: str
    ) -> None:
        path = model_file(tmp_path / "m.onnx", dtype, shape, inputs)
        with pytest.raises(ModelError, match="not a model cyclecast can run: " + message):
            open_engine(path, name)

    def test_a_file_that_is_not_a_model_is_rejected(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "text.onnx").write_text("hello")
        with pytest.raises(ModelError, match="not a model cyclecast can run: .* cannot read it"):
            open_engine(tmp_path / "text.onnx", name)
        with pytest.raises(ModelError, match="no such model|cannot be read as a model"):
            open_engine(tmp_path / "none.onnx", name)


def resizing_model(path: Path, factor: int) -> Path:
    """Writes a model whose output frames are `factor` times as large as its input."""
    ports = [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, f"{name}h", f"{name}w", 3]) for name in "xy"]
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Resize", ["f", "", "scales"], ["r"], mode="nearest"),
        helper.make_node("Cast", ["r"], ["y"], to=TensorProto.UINT8),
    ]
    scales = helper.make_tensor("scales", TensorProto.FLOAT, [4], [1.0, factor, factor, 1.0])
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [scales])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


def test_a_model_that_changes_the_size_is_an_engine_error(name: str, tmp_path: Path) -> None:
    opened = open_engine(resizing_model(tmp_path / "m.onnx", 2), name)
    with pytest.raises(EngineError, match="64x48"):
        opened.run(moving_frames(1)[0])


def test_a_model_with_only_one_fixed_side_is_rejected(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="only one side of its frame size is fixed"):
        open_engine(model_file(tmp_path / "m.onnx", TensorProto.UINT8, [1, "h", 64, 3]), name)


def test_a_closed_engine_raises_an_error(engine: Engine) -> None:
    engine.run(moving_frames(1)[0])
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(moving_frames(1)[0])


def test_an_engine_runs_without_a_writable_cache(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cyclecast").write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert open_engine(tiny_model, "openvino").run(moving_frames(1)[0]).shape == (48, 64, 3)
    assert "compiled models are not kept" in caplog.text


def test_a_missing_engine_device_or_precision_is_an_error(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no engine named 'tensorflow'; expected one of: auto, .*openvino, .*torch$"):
        open_engine(tiny_model, "tensorflow")
    with pytest.raises(EngineUnavailable, match="not on 'cuda:0'"):
        open_engine(tiny_model, "openvino", "cuda:0")
    for device in ("cpu", "auto"):
        with pytest.raises(EngineUnavailable, match="^onnxruntime computes this model in fp32, not in bf16"):
            open_engine(tiny_model, "onnxruntime", device, "bf16")
    with pytest.raises(ConfigError, match="no precision named 'int3'"):
        open_engine(tiny_model, "openvino", "cpu", "int3")
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(EngineUnavailable, match="has no CUDA"):
            open_engine(tiny_model, "onnxruntime", "gpu")
        with pytest.raises(EngineUnavailable, match="has no CUDA"):
            open_engine(tiny_model, "onnxruntime", "tensorrt:0")
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(EngineUnavailable, match="pip install openvino"):
        open_engine(tiny_model, "openvino")
    assert open_engine(tiny_model, "auto").name == "onnxruntime"  # auto tries the next engine


def test_a_provider_that_does_not_start_is_an_error(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with (
        pytest.warns(UserWarning, match="'CUDAExecutionProvider' is not in available provider names"),
        pytest.raises(
            EngineUnavailable, match="could not start CUDAExecutionProvider and would have run on CPUExecutionProvider"
        ),
    ):
        open_engine(tiny_model, "onnxruntime", "cuda:0")


BROKEN_METADATA = ["[]", "not json", '{"size": "64x48"}', '{"architecture": "resnet"}', '{"precision": 16}', '{"kind": "video"}']


@pytest.mark.parametrize("name", [*ENGINES, "torch", "auto"])
def test_malformed_metadata_are_a_model_error_in_every_engine(
    name: str, tmp_path: Path, tiny_model: Path, software_gpu: None
) -> None:
    model = onnx.load(str(tiny_model))
    for text in BROKEN_METADATA:
        helper.set_model_props(model, {"cyclecast": text})
        onnx.save(model, str(tmp_path / "m.onnx"))
        try:
            with pytest.raises(ModelError, match="m.onnx: its cyclecast metadata cannot be read .*; export it again") as caught:
                cyclecast.open_engine(tmp_path / "m.onnx", name)
        except EngineUnavailable as error:
            pytest.skip(str(error))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "torch", "auto"])
def test_metadata_of_a_newer_version_are_read(name: str, tmp_path: Path, tiny_model: Path) -> None:
    model = onnx.load(str(tiny_model))
    values = json.loads({entry.key: entry.value for entry in model.metadata_props}["cyclecast"])
    helper.set_model_props(model, {"cyclecast": json.dumps(values | {"license": "CC0", "version": "9.0", "faces": [1, 2]})})
    onnx.save(model, str(tmp_path / "m.onnx"))
    with cyclecast.load(tmp_path / "m.onnx", name, "cpu") as opened:
        assert opened.spec.version == "9.0" and opened(moving_frames(1)[0]).shape == (48, 64, 3)


FOREIGN_FILES = {
    "job.jsonl": b'{"source": "a.mp4"}\n{"source": "b.mp4"}\n',
    "empty.onnx": b"",
    "page.xml": b"<?xml version='1.0'?><html/>",
    "model.xml": b"<?xml version='1.0'?><net name='x' version='11'/>",
    "archive.zip": b"PK\x03\x04" + bytes(60),
    "photo.png": b"\x89PNG\r\n\x1a\n" + bytes(60),
    "cut.onnx": b"\x08\x0a\x12\x07pytorch:\xff\xff",
    "network.tflite": b"\x1c\x00\x00\x00TFL3" + bytes(60),
    "graph.pb": b"\x0a\x0b\x0a\x01x",
}


@pytest.mark.parametrize("name", ["auto", "openvino", "onnxruntime", "torch"])
@pytest.mark.parametrize("file", FOREIGN_FILES)
def test_any_other_file_is_a_model_error_in_one_line(file: str, name: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(FOREIGN_FILES[file])
    with pytest.raises((ModelError, EngineUnavailable), match=f"{file}: (not a|cannot be)") as caught:
        cyclecast.open_engine(tmp_path / file, name)
    assert "\n" not in str(caught.value)


def test_a_session_at_fixed_addresses_returns_a_new_array_for_each_frame(tiny_model: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tiny_model), providers=["CPUExecutionProvider"])
    run = in_place(session, (1, 48, 64, 3), "cpu", 0)
    frames = moving_frames(3)
    outputs = [run(frame[None])[0] for frame in frames]
    engine = open_engine(tiny_model, "onnxruntime", "cpu")
    for one, frame in zip(outputs, frames, strict=True):
        assert np.array_equal(one, engine.run(frame))


def test_auto_chooses_bf16_on_a_cpu_that_computes_it(tiny_model: Path) -> None:

    native = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    chosen = open_engine(tiny_model, "auto")
    assert (chosen.name, chosen.precision) == ("openvino", "bf16" if native else "fp32")


def test_norms_overflow_in_fp16_before_openvino_2026_3(tiny_model: Path) -> None:
    core = openvino_core()
    with_norms, without = read_model(core, tiny_model), read_model(core, bundled_models()["monet"])
    for version, overflows in (
        ("2025.4.1-20426-82bbf0292c5", True),
        ("2026.2.0", True),
        ("2026.3.0-1", False),
        ("2027.0", False),
    ):
        assert overflows_in_fp16(version, with_norms) is overflows
        assert not overflows_in_fp16(version, without)
    overflows_in_fp16(openvino_library().__version__, without)  # the installed version can be parsed


def test_compiled_models_are_cached_on_disk(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    open_engine(tiny_model, "openvino").prepare(64, 48)
    assert list((tmp_path / "cyclecast" / "openvino").glob("*.blob"))


def test_a_broken_spec_is_a_model_error(tiny_model: Path) -> None:
    engine = open_engine(tiny_model)
    engine.metadata = "[]"
    with pytest.raises(ModelError, match="metadata cannot be read"):
        Model("broken", engine)


def test_the_cache_drops_the_least_recently_used_size() -> None:
    built: list[tuple[int, int]] = []

    def build(width: int, height: int) -> tuple[int, int]:
        built.append((width, height))
        return width, height

    sizes = PerSizeCache(build)
    for width in (1, 2, 3, 4, 1, 5, 1, 2):
        assert sizes.get(width, 9) == (width, 9)
    assert [width for width, _ in built] == [1, 2, 3, 4, 5, 2]  # 5 replaced 2, the least recently used


def test_bundled_models_are_small_have_cards_and_run() -> None:
    bundled = bundled_models()
    assert {"monet", "ukiyoe", "pencil"} <= set(bundled)
    for name, path in bundled.items():
        assert path.stat().st_size < 1_200_000
        assert path.with_suffix(".md").is_file() and path.with_suffix(".jpg").is_file()
        with load(name) as model:
            assert model.spec.name == name and model.spec.steps > 0
            frame = Scene(320, 180).draw(1.0)
            styled = model(frame)
        assert styled.shape == frame.shape
        assert styled.std() > 5 and np.abs(styled.astype(int) - frame).mean() > 3  # neither flat nor the input


@pytest.mark.skipif(not is_x86(), reason="auto chooses int8 on x86 only")
def test_auto_runs_bundled_models_in_int8(tmp_path: Path) -> None:
    frame = read_image(Path(__file__).parents[2] / "docs" / "street.jpg")
    for name in bundled_models():
        with load(name) as chosen, load(name, "openvino", "cpu", "fp32") as exact:
            assert (chosen.engine.name, chosen.engine.precision, exact.engine.precision) == ("openvino", "int8", "fp32")
            assert chosen.spec.name == exact.spec.name == name and chosen.identity != exact.identity
            assert 40 < psnr_db([exact(frame)], [chosen(frame)]) < 90, name  # one image; 44 over the photos of `quantize`
    with load("pencil", "onnxruntime") as engine:
        assert engine.engine.precision == "fp32"  # int8 is not faster there
    shutil.copy(bundled_models()["pencil"], tmp_path / "mine.onnx")
    with load(tmp_path / "mine.onnx", "openvino", "cpu") as mine:
        assert mine.engine.precision in ("bf16", "fp32")
    with pytest.raises(EngineUnavailable, match="in fp32, not in int8; `cyclecast quantize` writes it in int8"):
        load(tmp_path / "mine.onnx", precision="int8")


def test_an_unknown_name_lists_the_bundled_models() -> None:
    with pytest.raises(ModelError, match="manet: no such file, and no bundled model .*monet"):
        load("manet")


def test_onnxruntime_loads_without_telemetry(tiny_model: Path, tmp_path: Path) -> None:
    program = "import sys, cyclecast\ncyclecast.load(sys.argv[1], 'onnxruntime', 'cpu').close()"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY")  # importing cyclecast has set it in this process
    subprocess.run([sys.executable, "-c", program, str(tiny_model)], env=environment, check=True)
    assert not list(tmp_path.rglob(".onnxruntime"))  # where it keeps a number of this device, and what it will send


def test_openvino_loads_without_telemetry(tiny_model: Path) -> None:
    program = (
        "import sys, pathlib, cyclecast\n"
        "cyclecast.load(sys.argv[1], 'openvino').close()\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "print(telemetry_utils.tm.__name__, sys.modules['openvino_telemetry'])"
    )
    process = subprocess.run([sys.executable, "-c", program, str(tiny_model)], capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "None"]


def test_ctrl_c_is_handled_after_another_thread_released_openvinos_engine(tiny_model: Path) -> None:
    code = (
        "import gc, os, signal, sys, threading\n"
        "from pathlib import Path\n"
        "from cyclecast.runtime.engines import open_engine\n"
        "engines = [open_engine(Path(sys.argv[1]), 'openvino') for _ in range(2)]\n"
        "for engine in engines:\n"
        "    engine.prepare(64, 48)\n"
        "del engine\n"
        "def release():\n"
        "    while engines:\n"
        "        engines.pop(0).close()\n"
        "    gc.collect()\n"
        "thread = threading.Thread(target=release)\n"
        "thread.start()\n"
        "thread.join()\n"
        "signal.signal(signal.SIGINT, lambda number, frame: print('handled'))\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_model)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
