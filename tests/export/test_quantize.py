"""Quantizes models to int8, and runs them in the engines."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import cyclecast
from cyclecast.errors import ConfigError, EngineUnavailable, ModelError
from cyclecast.export.checkpoints import TrainedGenerator
from cyclecast.export.equalize import equalize_channels, find_groups
from cyclecast.export.onnx import export_onnx
from cyclecast.export.quantize import quantize
from cyclecast.export.sensitivity import find_costly_convolutions
from cyclecast.runtime.bench import psnr_db
from cyclecast.runtime.engines import open_engine
from cyclecast.spec import METADATA_KEY
from cyclecast.training.networks import build_generator
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene
from tests.commands import run_command
from tests.conftest import FAMILIES, family_network, moving_frames

pytest.importorskip("nncf")


@pytest.fixture(scope="module")
def photos() -> list[Image]:
    """Eight views of the demo's scene, none like the other."""
    scene = Scene(160, 96)
    return [np.roll(scene.draw(index / 2), 17 * index, axis=1) for index in range(8)]


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small frame generator in fp32, fixed to the size of `photos`, so that quantizing takes a second."""
    path = tmp_path_factory.mktemp("exact") / "small.onnx"
    trained = TrainedGenerator(family_network("frame"), "distill", "a2b", FAMILIES["frame"], 0, moving_frames(1))
    export_onnx(trained, path, size=(160, 96), check=False)
    return path


@pytest.fixture(scope="module")
def command(exact: Path, photos: list[Image]) -> CompletedProcess[str]:
    """`quantize` on a folder of the photos, with a torn one and a hidden one beside them."""
    folder = exact.with_name("photos")
    folder.mkdir()
    for index, photo in enumerate(photos):
        cv2.imwrite(str(folder / f"{index}.png"), photo)
    (folder / "torn.jpg").write_bytes(b"no image")
    (folder / ".hidden.png").write_bytes(b"no image")
    output = exact.with_name("small-int8.onnx")
    return run_command("quantize", str(exact), "--photos", str(folder), "-o", str(output), "--json")


@pytest.fixture(scope="module")
def in_int8(exact: Path, command: CompletedProcess[str]) -> Path:
    assert command.returncode == 0, command.stderr
    return exact.with_name("small-int8.onnx")


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_an_int8_model_is_computed_in_int8_and_close_to_fp32(
    exact: Path, in_int8: Path, photos: list[Image], engine: str
) -> None:
    frames = [np.ascontiguousarray(photo[::-1]) for photo in photos]
    with closing(open_engine(in_int8, engine, "cpu")) as quick, closing(open_engine(exact, engine, "cpu", "fp32")) as slow:
        assert (quick.precision, quick.size) == ("int8", (160, 96))
        got = [quick.run(frame) for frame in frames]
        assert 42 < psnr_db([slow.run(frame) for frame in frames], got) < 80  # not equal: it is not fp32
    assert min(image.std() for image in got) > 10
    for precision in ("fp32", "bf16"):
        with pytest.raises(EngineUnavailable, match=f"in int8, not in {precision}"):
            open_engine(in_int8, engine, "cpu", precision)


def test_weights_take_a_quarter_and_quantizers_are_symmetric(exact: Path, in_int8: Path) -> None:
    graph = onnx.load(str(in_int8)).graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    stored = [weights[node.input[0]] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in weights]
    assert len(stored) >= 4 and all(tensor.data_type == onnx.TensorProto.INT8 for tensor in stored)
    zeros = [onnx.numpy_helper.to_array(weights[node.input[2]]) for node in graph.node if node.op_type == "QuantizeLinear"]
    assert zeros and not any(zero.any() for zero in zeros)  # TensorRT refuses others
    first, last = ([node for node in graph.node if node.op_type == "QuantizeLinear"][index] for index in (0, -1))
    assert onnx.numpy_helper.to_array(weights[last.input[1]]) == 1  # styled levels are whole numbers already
    assert onnx.numpy_helper.to_array(weights[first.input[1]]) == 1  # as are the frame's


def test_parts_that_cost_too_much_stay_in_floating_point(
    exact: Path, photos: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    limits = {"fp32": (1, 0.0), "mixed": (255, 45.0)}
    monkeypatch.setattr("cyclecast.export.quantize.TOLERANCE", limits | {"int8": (255, 120.0)})
    monkeypatch.setattr("cyclecast.export.agreement.TOLERANCE", limits | {"int8": (255, 120.0)})
    with pytest.raises(
        ModelError, match=r"m.onnx: not written: int8 has [\d.]+ dB PSNR against fp32 at best, expected .* 120 dB"
    ):
        quantize(exact, tmp_path / "m.onnx", photos, on_message=lines.append)
    assert all(float(line.split("(")[1].split()[0]) <= float(line.split()[0]) for line in lines)  # the worst photo
    assert [line.split(" with ")[1] for line in lines] == [
        "everything in int8: not enough",
        "sums in floating point: not enough",
    ]
    decibels = [float(line.split()[0]) for line in lines]
    assert decibels[1] > decibels[0] + 0.5
    assert not list(tmp_path.iterdir())
    reachable = decibels[1] + 1.5
    for module in ("quantize", "agreement"):
        monkeypatch.setattr(f"cyclecast.export.{module}.TOLERANCE", limits | {"int8": (255, reachable)})
    result = quantize(exact, tmp_path / "m.onnx", photos)
    assert result.kept[0] == "sums" and result.kept[1] in ("1 of 6 convolutions", "2 of 6 convolutions")
    assert result.agreement.psnr_db >= reachable


def test_the_convolution_with_the_coarsest_quantizer_is_the_costliest(exact: Path, in_int8: Path, photos: list[Image]) -> None:
    model = onnx.load(str(in_int8))
    producers = {name: node for node in model.graph.node for name in node.output}
    coarse = [node for node in model.graph.node if node.op_type == "Conv"][2]
    quantizers = [producers[coarse.input[0]], producers[producers[coarse.input[0]].input[0]]]
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == quantizers[0].input[1])
    scale.CopyFrom(numpy_helper.from_array(8 * numpy_helper.to_array(scale), scale.name))
    with closing(open_engine(exact, "onnxruntime", "cpu")) as engine:
        outputs = [engine.run(photo) for photo in photos[:2]]
    least_db = psnr_db(outputs, [run_model(model, photo) for photo in photos[:2]]) + 1
    assert find_costly_convolutions(model, photos[:2], outputs, least_db) == [coarse.name]


def run_model(model: onnx.ModelProto, photo: Image) -> Image:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    styled: Image = session.run(None, {"frame": photo[None]})[0][0]
    return styled


def test_the_command_reads_a_folder_of_photos_and_reports_the_difference(command: CompletedProcess[str], in_int8: Path) -> None:
    report = json.loads(command.stdout)
    assert report["calibrated"] == 6 and report["agreement"]["frames"] == 2 and report["agreement"]["psnr_db"] >= 44
    assert "torn.jpg" in command.stderr and ".hidden" not in command.stderr
    metadata = {entry.key: entry.value for entry in onnx.load(str(in_int8)).metadata_props}
    assert json.loads(metadata[METADATA_KEY])["precision"] == "int8"
    with pytest.raises(EngineUnavailable, match="an int8 model, which torch does not run"):
        cyclecast.open_engine(in_int8, "torch")


def test_export_quantizes_with_a_folder_of_photos_or_the_images_of_the_run(
    run: Path, command: CompletedProcess[str], exact: Path, tmp_path: Path
) -> None:
    output = tmp_path / "m.onnx"
    arguments = ("export", str(run), "-o", str(output), "--direction", "a2b", "--size", "96x64")
    done = run_command(*arguments, "--precision", "int8", "--photos", str(exact.with_name("photos")))
    assert done.returncode == 0, done.stderr
    with closing(open_engine(output)) as engine:
        assert (engine.precision, engine.size) == ("int8", (96, 64))
    few = run_command(*arguments, "--precision", "int8", "--overwrite")
    assert few.returncode == 2 and "--precision int8 needs photos" in few.stderr
    useless = run_command(*arguments, "--photos", str(tmp_path))
    assert useless.returncode == 2 and "--photos sets the ranges of int8" in useless.stderr


def test_what_cannot_be_quantized_is_refused_in_one_line(exact: Path, in_int8: Path, photos: list[Image], tmp_path: Path) -> None:
    output = tmp_path / "q.onnx"
    with pytest.raises(ConfigError, match="found 7 photos to quantize with; expected at least 8"):
        quantize(exact, output, photos[:7])
    with pytest.raises(ConfigError, match="int8; quantize a model that was exported with --precision fp32"):
        quantize(in_int8, output, photos)
    half = tmp_path / "half.onnx"
    trained = TrainedGenerator(build_generator("frame", width=8, blocks=1), "distill", "a2b", {}, 0, photos[:1])
    export_onnx(trained, half, precision="fp16", size=(160, 96), check=False)
    with pytest.raises(ConfigError, match="fp16; quantize a model"):
        quantize(half, output, photos)
    (empty := tmp_path / "empty").mkdir()
    for arguments, words in (
        ((str(exact), "--photos", str(tmp_path / "absent")), "no such folder"),
        ((str(exact), "--photos", str(empty)), "no photos in it"),
        (("absent.onnx", "--photos", str(tmp_path)), "no such file"),
    ):
        done = run_command("quantize", *arguments, "-o", str(output))
        assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: ") and words in done.stderr
    assert not output.exists()


def test_channels_of_different_ranges_are_equalized_without_a_change_of_the_output(
    exact: Path, photos: list[Image], tmp_path: Path
) -> None:
    model = onnx.load(str(exact))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    group = max(find_groups(model.graph), key=lambda group: len(group.tensors))  # the trunk: every block adds to it
    assert len(group.producers) > 2 and len(group.consumers) > 2
    factors = np.geomspace(1, 1000, len(weights[group.producers[0].input[1]])).astype(np.float32)
    for node in group.producers:
        for name in node.input[1:]:  # weights, and bias if there is one
            weights[name] = (weights[name].T / factors).T
    for node in group.consumers:
        weights[node.input[1]] = weights[node.input[1]] * factors[:, None, None]
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    uneven, even = tmp_path / "uneven.onnx", tmp_path / "even.onnx"
    onnx.save(model, str(uneven))
    equalize_channels(model, photos)
    onnx.save(model, str(even))
    with closing(open_engine(even, "onnxruntime", "cpu")) as equalized, closing(open_engine(uneven, "onnxruntime", "cpu")) as one:
        assert max(np.abs(equalized.run(photo).astype(int) - one.run(photo)).max() for photo in photos) <= 1
    after = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    spread = [np.ptp(np.log(np.abs(each[group.producers[0].input[1]]).max((1, 2, 3)))) for each in (weights, after)]
    assert spread[1] < 0.5 * spread[0]  # the ratio of the largest channel to the smallest one, as a logarithm


def test_channels_that_something_else_reads_are_not_scaled(exact: Path) -> None:
    model = onnx.load(str(exact))
    groups = find_groups(model.graph)
    output = groups[-1].consumers[0].input[0]
    model.graph.node.append(onnx.helper.make_node("Sigmoid", [output], ["read"]))
    assert len(find_groups(model.graph)) == len(groups) - 1
