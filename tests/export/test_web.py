"""Adapts frame models for browsers: every node on WebGPU, fp16 where it is accurate enough, and lines about what is not so."""

from __future__ import annotations

import dataclasses
import logging
import re
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cyclecast.card import StyleCard
from cyclecast.errors import ConfigError, EngineUnavailable
from cyclecast.export.web import adapt_for_web
from cyclecast.runtime.engines import open_engine, webgpu
from cyclecast.runtime.model import find_model
from cyclecast.runtime.onnx_properties import add_card, read_card
from cyclecast.video.frame import Image
from tests.commands import json_of, run_command
from tests.conftest import moving_frames

GOLDEN = Path(__file__).parent.parent / "golden" / "models"


@pytest.fixture(scope="module")
def frames() -> list[Image]:
    return moving_frames(2)


def write_model(path: Path, first: float, second: float = 1.0, operator: str | None = None) -> Path:
    """Writes a frame model of opset 17, 64x48: it multiplies by `first` and `second`, with the operator between."""

    def constant(name: str, value: object) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(value, np.float32), name)

    identity = np.eye(3, dtype=np.float32)[:, :, None, None]
    nodes = [
        helper.make_node("Cast", ["frame"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["x"], ["image"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["image", "first"], ["scaled"]),
        helper.make_node(operator or "Identity", ["scaled"], ["seen"]),
        helper.make_node("Conv", ["seen", "second"], ["back"]),
        helper.make_node("Clip", ["back", "low", "high"], ["clipped"]),
        helper.make_node("Round", ["clipped"], ["rounded"]),
        helper.make_node("Transpose", ["rounded"], ["pixels"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["pixels"], ["styled"], to=TensorProto.UINT8),
    ]
    weights = {"first": first * identity, "second": second * identity, "low": 0.0, "high": 255.0}
    ports = [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, 48, 64, 3]) for name in ("frame", "styled")]
    initializers = [constant(name, value) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "synthetic", ports[:1], ports[1:], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_every_node_of_an_older_export_runs_on_webgpu(
    software_gpu: None, frames: list[Image], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    original = GOLDEN / "frame-fp32.onnx"
    web = adapt_for_web(original, frames)
    (adapted := tmp_path / "adapted.onnx").write_bytes(web.files["fp32"])
    with caplog.at_level(logging.DEBUG):
        try:
            engine = open_engine(adapted, "webgpu")
        except EngineUnavailable as error:
            pytest.skip(str(error))
        with closing(engine), closing(open_engine(original, "onnxruntime", "cpu")) as exact:
            assert np.abs(engine.run(frames[0]).astype(int) - exact.run(frames[0])).max() <= 1
    (line,) = [record.getMessage() for record in caplog.records if "runs on the CPU" in record.getMessage()]
    assert line == "webgpu runs on the CPU at 64x48: no node"

    import onnxruntime
    import onnxruntime_ep_webgpu

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    devices = webgpu.register_plugin(onnxruntime, onnxruntime_ep_webgpu.get_library_path())
    options.add_provider_for_devices(devices[:1], webgpu.OPTIONS)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.add_session_config_entry("session.disable_prepacking", "1")  # it would run shaders in fp16, which SwiftShader lacks
    for name, side in (("height", 48), ("width", 64)):
        options.add_free_dimension_override_by_name(name, side)
    assert webgpu.cpu_nodes(onnxruntime.InferenceSession(web.files["fp16"], options)) == []


def test_the_author_and_the_license_stay_in_the_file(frames: list[Image], tmp_path: Path) -> None:
    card = StyleCard(title="A style", author="A. Painter", license="CC-BY-4.0", thumbnail=b"\xff\xd8\xff", text="# A style")
    path = write_model(tmp_path / "style.onnx", 0.5, 2.0)
    path.write_bytes(add_card(path, path.read_bytes(), card))
    for content in adapt_for_web(path, frames).files.values():
        assert read_card("x", content) == dataclasses.replace(card, thumbnail=b"")  # the site has it as a file of its own


def test_fp16_is_left_out_with_a_line_where_it_is_not_accurate(frames: list[Image], tmp_path: Path) -> None:
    lines: list[str] = []
    good = adapt_for_web(write_model(tmp_path / "good.onnx", 0.5, 2.0), frames, on_message=lines.append)
    assert good.files.keys() == {"fp32", "fp16"} and not lines and good.spec.size == (64, 48)
    model = onnx.load_from_string(good.files["fp16"])
    assert model.opset_import[0].version == 18
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert {name for name, dtype in weights.items() if dtype == TensorProto.FLOAT16} == {"first/fp16", "second/fp16"}
    assert {"first", "second"}.isdisjoint(weights)
    for name, first, reason in (
        ("large", 1e5, "it has weights beyond the range of fp16"),
        ("overflow", 6e4, "its output has [0-9]+ NaN values|dB PSNR, expected at least 40 dB"),
    ):
        web = adapt_for_web(write_model(tmp_path / f"{name}.onnx", first, 1 / first), frames, on_message=lines.append)
        assert web.files.keys() == {"fp32"} and web.psnr_db is None
        (line,) = lines
        assert line.startswith(f"{tmp_path / name}.onnx: written in fp32 only; in fp16, ")
        assert re.search(reason, line)
        lines.clear()


def test_operators_that_browsers_compute_on_the_cpu_are_named(frames: list[Image], tmp_path: Path) -> None:
    lines: list[str] = []
    adapt_for_web(write_model(tmp_path / "m.onnx", 1.0, operator="Softsign"), frames, ["fp32"], on_message=lines.append)
    assert lines == [f"{tmp_path / 'm.onnx'}: browsers compute Softsign on the CPU, which costs copies of the frame"]


def test_models_that_are_not_in_fp32_are_refused_with_what_to_type(frames: list[Image]) -> None:
    for path, words in (
        (GOLDEN / "frame-fp16.onnx", "fp16; browsers get the model that was exported with --precision fp32"),
        (find_model("monet").parent / "int8" / "monet.onnx", "int8; browsers get"),
        (GOLDEN / "same.plan", "a plan; browsers run the ONNX model that it was built from"),
    ):
        with pytest.raises(ConfigError, match=words):
            adapt_for_web(path, frames)


def test_export_for_browsers_writes_both_precisions(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(trained: object, path: Path, **options: object) -> list[object]:  # the real one takes seconds
        shutil.copyfile(GOLDEN / "frame-fp32.onnx", path)
        return []

    monkeypatch.setattr("cyclecast.export.onnx.export_onnx", export)
    output, half = tmp_path / "monet.onnx", tmp_path / "monet.fp16.onnx"
    command = ("export", run, "-o", output, "--target", "web")
    report = json_of(*command)
    assert report["output"] == str(output) and report["fp16"] == str(half) and report["psnr_db"] >= 40
    assert "Round" not in {node.op_type for node in onnx.load(str(output)).graph.node}
    for path, precision in ((output, "fp32"), (half, "fp16")):
        with closing(open_engine(path, "onnxruntime", "cpu")) as engine:
            assert engine.precision == precision
    output.unlink()
    for arguments, words in (
        (command, "monet.fp16.onnx: exists already"),
        ((*command, "--precision", "fp16"), "--target web writes fp32 and fp16: leave --precision out"),
        (("export", run, "-o", output, "--target", "phone"), "--target: expected any or web, got phone"),
    ):
        done = run_command(*arguments)
        assert done.returncode != 0 and words in " ".join(done.stderr.replace("│", " ").split())
    assert not output.exists()
