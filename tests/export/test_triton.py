"""The model repository that `cyclecast export --triton` writes, read by Triton's own schema."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2
from typer.testing import CliRunner

from cyclecast.cli import app
from cyclecast.errors import ModelError, OutputError
from cyclecast.export.triton import write_repository
from cyclecast.runtime.model import find_model
from cyclecast.runtime.plan import PlanFacts
from tests.commands import run_command


def _read(config: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse(config.read_text("utf-8"), model_config_pb2.ModelConfig())


def test_a_bundled_model_is_added_unchanged(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["export", "monet", "--triton", str(tmp_path)])
    assert outcome.exit_code == 0, outcome.output
    config = _read(tmp_path / "monet" / "config.pbtxt")
    assert (config.name, config.platform, config.max_batch_size) == ("monet", "onnxruntime_onnx", 0)
    for port, name in ((config.input[0], "frame"), (config.output[0], "styled")):
        assert (port.name, port.data_type, list(port.dims)) == (name, model_config_pb2.TYPE_UINT8, [1, -1, -1, 3])
    assert (tmp_path / "monet" / "1" / "model.onnx").read_bytes() == find_model("monet").read_bytes()


def test_names_with_quotes_and_umlauts_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / 'a "b" \\ größer.onnx'
    path.write_bytes(find_model("monet").read_bytes())
    config = _read(write_repository(path, path.stem, tmp_path / "repository"))
    assert config.name == path.stem


def test_a_model_of_the_same_name_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    monet, ukiyoe = find_model("monet"), find_model("ukiyoe")
    write_repository(monet, "style", tmp_path)
    with pytest.raises(OutputError, match="exists already"):
        write_repository(ukiyoe, "style", tmp_path)
    assert (tmp_path / "style" / "1" / "model.onnx").read_bytes() == monet.read_bytes()
    write_repository(ukiyoe, "style", tmp_path, overwrite=True)
    assert (tmp_path / "style" / "1" / "model.onnx").read_bytes() == ukiyoe.read_bytes()


@pytest.mark.parametrize(("largest", "dims"), [((1280, 720), [1, 720, 1280, 3]), ((1920, 1080), [1, -1, -1, 3])])
def test_a_plan_is_added_with_its_sizes(tmp_path: Path, largest: tuple[int, int], dims: list[int]) -> None:
    plan = _plan(tmp_path / "monet.plan", b"ftrt", "tensorrt", largest)
    config = _read(write_repository(plan, "monet", tmp_path / "repository"))
    assert config.platform == "tensorrt_plan"
    assert (config.input[0].name, list(config.input[0].dims)) == ("frame", dims)
    assert (tmp_path / "repository" / "monet" / "1" / "model.plan").read_bytes() == plan.read_bytes()


def test_models_that_triton_cannot_run_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="tensorrt-rtx, which Triton does not run"):
        write_repository(_plan(tmp_path / "m.plan", b"vtrt", "tensorrt-rtx", (1280, 720)), "m", tmp_path)
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelError, match="cannot be read as an ONNX model"):
        write_repository(tmp_path / "text.onnx", "text", tmp_path)
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 10])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "scores", [value], [output])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), str(tmp_path / "scores.onnx"))
    with pytest.raises(ModelError, match="not a model cyclecast can run"):
        write_repository(tmp_path / "scores.onnx", "scores", tmp_path)
    assert not any((tmp_path / name).exists() for name in ("m", "text", "scores"))
    outcome = CliRunner().invoke(app, ["export", "monet", "--triton", str(tmp_path / "repository"), "--precision", "fp16"])
    assert outcome.exit_code == 2 and not (tmp_path / "repository").exists()
    outcome = CliRunner().invoke(app, ["export", str(tmp_path), "--triton", str(tmp_path / "repository")])
    assert outcome.exit_code == 2 and "--output" in outcome.output


def _plan(path: Path, magic: bytes, engine: str, largest: tuple[int, int]) -> Path:
    """Writes the facts of a plan and nothing else: TensorRT builds no plan without a GPU."""
    facts = PlanFacts(
        engine=engine,
        version="10.13.0",
        sm=(89,),
        sizes=((1280, 720), (1280, 720), largest),
        precision="fp16",
        input_name="frame",
        output_name="styled",
        model_hash="00",
        metadata=None,
    )
    path.write_bytes(magic + facts.to_json().encode() + b"\0")
    return path


def test_a_model_that_the_repository_has_stops_the_export_before_it_writes(run: Path, tmp_path: Path) -> None:
    (tmp_path / "repository" / "m").mkdir(parents=True)
    (tmp_path / "repository" / "m" / "config.pbtxt").touch()
    done = run_command("export", run, "-o", tmp_path / "m.onnx", "--direction", "a2b", "--triton", tmp_path / "repository")
    assert done.returncode == 1 and "config.pbtxt: exists already" in done.stderr
    assert not (tmp_path / "m.onnx").exists()
