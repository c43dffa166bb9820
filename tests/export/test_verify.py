"""Compares engines with PyTorch and with each other, through the functions and through `cyclecast verify`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

import cyclecast
from cyclecast.errors import ConfigError, EngineError, EngineUnavailable, ModelError
from cyclecast.export import agreement
from cyclecast.export.agreement import center_crop_resize, compare, compare_engines, count_nan, default_precision
from cyclecast.export.checkpoints import TrainedGenerator, read_generator
from cyclecast.export.frame_graph import LatentGraph
from cyclecast.export.onnx import export_onnx
from cyclecast.export.torch_engine import TorchEngine
from cyclecast.export.verify import Reference
from cyclecast.runtime.engine import spec_from_metadata
from cyclecast.runtime.engines import open_engine
from cyclecast.runtime.onnx_file import openvino_core
from cyclecast.spec import ModelSpec
from cyclecast.training.machine import pick_device
from cyclecast.training.networks import ConvGenerator, build_generator
from cyclecast.video.files.images import read_image
from cyclecast.video.frame import Image
from tests.commands import run_command
from tests.conftest import ANY_SIZE, EXPORTED, FAMILIES, FIXED_SIZE, family_network, moving_frames, shared
from tests.export.originals import CachedReference, resnet, saved, with_contrast

FamilyModel = Callable[[str, str], Path]


@functools.cache
def photos() -> list[Image]:
    return [read_image(path) for path in sorted(shared("data/monet2photo/testB").glob("*.jpg"))[:2]]


@pytest.fixture(scope="module")
def references() -> Callable[[str], CachedReference]:
    """references(family): its network in PyTorch."""
    return functools.cache(lambda family: CachedReference(family_network(family)))


each_exported = pytest.mark.parametrize("exported", EXPORTED, ids="-".join)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
@each_exported
def test_every_family_has_the_same_output_in_every_engine(
    exported: tuple[str, str], name: str, family_model: FamilyModel, references: Callable[[str], CachedReference]
) -> None:
    path, expected = family_model(*exported), references(exported[0])
    precisions = ["fp32", "auto"] if name == "openvino" else ["auto"]
    sizes = ((97, 131), (16, 16), FIXED_SIZE) if exported in ANY_SIZE else (FIXED_SIZE,)
    for precision in precisions:
        engine = cyclecast.open_engine(path, name, "cpu", precision)
        assert engine.size == (None if exported in ANY_SIZE else FIXED_SIZE)
        if name == "onnxruntime":  # once is enough: the other engines are compared on the same images
            assert all(expected.run(center_crop_resize(photo, *size)).std() > 10 for photo in photos() for size in sizes)
            assert count_nan(path, photos(), FIXED_SIZE) == 0
        report = compare_engines(engine, expected, photos(), sizes)
        assert [agreement.size for agreement in report] == [*sizes]
        assert all(agreement.passed for agreement in report), report  # fp32: a gray level; fp16 and bf16: 45 dB


NORMS = ("InstanceNormalization", "BatchNormalization")


@each_exported
def test_norms_compute_in_fp32_and_follow_convolutions_without_a_bias(
    exported: tuple[str, str], family_model: FamilyModel
) -> None:
    path, architecture = family_model(*exported), FAMILIES[exported[0]]
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(path))).graph
    dtypes = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    producers = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    norms = [node for node in graph.node if node.op_type in NORMS]
    folded = architecture.get("norm") == "batch" and path.stem.endswith("fp32")  # into the convolutions
    assert bool(norms) == (architecture["generator"] != "frame" and not folded)
    assert {dtypes[name] for norm in norms for name in (norm.input[0], norm.output[0])} <= {onnx.TensorProto.FLOAT}
    biased = []
    for norm in norms:
        before = producers[norm.input[0]]
        while before.op_type == "Cast":
            before = producers[before.input[0]]
        assert before in convolutions
        biased += [before] if len(before.input) == 3 else []
    is_shifted = norms and not architecture["generator"].startswith("unet")  # its input is centered
    assert biased == (convolutions[:1] if is_shifted else [])  # on purpose: see `fold_colors`


def test_a_dcgan_generates_the_same_images_in_every_library(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ConvGenerator(latent=100, image_size=64, channels=3, ngf=8)
    for weight in (weight for weight in network.parameters() if weight.ndim > 1):
        torch.nn.init.normal_(weight, std=0.15)  # so that the images have contrast
    for _ in range(10):
        network(torch.randn(16, 100))  # sets its norms' statistics
    network.eval()
    latents = torch.randn(8, 100)
    expected = LatentGraph(network)(latents).numpy()
    assert expected.std() > 20  # has contrast
    core = openvino_core()
    hints = (
        {"fp32": "f32", "bf16": "bf16"} if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else {"fp32": "f32"}
    )
    for precision in ("fp32", "fp16"):
        path = tmp_path / f"{precision}.onnx"
        (in_onnxruntime,) = export_onnx(TrainedGenerator(network, "dcgan", "sample", {}, 0, []), path, precision=precision)
        assert in_onnxruntime.passed
        for name, hint in hints.items():
            model = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": hint})
            outputs = model({"latent": latents.numpy()})[0]
            least = precision if name == "fp32" else name
            assert compare((64, 64), zip(outputs, expected, strict=True), least).passed, (name, precision)


def test_nan_values_are_counted(tiny_model: Path, tmp_path: Path) -> None:
    frames = moving_frames(2)
    assert count_nan(tiny_model, frames) == 0
    model = onnx.load(str(tiny_model))
    weight = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("model.1.weight"))
    broken = numpy_helper.to_array(weight).copy()
    broken[0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(broken, weight.name))
    onnx.save(model, str(tmp_path / "m.onnx"))
    assert count_nan(tmp_path / "m.onnx", frames) > 0
    done = run_command("verify", tmp_path / "m.onnx", *2 * ("--engine", "onnxruntime"), "--size", "64x48", "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["passed"] is False


def test_a_network_with_nan_in_its_output_is_not_exported(tmp_path: Path) -> None:
    frames, generator = moving_frames(2), build_generator("frame", width=8, blocks=1)
    dcgan = ConvGenerator(latent=4, image_size=8, channels=3, ngf=2).eval()
    for network in (generator, dcgan):
        torch.nn.init.constant_(next(network.parameters())[0], torch.nan)
    trained = TrainedGenerator(generator, "distill", "a2b", {}, 0, frames)
    in_fp16: dict[str, Any] = {"precision": "fp16", "size": (64, 48)}
    latent = TrainedGenerator(dcgan, "dcgan", "a2b", {}, 0, [])
    for broken, options in ((trained, in_fp16), (latent, {})):  # fp32: in the next test but one
        where = " at 64x48" if "size" in options else ""
        message = rf"its output has \d+ NaN values{where}, computed in {options.get('precision', 'fp32')}, so it was not kept"
        with pytest.raises(ModelError, match=message):
            export_onnx(broken, tmp_path / "m.onnx", **options)
        assert list(tmp_path.iterdir()) == []
    assert export_onnx(trained, tmp_path / "m.onnx", size=(64, 48), check=False) == []


def test_a_network_that_overflows_in_fp16_is_exported_in_fp32_only(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_generator("resnet", blocks=1, ngf=2).eval()
    with torch.no_grad():
        network.get_parameter("model.4.weight").mul_(1e6)  # a norm follows, which undoes it
    trained = TrainedGenerator(network, "cyclegan", "a2b", {}, 0, moving_frames(2))
    assert all(agreement.passed for agreement in export_onnx(trained, tmp_path / "m.onnx", size=(64, 48)))
    with pytest.raises(ModelError, match="NaN values at 64x48, computed in fp16"):
        export_onnx(trained, tmp_path / "half.onnx", precision="fp16", size=(64, 48))


def test_a_pth_with_nan_is_rejected_in_one_line(tmp_path: Path) -> None:
    state = build_generator("resnet", blocks=1, ngf=2).state_dict()
    state["model.1.weight"][0] = torch.nan
    torch.save(state, tmp_path / "nan_net_G.pth")
    done = run_command("export", tmp_path / "nan_net_G.pth", "-o", tmp_path / "m.onnx", "--size", "64x48")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: its output has 27648 NaN values at 64x48")
    assert [path.name for path in tmp_path.iterdir()] == ["nan_net_G.pth"]


def test_adopt_warns_if_the_default_precision_changes_the_output(tmp_path: Path) -> None:
    """Two convolutions with values between them that bf16 resolves in steps of 16, or of 0.5."""
    for offset, name in ((4000.0, "coarse.onnx"), (0.0, "fine.onnx")):
        constants = {"w": np.eye(3)[:, :, None, None], "up": np.full(3, offset), "down": np.full(3, -offset)}
        nodes = [helper.make_node("Conv", ["x", "w", "up"], ["high"]), helper.make_node("Conv", ["high", "w", "down"], ["y"])]
        ports = [helper.make_tensor_value_info(port, onnx.TensorProto.FLOAT, [1, 3, "h", "w"]) for port in "xy"]
        weights = [numpy_helper.from_array(value.astype(np.float32), key) for key, value in constants.items()]
        graph = helper.make_graph(nodes, "theirs", ports[:1], ports[1:], weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), str(tmp_path / name))
    done = {
        name: run_command(
            "adopt",
            tmp_path / name,
            "-o",
            tmp_path / f"our-{name}",
            "--range",
            "0..255",
            "--output-range",
            "0..255",
            "--color",
            "rgb",
        )
        for name in ("coarse.onnx", "fine.onnx")
    }
    assert all(one.returncode == 0 for one in done.values()), done
    assert "--precision auto now means fp32" not in done["fine.onnx"].stderr
    in_bf16 = open_engine(tmp_path / "our-fine.onnx").precision == "bf16"
    warnings = [line for line in done["coarse.onnx"].stderr.splitlines() if line.endswith("--precision auto now means fp32")]
    assert len(warnings) == in_bf16
    if in_bf16:  # the file records it, and `auto` heeds it
        assert "openvino computes it in bf16 here by default, which differs by" in warnings[0] and " dB" in warnings[0]
        engine = open_engine(tmp_path / "our-coarse.onnx")
        assert engine.precision == "fp32" and spec_from_metadata("", engine.metadata).auto_precision == "fp32"
        assert open_engine(tmp_path / "our-coarse.onnx", "openvino", precision="bf16").precision == "bf16"
        cv2.imwrite(str(tmp_path / "i.png"), moving_frames(1)[0])
        shown = run_command("convert", tmp_path / "i.png", tmp_path / "j.png", "--model", tmp_path / "our-coarse.onnx")
        assert "our-coarse: bf16 costs this model too much accuracy, as its file says: computing in fp32" in shown.stderr
        assert "our-coarse on openvino fp32" in shown.stderr
        options = ("--model", tmp_path / "our-coarse.onnx", "--sink", "null", "--seconds", 0.5)
        live = run_command("live", "pattern://96x96@10", *options)
        assert live.returncode == 0 and "as its file says: computing in fp32" in live.stderr, live.stderr


def test_export_records_that_bf16_costs_a_generator_too_much(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = saved(with_contrast(resnet(1, 2)), tmp_path / "latest_net_G.pth"), tmp_path / "m.onnx"
    if open_engine(tiny_model).precision != "bf16":
        pytest.skip("this processor does not compute in bf16 by default")
    monkeypatch.setitem(agreement.TOLERANCE, "bf16", (255, 200.0))  # which no bf16 arithmetic keeps
    done = run_command("export", path, "-o", model, "--size", "64x48")
    assert done.returncode == 0 and "--precision auto now means fp32" in done.stderr, done.stderr
    engine = open_engine(model)
    assert engine.precision == "fp32" and spec_from_metadata("", engine.metadata).auto_precision == "fp32"


def test_the_default_precision_stays_if_the_engine_that_auto_chooses_fails(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["frame"], ["x"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Reshape", ["x", "to"], ["y"]),  # the file declares any size, but this works for one only
        helper.make_node("Cast", ["y"], ["styled"], to=onnx.TensorProto.UINT8),
    ]
    shape: list[int | str | None] = [1, "height", "width", 3]
    ports = [helper.make_tensor_value_info(port, onnx.TensorProto.UINT8, shape) for port in ("frame", "styled")]
    weights = [numpy_helper.from_array(np.array([1, 64, 64, 3]), "to")]
    graph = helper.make_graph(nodes, "one size", ports[:1], ports[1:], weights)
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), str(path))
    spec, warning = default_precision(path, ModelSpec(), moving_frames(1))
    assert spec == ModelSpec()
    if open_engine(path).precision == "fp32":
        assert warning is None  # the model's own precision, which export has checked
    else:
        assert warning is not None and warning.startswith("the engine that --engine auto chooses here fails: ")


def test_verify_compares_a_model_with_its_checkpoint(tiny_model: Path, run: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), moving_frames(3, 80, 60)[1])
    done = run_command(
        "verify", tiny_model, "--against", run, "--frames", tmp_path / "p.png", "--size", "50x40", "--precision", "fp32", "--json"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["frames"], report["nan"], report["passed"], report["sizes"][0]["size"]) == (1, 0, True, [50, 40])
    assert report["sides"][1] == "pytorch fp32" and report["max_abs"] <= 1 and report["psnr_db"] > 40


def test_verify_compares_two_model_files(family_model: FamilyModel) -> None:
    one, other = (family_model("frame", precision) for precision in ("fp16", "fp32"))
    done = run_command(
        "verify", one, "--engine", "onnxruntime", "--against", other, "--size", f"{FIXED_SIZE[0]}x{FIXED_SIZE[1]}", "--json"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["sides"] == ["onnxruntime fp16", "onnxruntime fp32"] and report["passed"] and report["psnr_db"] > 45


def test_verify_needs_a_reference_for_a_plan(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "m.plan").write_bytes(b"vtrt and so on")
    done = run_command("verify", tmp_path / "m.plan")
    assert done.returncode == 1 and "add --against and the model it was built from" in done.stderr


def test_another_generator_fails_the_comparison(tiny_model: Path, run: Path) -> None:
    one, other = open_engine(tiny_model, "onnxruntime"), Reference(read_generator(run, "b2a").network)  # type: ignore[arg-type]
    assert not any(agreement.passed for agreement in compare_engines(one, other, moving_frames(2)))
    with pytest.raises(ConfigError, match="no frame to compare"):
        compare_engines(one, other, [])


def test_build_writes_a_plan(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="tensorrt-rtx is not installed")
    build_command = ("build", tiny_model, "-o", tmp_path / "m.plan", "--engine", "tensorrt-rtx", "--size", "64x48")
    done = run_command(*build_command, "--sm", 89, "--sm", 120, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["sm"], facts["precision"], facts["engine"]) == ([89, 120], "fp32", "tensorrt-rtx")
    assert facts["verified"] or "GPU" in facts["not_verified"]
    again = run_command(*build_command, "--sm", 89)
    assert again.returncode == 1 and "exists already; --overwrite replaces it" in again.stderr
    unknown = run_command("build", tiny_model, "-o", tmp_path / "n.plan", "--engine", "openvino", "--size", "64x48")
    assert unknown.returncode == 1 and "expected --engine tensorrt or tensorrt-rtx" in unknown.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m.plan"]


@pytest.mark.parametrize("allowed", [True, False])
def test_the_torch_engine_restores_the_tf32_setting(allowed: bool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
    engine, seen = TorchEngine(tiny_model, "cpu", "fp32"), []
    assert engine._graph is not None
    engine._graph.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    engine.run(moving_frames(1)[0])
    assert seen == [False] and torch.backends.cudnn.allow_tf32 is allowed


@pytest.mark.parametrize(
    ("present", "device"),
    [(("cuda", "mps", "xpu"), "cuda:0"), (("mps", "xpu"), "mps"), (("xpu",), "xpu:0"), ((), "cpu")],
)
def test_the_torch_engine_chooses_the_same_device_as_training(
    present: tuple[str, ...], device: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TorchEngine(tiny_model, "cpu", "fp32")
    for name, backend in (("cuda", torch.cuda), ("mps", torch.backends.mps), ("xpu", torch.xpu)):
        monkeypatch.setattr(backend, "is_available", lambda name=name: name in present)
        if name != "mps":
            monkeypatch.setattr(backend, "device_count", lambda name=name: int(name in present))
    assert str(engine._pick_device("auto")) == device == str(pick_device("auto"))
    if present:
        assert str(engine._pick_device("gpu")) == device
    else:
        with pytest.raises(EngineUnavailable, match="torch finds no GPU 'gpu' here"):
            engine._pick_device("gpu")


def test_the_torch_engine_runs_exported_models_only(tiny_model: Path, tmp_path: Path) -> None:
    for device in ("cuda:64", "tpu"):
        with pytest.raises(EngineUnavailable, match="torch finds no GPU|not on"):
            TorchEngine(tiny_model, device, "auto")
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
        engine.run(moving_frames(1)[0])


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"generator": ["resnet6"]}, "the metadata of .* name no network"),
        ({"generator": "resnet6", "ngf": -1}, "cannot build its network|weights do not fit"),
        ({"generator": "resnet6", "ngf": "four"}, "cannot build its network"),
    ],
)
def test_the_torch_engine_reports_a_malformed_architecture_in_one_line(
    architecture: dict[str, object], message: str, tiny_model: Path, tmp_path: Path
) -> None:
    model = onnx.load(str(tiny_model))
    helper.set_model_props(model, {"cyclecast": json.dumps({"architecture": architecture})})
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises((EngineUnavailable, ModelError), match=message) as caught:
        TorchEngine(tmp_path / "m.onnx", "cpu", "auto")
    assert "\n" not in str(caught.value)
