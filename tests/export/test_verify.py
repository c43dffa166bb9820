"""Engines held against PyTorch and each other: through the command that a user types."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import cyclecast
from cyclecast.errors import ConfigError, EngineError, EngineUnavailable
from cyclecast.export.agreement import compare, compare_engines, count_nan
from cyclecast.export.checkpoints import TrainedGenerator, read_generator
from cyclecast.export.frame_graph import LatentGraph
from cyclecast.export.onnx import export_onnx
from cyclecast.export.torch_engine import TorchEngine
from cyclecast.runtime.engines import open_engine
from cyclecast.runtime.onnx_file import openvino_library
from cyclecast.training.networks import ConvGenerator, build_generator
from cyclecast.video.images import read_image
from tests.conftest import FAMILIES, moving_pictures, shared


def cyclecast_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cyclecast", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(
    scope="module", params=[(family, precision) for family in FAMILIES for precision in ("fp32", "fp16")], ids="-".join
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedGenerator]:
    """Each family in each precision, its weights those of a start."""
    family, precision = request.param
    torch.manual_seed(0)
    network = build_generator(**FAMILIES[family]).eval()
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.uniform_(-0.1, 0.1)  # as if it had seen pictures
        norm.running_var.uniform_(0.5, 1.5)
    trained = TrainedGenerator(network, "cyclegan", "a2b", FAMILIES[family], 0, [])
    path = tmp_path_factory.mktemp("models") / f"{family}-{precision}.onnx"
    export_onnx(trained, path, precision=precision, check=False)
    return path, trained


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_every_family_makes_the_same_picture_in_every_engine(exported: tuple[Path, TrainedGenerator], name: str) -> None:
    from cyclecast.export.verify import verify

    path, trained = exported
    photos = [read_image(path) for path in sorted(shared("data/monet2photo/testB").glob("*.jpg"))[:2]]
    if name == "torch" and trained.architecture.get("norm") == "batch":
        with pytest.raises(EngineUnavailable, match="export folds them into convolutions"):
            cyclecast.open_engine(path, name)
        return
    precisions = ["fp32", "auto"] if name == "openvino" else ["auto"]
    for precision in precisions:
        engine = cyclecast.open_engine(path, name, "cpu", precision)
        report = verify(engine, trained.network, photos, sizes=((97, 131), (256, 256), (1280, 720)))  # type: ignore[arg-type]
        assert len(report) == 3
        assert all(agreement.passed for agreement in report), report  # fp32: a grey level; fp16 and bf16: 45 dB
        assert count_nan(path, photos, (256, 256)) == 0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_dcgan_draws_the_same_picture_in_every_library(precision: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ConvGenerator(latent=100, image_size=64, channels=3, ngf=16)
    for weight in (weight for weight in network.parameters() if weight.ndim > 1):
        torch.nn.init.normal_(weight, std=0.1)  # strong enough for a picture
    for _ in range(30):
        network(torch.randn(16, 100))  # its norms' statistics
    network.eval()
    path = tmp_path / "dcgan.onnx"
    (in_onnxruntime,) = export_onnx(TrainedGenerator(network, "dcgan", "sample", {}, 0, []), path, precision=precision)
    assert in_onnxruntime.passed
    latents = torch.randn(8, 100)
    expected = LatentGraph(network)(latents).numpy()
    assert expected.std() > 20  # a picture, not a grey wall
    core = openvino_library().Core()
    computed = (
        {"fp32": "f32", "bf16": "bf16"} if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else {"fp32": "f32"}
    )
    for name, hint in computed.items():
        model = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": hint})
        made = model({"latent": latents.numpy()})[0]
        least = precision if name == "fp32" else name
        assert compare((64, 64), zip(made, expected, strict=True), least).passed, (name, precision)


def test_values_that_are_no_numbers_are_counted(tiny_model: Path, tmp_path: Path) -> None:
    frames = moving_pictures(2)
    assert count_nan(tiny_model, frames) == 0
    model = onnx.load(str(tiny_model))
    weight = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("model.1.weight"))
    broken = numpy_helper.to_array(weight).copy()
    broken[0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(broken, weight.name))
    onnx.save(model, str(tmp_path / "m.onnx"))
    assert count_nan(tmp_path / "m.onnx", frames) > 0
    told = cyclecast_command("verify", tmp_path / "m.onnx", "--engine", "onnxruntime", "--engine", "onnxruntime", "--json")
    assert told.returncode == 1 and json.loads(told.stdout)["passed"] is False


def test_the_command_holds_a_model_against_its_checkpoint(tiny_model: Path, run: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), moving_pictures(3, 80, 60)[1])
    told = cyclecast_command(
        "verify", tiny_model, "--against", run, "--frames", tmp_path / "p.png", "--size", "50x40", "--precision", "fp32", "--json"
    )
    assert told.returncode == 0, told.stderr
    report = json.loads(told.stdout)
    assert (report["frames"], report["nan"], report["passed"], report["sizes"][0]["size"]) == (1, 0, True, [50, 40])
    assert report["sides"][1] == "pytorch fp32" and report["max_abs"] <= 1 and report["psnr_db"] > 40


def test_another_generator_is_told_apart(tiny_model: Path, run: Path, tmp_path: Path) -> None:
    export_onnx(read_generator(run, "b2a"), tmp_path / "other.onnx", check=False)
    one, other = open_engine(tiny_model, "onnxruntime"), open_engine(tmp_path / "other.onnx", "onnxruntime")
    assert not any(agreement.passed for agreement in compare_engines(one, other, moving_pictures(2)))
    with pytest.raises(ConfigError, match="no frame to compare"):
        compare_engines(one, other, [])


def test_a_plan_is_built_by_the_command(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="tensorrt-rtx is not installed")
    asked = ("build", tiny_model, "-o", tmp_path / "m.plan", "--engine", "tensorrt-rtx", "--size", "64x48")
    told = cyclecast_command(*asked, "--sm", 89, "--sm", 120, "--json")
    assert told.returncode == 0, told.stderr
    facts = json.loads(told.stdout)
    assert (facts["sm"], facts["precision"], facts["engine"]) == ([89, 120], "fp32", "tensorrt-rtx")
    assert facts["verified"] or "GPU" in facts["not_verified"]
    again = cyclecast_command(*asked, "--sm", 89)
    assert again.returncode == 1 and "exists already; --overwrite replaces it" in again.stderr
    unknown = cyclecast_command("build", tiny_model, "-o", tmp_path / "n.plan", "--engine", "openvino", "--size", "64x48")
    assert unknown.returncode == 1 and "plans are built by tensorrt or tensorrt-rtx" in unknown.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m.plan"]


def test_the_reference_engine_takes_its_own_models_only(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="torch finds no GPU|not on"):
        TorchEngine(tiny_model, "cuda:64", "auto")
    with pytest.raises(EngineUnavailable, match="in fp32 or less, not in int8"):
        TorchEngine(tiny_model, "cpu", "int8")
    model = onnx.load(str(tiny_model))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "foreign.onnx"))
    with pytest.raises(EngineUnavailable, match="torch runs models that cyclecast exported"):
        TorchEngine(tmp_path / "foreign.onnx", "cpu", "auto")
    engine = TorchEngine(tiny_model, "cpu", "bf16")
    assert engine.precision == "bf16"
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(moving_pictures(1)[0])
