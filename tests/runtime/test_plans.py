"""Builds plans with TensorRT for RTX, which needs no GPU to build."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cyclecast.errors import ConfigError, EngineError, EngineUnavailable, ModelError
from cyclecast.export.checkpoints import TrainedGenerator
from cyclecast.export.onnx import export_onnx
from cyclecast.runtime.engines import open_engine
from cyclecast.runtime.machine import RTX_TARGETS, cache_folder
from cyclecast.runtime.model import find_model
from cyclecast.runtime.plan import PlanFacts, engine_of_plan, read_facts
from cyclecast.runtime.plan_builder import build_plan, convolutions_not_in
from cyclecast.spec import ModelSpec
from cyclecast.training.networks import build_latent_generator
from tests.commands import run_command
from tests.conftest import ANY_SIZE, EXPORTED, FIXED_SIZE, moving_frames
from tests.export.originals import frame_options
from tests.runtime.test_engines import resizing_model

pytest.importorskip("tensorrt_rtx_bindings", reason="tensorrt-rtx is not installed")


@pytest.mark.parametrize(("family", "precision"), EXPORTED)
def test_every_family_builds_for_every_gpu_in_its_own_precision(
    family: str, precision: str, family_model: Callable[[str, str], Path], tmp_path: Path
) -> None:
    path = family_model(family, precision)
    between = ((64, 64), (640, 480)) if (family, precision) in ANY_SIZE else None
    plan, facts = build_plan(path, "tensorrt-rtx", FIXED_SIZE, between=between, sm=RTX_TARGETS)
    (tmp_path / "m.plan").write_bytes(plan)
    assert (facts.sm, facts.precision) == (RTX_TARGETS, precision)
    assert facts.sizes == (((64, 64), FIXED_SIZE, (640, 480)) if between else (FIXED_SIZE,) * 3)
    assert engine_of_plan(tmp_path / "m.plan") == "tensorrt-rtx"
    assert read_facts(tmp_path / "m.plan") == facts
    assert facts.metadata is not None and ModelSpec.from_json(facts.metadata).precision == precision


@pytest.mark.parametrize(("generator", "recipe", "precision"), [("conv", "dcgan", "fp16"), ("mlp", "gan", "fp32")])
def test_latent_generators_build_for_every_gpu(generator: str, recipe: str, precision: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    architecture: dict[str, Any] = {"generator": generator, "ngf": 8} if generator == "conv" else {"generator": generator}
    trained = TrainedGenerator(build_latent_generator(**architecture).eval(), recipe, "sample", architecture, 0, [])
    export_onnx(trained, tmp_path / "m.onnx", precision=precision, check=False)
    targets: tuple[int, ...] = RTX_TARGETS
    if generator == "mlp":
        with pytest.raises(EngineError, match="SM75.*FP32 GEMM is not supported"):
            build_plan(tmp_path / "m.onnx", "tensorrt-rtx", sm=(75,))
        targets = tuple(target for target in targets if target != 75)
    plan, facts = build_plan(tmp_path / "m.onnx", "tensorrt-rtx", sm=targets)
    (tmp_path / "m.plan").write_bytes(plan)
    assert (facts.input_name, facts.output_name, facts.precision, facts.sizes[0]) == ("latent", "image", precision, (28, 28))
    assert read_facts(tmp_path / "m.plan") == facts
    with pytest.raises(ConfigError, match="a latent model has no frame size"):
        build_plan(tmp_path / "m.onnx", "tensorrt-rtx", (64, 48), sm=(89,))


@pytest.mark.parametrize("sm", RTX_TARGETS)
def test_the_bundled_model_builds_for_each_single_gpu(sm: int) -> None:
    plan, facts = build_plan(find_model("monet"), "tensorrt-rtx", (1280, 720), sm=(sm,))
    assert facts.sm == (sm,) and len(plan) > find_model("monet").stat().st_size // 2


def test_progress_rises_to_one_and_can_stop_the_build(tiny_model: Path) -> None:
    shares: list[float] = []
    build_plan(tiny_model, "tensorrt-rtx", (64, 48), sm=(89,), on_build=shares.append)
    assert shares == sorted(shares) and shares[0] == 0 < shares[1] < 0.5 and shares[-1] == 1.0

    def stop(share: float) -> None:
        if share > 0.1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(tiny_model, "tensorrt-rtx", (64, 48), sm=(89,), on_build=stop)


def test_a_fixed_model_needs_no_size(family_model: Callable[[str, str], Path]) -> None:
    path = family_model("frame-skip", "fp32")
    assert build_plan(path, "tensorrt-rtx", sm=(89,))[1].sizes == (FIXED_SIZE,) * 3
    with pytest.raises(EngineError, match="fixed to 192x108, got a frame of 128x96"):
        build_plan(path, "tensorrt-rtx", (128, 96), sm=(89,))


def test_invalid_sizes_targets_and_models_are_rejected(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a plan needs a frame size"):
        build_plan(tiny_model, "tensorrt-rtx", sm=(89,))
    with pytest.raises(ConfigError, match="builds for SM 75, .*, not for 87"):
        build_plan(tiny_model, "tensorrt-rtx", (64, 48), sm=(87,))
    with pytest.raises(ConfigError, match="128x128 to 64x64, best at 64x48: each size must be at least"):
        build_plan(tiny_model, "tensorrt-rtx", (64, 48), between=((128, 128), (64, 64)), sm=(89,))
    with pytest.raises(EngineError, match="frames start at 16x16"):
        build_plan(tiny_model, "tensorrt-rtx", (8, 8), sm=(89,))
    with pytest.raises(ModelError, match="no such model|cannot be read as a model"):
        build_plan(tmp_path / "none.onnx", "tensorrt-rtx", (64, 48), sm=(89,))
    ports = [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, 48, 64, 3]) for name in ("frame", "styled")]
    graph = helper.make_graph([helper.make_node("BitwiseNot", ["frame"], ["styled"])], "g", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(tmp_path / "m.onnx"))
    with pytest.raises((ModelError, EngineError), match="m.onnx.*[Bb]itwise|m.onnx: TensorRT cannot read it"):
        build_plan(tmp_path / "m.onnx", "tensorrt-rtx", sm=(89,))


def test_a_model_that_changes_the_frame_size_is_rejected(tmp_path: Path) -> None:
    model = resizing_model(tmp_path / "m.onnx", 2)
    with pytest.raises(EngineError, match="its output is 128x96 for an input of 64x48"):
        build_plan(model, "tensorrt-rtx", (64, 48), sm=(89,))
    with pytest.raises(EngineError, match="its output is 32x32 for an input of 16x16"):
        build_plan(model, "tensorrt-rtx", (64, 48), between=((16, 16), (64, 48)), sm=(89,))
    assert build_plan(resizing_model(model, 1), "tensorrt-rtx", (64, 48), sm=(89, 120, 89))[1].sm == (89, 120)


def test_a_plan_cannot_be_built_from_a_plan(tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.plan").write_bytes(build_plan(tiny_model, "tensorrt-rtx", (64, 48), sm=(89,))[0])
    capfd.readouterr()
    with pytest.raises(ModelError, match="m.plan: already a plan; expected an ONNX frame model"):
        build_plan(tmp_path / "m.plan", "tensorrt-rtx", (64, 48), sm=(89,))
    assert capfd.readouterr() == ("", "")


def test_build_rejects_plans_and_models_with_nan_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    model = onnx.load(str(tiny_model))
    weight = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("model.1.weight"))
    weight.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(weight), np.nan), weight.name))
    onnx.save(model, str(tmp_path / "nan.onnx"))
    options = ("-o", tmp_path / "m.plan", "--engine", "tensorrt-rtx", "--size", "64x48", "--sm", 89)
    rejected = run_command("build", tmp_path / "nan.onnx", *options)
    assert rejected.returncode == 1 and len(rejected.stderr.splitlines()) == 1, rejected.stderr
    assert "NaN values at 64x48" in rejected.stderr and not (tmp_path / "m.plan").exists()
    assert run_command("build", tmp_path / "nan.onnx", *options, "--no-verify").returncode == 0
    again = run_command("build", tmp_path / "m.plan", *options, "--overwrite")
    assert again.returncode == 1 and len(again.stderr.splitlines()) == 1, again.stderr
    assert "m.plan: already a plan; expected an ONNX frame model" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "dynamic"), "a size is WIDTHxHEIGHT, got 'dynamic'"),
        (("--size", "abc"), "a size is WIDTHxHEIGHT, got 'abc'"),
        (
            ("--engine", "nope"),
            "no engine named 'nope'; expected one of: auto, tensorrt, tensorrt-rtx, openvino, onnxruntime, webgpu, torch",
        ),
    ],
)
def test_verify_names_the_expected_values(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = run_command("verify", "monet", *arguments, *frame_options(tmp_path))
    assert done.returncode == 1 and message in " ".join(done.stderr.split())


def test_convolutions_in_another_precision_are_named() -> None:
    layers = [  # as in the developer guide of TensorRT 10, shortened
        {"Name": "c1", "LayerType": "CaskConvolution", "ParameterType": "Convolution", "Weights": {"Type": "Half", "Count": 9}},
        {"Name": "c2", "LayerType": "CaskConvolution", "ParameterType": "Convolution", "Weights": {"Type": "Float", "Count": 9}},
        {"Name": "d1", "LayerType": "CaskDeconvolution", "ParameterType": "Deconvolution", "Weights": {"Type": "Float"}},
        {"Name": "norm", "LayerType": "Scale", "ParameterType": "Scale", "Weights": {"Type": "Float"}},
        {"Name": "fused", "LayerType": "Myelin"},
        {"Name": "other", "ParameterType": "Convolution", "Weights": "in a format of a later version"},
        "only a name",
    ]
    information = json.dumps({"Layers": layers, "Bindings": ["frame", "styled"]})
    assert convolutions_not_in("fp16", information) == ["c2", "d1"]
    assert convolutions_not_in("fp32", information) == ["c1"]
    assert convolutions_not_in("mixed", information) == []
    for nothing in ("", "{}", "[]", '{"Layers": ["c1", "c2"]}'):
        assert convolutions_not_in("fp16", nothing) == []


def test_a_model_whose_metadata_name_another_precision_is_rejected(tiny_model: Path, tmp_path: Path) -> None:
    model = onnx.load(str(tiny_model))
    (entry,) = (entry for entry in model.metadata_props if entry.key == "cyclecast")
    entry.value = entry.value.replace('"fp32"', '"fp16"')
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match="its metadata say fp16, its convolutions are fp32"):
        build_plan(tmp_path / "m.onnx", "tensorrt-rtx", (64, 48), sm=(89,))


def test_a_plan_runs_on_its_own_engine_only(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "m.plan").write_bytes(build_plan(tiny_model, "tensorrt-rtx", (64, 48), sm=(89,))[0])
    with pytest.raises(ConfigError, match="a plan of tensorrt-rtx, which openvino cannot run"):
        open_engine(tmp_path / "m.plan", "openvino")
    try:
        engine = open_engine(tmp_path / "m.plan")
    except EngineUnavailable as error:
        assert "no NVIDIA GPU can be used" in str(error)
    else:
        assert engine.name == "tensorrt-rtx"


def test_foreign_and_damaged_plans_are_recognized(tiny_model: Path, tmp_path: Path) -> None:
    assert engine_of_plan(tiny_model) is None
    (tmp_path / "foreign.plan").write_bytes(b"ftrt" + bytes(100))
    assert engine_of_plan(tmp_path / "foreign.plan") == "tensorrt" and read_facts(tmp_path / "foreign.plan") is None
    for content in (b'{"engine": 1}}\0', b"3}\0", b"{"):
        (tmp_path / "odd.plan").write_bytes(b'vtrt..{"cyclecast_plan": ' + content)
        with pytest.raises(
            ModelError, match="odd.plan: a truncated plan, or one of another version of cyclecast; build it again"
        ):
            read_facts(tmp_path / "odd.plan")


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["tensorrt", "tensorrt-rtx"])
def test_a_plan_agrees_with_onnxruntime_within_a_gray_level(engine: str, tiny_model: Path, tmp_path: Path) -> None:
    try:
        opened = open_engine(tiny_model, engine)
    except EngineUnavailable as error:
        pytest.skip(str(error))
    expected = open_engine(tiny_model, "onnxruntime", "cpu")
    for frame in moving_frames(4, 320, 180):
        assert np.abs(opened.run(frame).astype(int) - expected.run(frame)).max() <= 1
    folder = cache_folder("plans")
    assert folder is not None and any(path.name.startswith(f"{engine}-") for path in folder.iterdir())


def test_the_facts_are_one_line_of_ascii() -> None:
    facts = PlanFacts(
        engine="tensorrt",
        version="10.3.0",
        sm=(87,),
        sizes=((16, 16), (1280, 720), (1920, 1080)),
        precision="fp16",
        input_name="frame",
        output_name="styled",
        model_hash="00",
        metadata='{"name": "é \\"quoted\\""}',
    )
    assert "\n" not in facts.to_json() and facts.to_json().isascii()
