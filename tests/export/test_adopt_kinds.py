"""Kinds of ONNX files that people have: each is adopted with the right output, or refused in one line that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.adopt import adopt
from cyclecast.export.adopt.overrides import Overrides
from cyclecast.export.agreement import compare
from tests.commands import json_of, run_command
from tests.conftest import moving_frames, shared
from tests.export.test_adopt import FRAMES, RGB, Image, findings_of, node, plain, save, styled

without_trial = pytest.mark.usefixtures("without_trial")

IDENTITY = np.zeros((3, 3, 3, 3), np.float32)
IDENTITY[:, :, 1, 1] = np.eye(3)
BLUR = np.zeros((3, 3, 3, 3), np.float32)
for channel in range(3):
    BLUR[channel, channel] = 1 / 9


def psnr(one: Image, other: Any) -> float:
    other = np.asarray(np.clip(np.rint(other), 0, 255), np.uint8)
    return compare(one.shape[1::-1], [(one, other)], "fp32").psnr_db


def run_original(path: Path, x: Any, **inputs: Any) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(x, np.float32), **inputs})[0]


def blocks(path: Path, side: int, **settings: Any) -> Path:
    """Moves blocks of pixels into channels and back, so the sides must be multiples of `side`."""
    nodes = [
        node("SpaceToDepth", ["x"], ["deep"], blocksize=side),
        node("DepthToSpace", ["deep"], ["wide"], blocksize=side),
        node("Tanh", ["wide"], ["y"]),
    ]
    return plain(path, nodes, **settings)


def u_net(path: Path, depth: int) -> Path:
    """Halves the sides `depth` times, enlarges them again, and adds the input of each step."""
    nodes, constants = [], {"up": np.ones((3, 1, 2, 2), np.float32)}
    value, skipped = "x", []
    for step in range(depth):
        skipped.append(value)
        nodes.append(node("AveragePool", [value], [f"down{step}"], kernel_shape=[2, 2], strides=[2, 2]))
        value = f"down{step}"
    for step in reversed(range(depth)):
        nodes.append(node("ConvTranspose", [value, "up"], [f"up{step}"], strides=[2, 2], group=3))
        nodes.append(node("Add", [f"up{step}", skipped[step]], [f"sum{step}"]))
        value = f"sum{step}"
    return plain(path, [*nodes, node("Tanh", [value], ["y"])], constants)


@pytest.mark.parametrize(("depth", "multiple"), [(7, 128), (8, 256), (9, 512)])
@without_trial
def test_multiples_of_deep_u_nets_are_found(depth: int, multiple: int, tmp_path: Path) -> None:
    adopted = adopt(u_net(tmp_path / "t.onnx", depth), tmp_path / "o.onnx", FRAMES, RGB)
    assert findings_of(adopted)["multiple"][0] == str(multiple)
    assert styled(tmp_path / "o.onnx", moving_frames(1, 97, 51)[0]).shape == (51, 97, 3)


@without_trial
def test_a_patch_of_14_is_found_and_other_multiples_are_named_in_the_error(tmp_path: Path) -> None:
    adopted = adopt(blocks(tmp_path / "t.onnx", 14), tmp_path / "o.onnx", FRAMES, RGB)
    assert findings_of(adopted)["multiple"][0] == "14"
    blocks(tmp_path / "nine.onnx", 9)
    with pytest.raises(ModelError, match=r"multiples of 1, 4, .*512: none works; --multiple N sets another one"):
        adopt(tmp_path / "nine.onnx", tmp_path / "p.onnx", FRAMES, RGB)
    adopt(tmp_path / "nine.onnx", tmp_path / "p.onnx", FRAMES, Overrides(color="rgb", multiple=9))


@pytest.mark.parametrize(
    ("inside", "outside", "layout"), [(1, 1, "nchw"), (1, 3, "nchw"), (1, 3, "nhwc"), (3, 1, "nhwc")], ids=str
)
@without_trial
def test_gray_inputs_and_outputs(inside: int, outside: int, layout: str, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).uniform(0.1, 0.3, (outside, inside, 1, 1)).astype(np.float32)
    before, after = [], "wide"
    nodes = [node("Conv", ["planes" if layout == "nhwc" else "x", "w"], [after])]
    if layout == "nhwc":
        before = [node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2])]
        nodes.append(node("Transpose", ["wide"], ["y_wide"], perm=[0, 2, 3, 1]))
        after = "y_wide"
    shapes = [[1, c, "h", "w"] if layout == "nchw" else [1, "h", "w", c] for c in (inside, outside)]
    path = save(tmp_path / "t.onnx", [*before, *nodes, node("Sigmoid", [after], ["y"])], {"w": weight}, shapes)
    frame = moving_frames(3, 64, 48)[1]
    for gray, shares in (("luma", (0.299, 0.587, 0.114)), ("mean", (1 / 3, 1 / 3, 1 / 3))):
        adopted = adopt(path, tmp_path / "o.onnx", FRAMES, Overrides(color="rgb", range="0..1", gray=gray), overwrite=True)
        found = findings_of(adopted)
        assert ("color" in found) == (inside + outside > 2) and ("gray input" in found) == (inside == 1)
        x = frame[..., ::-1].astype(np.float32) / 255
        x = x @ np.array(shares, np.float32)[:, None] if inside == 1 else x
        x = x[None] if layout == "nhwc" else x.transpose(2, 0, 1)[None]
        y = run_original(path, x)[0]
        y = y if layout == "nhwc" else y.transpose(1, 2, 0)
        for engine in ("onnxruntime", "openvino"):
            assert psnr(styled(tmp_path / "o.onnx", frame, engine), 255 * y[..., ::-1].repeat(3 // outside, 2)) > 48


def test_a_gray_model_needs_no_color_order(tmp_path: Path) -> None:
    plain(tmp_path / "t.onnx", [node("Sigmoid", ["x"], ["y"])], shape=[1, 1, "h", "w"])
    assert adopt(tmp_path / "t.onnx", tmp_path / "o.onnx", FRAMES, Overrides(range="0..1")).spec.architecture["channels"] == (
        1,
        1,
    )


def with_ports(path: Path) -> Path:
    """Writes y = sigmoid(x * strength) and a mask, the mean of y; y does not use the input `style`."""
    nodes = [
        node("Mul", ["x", "strength"], ["strong"]),
        node("Sigmoid", ["strong"], ["y"]),
        node("ReduceMean", ["y", "axes"], ["mask"]),
        node("ReduceSum", ["style"], ["unused"]),
    ]
    plain(path, nodes, {"axes": np.array([1])})
    model = onnx.load(str(path))
    model.graph.input.append(helper.make_tensor_value_info("strength", TensorProto.FLOAT, []))
    model.graph.input.append(helper.make_tensor_value_info("style", TensorProto.INT64, [1, 3]))
    model.graph.output.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 1, "h", "w"]))
    onnx.save(model, str(path))
    return path


@without_trial
def test_extra_inputs_are_set_and_an_output_is_chosen(tmp_path: Path) -> None:
    path, frame = with_ports(tmp_path / "t.onnx"), moving_frames(3, 64, 48)[1]
    refused = run_command("adopt", path, "-o", tmp_path / "o.onnx")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    for part in ("x float32 (1, 3, ?, ?), strength float32 (), style int64 (1, 3)", "--set-input NAME=VALUE"):
        assert part in refused.stderr
    assert "y float32 (1, 3, ?, ?), mask float32 (1, 1, ?, ?): name the image with --output-name NAME" in refused.stderr
    common = ("--color", "rgb", "--range", "0..1", "--set-input", "strength=2", "--set-input", "style=1,0,0", "--overwrite")
    x = frame[..., ::-1].transpose(2, 0, 1)[None] / np.float32(255)
    expected = 1 / (1 + np.exp(-2 * x[0].transpose(1, 2, 0)[..., ::-1]))
    json_of("adopt", path, "-o", tmp_path / "o.onnx", "--output-name", "y", *common)
    assert psnr(styled(tmp_path / "o.onnx", frame), 255 * expected) > 48
    json_of("adopt", path, "-o", tmp_path / "o.onnx", "--output-name", "mask", *common)
    assert psnr(styled(tmp_path / "o.onnx", frame), 255 * expected.mean(2, keepdims=True).repeat(3, 2)) > 48
    for overrides, message in (
        (Overrides(output_name="z"), "it has no output named z; its outputs: y float32"),
        (Overrides(set_inputs={"gain": "1"}), "it has no input named gain; its inputs: x float32"),
        (
            Overrides(set_inputs={"style": "1,0"}),
            "--set-input style=1,0: its input is style int64 (1, 3); expected a number, or 3",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            adopt(path, tmp_path / "p.onnx", FRAMES, overrides)
        assert message in str(caught.value)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@without_trial
def test_normalization_outside_the_file(color: str, tmp_path: Path) -> None:
    path = plain(tmp_path / "t.onnx", [node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])], {"w": BLUR * np.float32(0.9)})
    frame, order = moving_frames(3, 64, 48)[1], slice(None, None, -1 if color == "rgb" else 1)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    caffe = np.array([123.68, 116.779, 103.939])
    cases: list[tuple[tuple[str, ...], Any, Any, float]] = [
        (("--range", "imagenet"), mean, std, 255.0),
        (("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"), mean, std, 255.0),
        (("--mean", "123.68,116.779,103.939", "--std", "1,1,1"), caffe, np.ones(3), 1.0),
    ]
    for options, middle, spread, white in cases:
        json_of("adopt", path, "-o", tmp_path / "o.onnx", "--color", color, "--overwrite", *options)
        middle, spread = (values if color == "rgb" else values[::-1] for values in (middle, spread))
        x = (frame[..., order] / white - middle) / spread
        y = run_original(path, x.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0) * spread + middle
        assert psnr(styled(tmp_path / "o.onnx", frame), white * y[..., order]) > 48
    refused = run_command("adopt", path, "-o", tmp_path / "p.onnx", "--color", color, "--mean", "0.5,0.5,0.5")
    assert refused.returncode == 1 and "mean and std go together" in refused.stderr


def exported_fixed(path: Path, height: int = 64, width: int = 96, position: bool = False) -> Path:
    """Writes a network of fixed size as exporters do: the sizes are constants of Reshape, Resize and Slice.

    position: adds an image of that size, so that the network works at no other one.
    """
    nodes = [
        node("Conv", ["x", "w"], ["half"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Reshape", ["half", "flat"], ["list"]),
        node("InstanceNormalization", ["list", "one", "zero"], ["even"]),
        node("Reshape", ["even", "image"], ["planes"]),
        node("Resize", ["planes", "", "", "sizes"], ["whole"], mode="nearest", coordinate_transformation_mode="asymmetric"),
        node("Pad", ["whole", "pads"], ["wide"], mode="reflect"),
        node("Slice", ["wide", "start", "end", "axes"], ["cut"]),
        node("Add", ["cut", "place"], ["placed"]) if position else node("Identity", ["cut"], ["placed"]),
        node("Tanh", ["placed"], ["y"]),
    ]
    place = np.zeros((1, 3, height, width), np.float32)
    place[:, :, 8:24, 8:24] = 5  # a white square
    constants = {
        "w": IDENTITY,
        "flat": np.array([1, 3, height * width // 4]),
        "image": np.array([1, 3, height // 2, width // 2]),
        "one": np.ones(3, np.float32),
        "zero": np.zeros(3, np.float32),
        "sizes": np.array([1, 3, height, width]),
        "pads": np.array([0, 0, 2, 2, 0, 0, 2, 2]),
        "start": np.array([2, 2]),
        "end": np.array([height + 2, width + 2]),
        "axes": np.array([2, 3]),
    } | ({"place": place} if position else {})
    return plain(path, nodes, constants, shape=[1, 3, height, width])


@without_trial
def test_a_fixed_size_is_freed_where_the_output_stays_the_same(tmp_path: Path) -> None:
    path, frame = exported_fixed(tmp_path / "t.onnx"), moving_frames(3, 96, 64)[1]
    adopted = adopt(path, tmp_path / "o.onnx", FRAMES, RGB)
    assert findings_of(adopted)["size"][0] == "any" and adopted.agreements[0].size == (96, 64)
    y = run_original(path, frame[..., ::-1].transpose(2, 0, 1)[None] / 127.5 - 1)[0].transpose(1, 2, 0)[..., ::-1]
    assert psnr(styled(tmp_path / "o.onnx", frame), (y + 1) * 127.5) > 48
    other = exported_fixed(tmp_path / "other.onnx", 120, 200)  # the same network, as it would have been exported for this size
    frame = moving_frames(3, 200, 120)[1]
    y = run_original(other, frame[..., ::-1].transpose(2, 0, 1)[None] / 127.5 - 1)[0].transpose(1, 2, 0)[..., ::-1]
    for engine in ("onnxruntime", "openvino"):
        assert psnr(styled(tmp_path / "o.onnx", frame, engine), (y + 1) * 127.5) > 48
    kept = adopt(path, tmp_path / "k.onnx", FRAMES, Overrides(color="rgb", keep_size=True))
    assert findings_of(kept)["size"] == ("96x64", "as requested: frames are scaled to fit into it, with their aspect ratio")


@without_trial
def test_a_size_in_the_arithmetic_is_not_freed(tmp_path: Path) -> None:
    nodes = [
        node("ReduceSum", ["x", "axes"], ["sum"]),
        node("Mul", ["sum", "share"], ["mean"]),  # 1 / (height * width) of the file
        node("Sub", ["x", "mean"], ["centered"]),
        node("Tanh", ["centered"], ["y"]),
    ]
    constants = {"axes": np.array([2, 3]), "share": np.float32(1 / (48 * 64))}
    path = plain(tmp_path / "t.onnx", nodes, constants, shape=[1, 3, 48, 64])
    adopted = adopt(path, tmp_path / "o.onnx", FRAMES, Overrides(color="rgb", range="0..1", output_range="-1..1"))
    assert findings_of(adopted)["size"][0] == "64x48"


@without_trial
def test_a_fixed_portrait_keeps_the_aspect_ratio_of_wide_frames(tmp_path: Path) -> None:
    path = exported_fixed(tmp_path / "t.onnx", 192, 108, position=True)
    adopted = adopt(path, tmp_path / "o.onnx", FRAMES, RGB)
    assert findings_of(adopted)["size"][0] == "108x192"
    frame = np.full((180, 320, 3), 40, np.uint8)
    frame[:, 160:] = 60
    for engine in ("onnxruntime", "openvino"):
        square = styled(tmp_path / "o.onnx", frame, engine).min(2) > 230
        height, width = (int(square.any(axis).sum()) for axis in (1, 0))
        assert 44 <= height <= 52 and abs(height - width) <= 3  # 16 pixels, enlarged by 320 / 108


def reorder(path: Path) -> None:
    model = onnx.load(str(path))
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    path.write_bytes(model.SerializeToString())


def one_element_clip(path: Path) -> None:
    constants = {"low": np.array([0], np.float32), "high": np.array([1], np.float32)}
    plain(path, [node("Clip", ["x", "low", "high"], ["y"])], constants, opset=17)


def unsorted_half(path: Path) -> None:
    nodes = [
        node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        node("Sigmoid", ["half"], ["out"]),
        node("Cast", ["out"], ["y"], to=TensorProto.FLOAT),
    ]
    plain(path, nodes, opset=17)
    reorder(path)


def local_function(path: Path) -> None:
    function = helper.make_function(
        "mine", "Halve", ["a"], ["b"], [node("Add", ["a", "a"], ["twice"]), node("Div", ["twice", "twice"], ["unit"]),
        node("Add", ["a", "unit"], ["more"]), node("Sub", ["more", "unit"], ["b"])], [helper.make_opsetid("", 17)],
    )  # fmt: skip
    plain(path, [node("Halve", ["x"], ["z"], domain="mine"), node("Sigmoid", ["z"], ["y"])], opset=17)
    model = onnx.load(str(path))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    onnx.save(model, str(path))


def fused_convolution(path: Path) -> None:
    settings: dict[str, Any] = {
        "domain": "com.microsoft",
        "pads": [1, 1, 1, 1],
        "activation": "LeakyRelu",
        "activation_params": [0.1],
    }
    plain(path, [node("FusedConv", ["x", "w"], ["z"], **settings), node("Sigmoid", ["z"], ["y"])], {"w": BLUR}, opset=17)
    model = onnx.load(str(path))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, str(path))


def integers(path: Path) -> None:
    """Writes a model of a QLinearConv with a bias, then a QLinearAdd."""
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "s", "z", "b"], ["c"], pads=[1, 1, 1, 1]),
        node("QLinearAdd", ["c", "s", "z", "q", "s", "z", "s2", "z"], ["sum"], domain="com.microsoft"),
        node("DequantizeLinear", ["sum", "s2", "z"], ["real"]),
        node("Sigmoid", ["real"], ["y"]),
    ]
    constants = {
        "s": np.float32(1 / 255),
        "s2": np.float32(2 / 255),
        "z": np.uint8(0),
        "w": np.rint(BLUR * 900).astype(np.int8),
        "ws": np.full(3, 1 / 900, np.float32),
        "wz": np.zeros(3, np.int8),
        "b": np.array([900, 0, 1800], np.int32),
    }
    plain(path, nodes, constants, opset=17)
    model = onnx.load(str(path))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, str(path))


@pytest.mark.parametrize("build", [one_element_clip, unsorted_half, local_function, fused_convolution, integers])
@without_trial
def test_other_ways_to_write_a_graph(build: Any, tmp_path: Path) -> None:
    build(tmp_path / "t.onnx")
    done = run_command("adopt", tmp_path / "t.onnx", "-o", tmp_path / "o.onnx", "--color", "rgb", "--range", "0..1")
    assert done.returncode == 0, done.stderr
    model = onnx.load(str(tmp_path / "o.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert {n.domain for n in model.graph.node} == {""} and not model.functions
    frame = moving_frames(3, 64, 48)[1]
    y = run_original(tmp_path / "t.onnx", frame[..., ::-1].transpose(2, 0, 1)[None] / np.float32(255))
    for engine in ("onnxruntime", "openvino"):
        assert psnr(styled(tmp_path / "o.onnx", frame, engine), 255 * y[0].transpose(1, 2, 0)[..., ::-1]) > 48


ONE, ONES = np.array([1], np.float32), np.array([0, 0, 1, 1, 0, 0, 1, 1])
CROP = {"starts": np.array([1, 1]), "ends": np.array([-1, -1]), "axes": np.array([2, 3])}
ONE_ELEMENT: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {  # operator -> nodes from x to y, and constants
    "Clip": ([node("Clip", ["x", "a", "b"], ["y"])], {"a": 0 * ONE, "b": ONE}),
    "Clip of numbers": (
        [
            node("Constant", [], ["a"], value_floats=[0.0]),
            node("Constant", [], ["b"], value_floats=[1.0]),
            node("Clip", ["x", "a", "b"], ["y"]),
        ],
        {},
    ),
    "Clip of a number": (
        [
            node("Constant", [], ["a"], value_float=0.0),
            node("Constant", [], ["b"], value_float=1.0),
            node("Clip", ["x", "a", "b"], ["y"]),
        ],
        {},
    ),
    "Clip at one end": ([node("Clip", ["x", "", "b"], ["z"]), node("Sigmoid", ["z"], ["y"])], {"b": 0.7 * ONE}),
    "Clip of computed values": ([node("Identity", ["a"], ["c"]), node("Clip", ["x", "c", "b"], ["y"])], {"a": 0 * ONE, "b": ONE}),
    "Pad": (
        [
            node("Pad", ["x", "pads", "v"], ["w"]),
            node("Slice", ["w", "starts", "ends", "axes"], ["z"]),
            node("Sigmoid", ["z"], ["y"]),
        ],
        {"pads": ONES, "v": 0.5 * ONE} | CROP,
    ),
    "QuantizeLinear": (
        [
            node("QuantizeLinear", ["x", "s", "q"], ["i"]),
            node("DequantizeLinear", ["i", "s", "q"], ["r"]),
            node("Sigmoid", ["r"], ["y"]),
        ],
        {"s": ONE / np.float32(255), "q": np.array([0], np.uint8)},
    ),
    "CumSum": ([node("CumSum", ["x", "axis"], ["z"]), node("Sigmoid", ["z"], ["y"])], {"axis": np.array([1])}),
    "PRelu": ([node("PRelu", ["x", "p"], ["z"]), node("Sigmoid", ["z"], ["y"])], {"p": 0.2 * ONE}),
    "Max": ([node("Max", ["x", "p"], ["z"]), node("Min", ["z", "q"], ["y"])], {"p": 0 * ONE, "q": ONE}),
}


@pytest.mark.parametrize("name", ONE_ELEMENT)
@without_trial
def test_tensors_of_one_element_where_an_operator_expects_one_value(name: str, tmp_path: Path) -> None:
    nodes, constants = ONE_ELEMENT[name]
    path = plain(tmp_path / "t.onnx", nodes, {key: np.asarray(value) for key, value in constants.items()}, opset=17)
    options = ("--color", "rgb", "--range", "0..1", "--output-range", "0..1")
    done = run_command("adopt", path, "-o", tmp_path / "o.onnx", *options)
    assert done.returncode == 0, done.stderr
    frame = moving_frames(3, 64, 48)[1]
    y = run_original(path, frame[..., ::-1].transpose(2, 0, 1)[None] / np.float32(255))
    for engine in ("onnxruntime", "openvino"):
        assert psnr(styled(tmp_path / "o.onnx", frame, engine), 255 * y[0].transpose(1, 2, 0)[..., ::-1]) > 48


def only_onnxruntime(path: Path, operator: str = "SampleOp", domain: str = "com.microsoft", **settings: Any) -> Path:
    plain(path, [node(operator, ["x"], ["z"], domain=domain), node("Sigmoid", ["z"], ["y"])], **settings)
    model = onnx.load(str(path))
    model.opset_import.append(helper.make_opsetid(domain, 1))
    onnx.save(model, str(path))
    return path


def test_a_model_that_only_one_engine_runs(tmp_path: Path) -> None:
    only_onnxruntime(tmp_path / "t.onnx")
    out = tmp_path / "o.onnx"
    done = run_command("adopt", tmp_path / "t.onnx", "-o", out, "--color", "rgb", "--range", "0..1")
    assert done.returncode == 0 and out.is_file(), done.stderr
    assert ".o." not in done.stderr and "131x97" in done.stderr
    cv2.imwrite(str(tmp_path / "i.png"), moving_frames(1)[0])
    shown = run_command("convert", tmp_path / "i.png", tmp_path / "j.png", "--model", out)
    assert shown.returncode == 0, shown.stderr
    assert "openvino cannot read it" in shown.stderr and "; using onnxruntime fp32" in shown.stderr
    report = json_of("bench", "--model", out, "--size", "64x48", "--frames", "1")
    assert [row["engine"] for row in report["rows"]] == ["onnxruntime"]
    assert [(row["engine"], "cannot read it" in row["error"]) for row in report["failed"]] == [("openvino", True)]
    table = run_command("bench", "--model", out, "--size", "64x48", "--frames", "1", "--engine", "openvino")
    assert table.returncode == 1 and "openvino cannot read it" in table.stderr


def test_a_file_for_one_processor_is_refused_in_one_line(tmp_path: Path) -> None:
    only_onnxruntime(tmp_path / "t.onnx", "ReorderOutput", "com.microsoft.nchwc")
    with pytest.raises(ModelError, match="optimized it for one type of processor .*: adopt the file from before that"):
        adopt(tmp_path / "t.onnx", tmp_path / "o.onnx", FRAMES, RGB)


def test_errors_never_name_the_unfinished_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, *rest: object) -> None:
        raise ModelError(f"{path}: not a model")

    monkeypatch.setattr("cyclecast.export.adopt._verify", fail)
    one_element_clip(tmp_path / "t.onnx")
    done = run_command("adopt", tmp_path / "t.onnx", "-o", tmp_path / "o.onnx", "--color", "rgb")
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == f"error: {tmp_path / 'o.onnx'}: not a model"
    assert not (tmp_path / "o.onnx").exists()


SHARED: list[tuple[str, tuple[str, ...]]] = [
    ("clip-one-element.onnx", ()),
    ("fp16-with-fp32-io.onnx", ()),
    ("local-function-opset17.onnx", ()),
    ("gray-1to1.onnx", ()),
    ("imagenet-io.onnx", ("--range", "imagenet")),
    ("int8-qoperator.onnx", ()),
    ("pix2pix-unet128-dynamic.onnx", ()),
    ("strength.onnx", ("--set-input", "strength=0.5", "--range", "-1..1")),
    ("three-outputs.onnx", ("--output-name", "output")),
]


@pytest.mark.parametrize(("name", "options"), SHARED)
@without_trial
def test_shared_files_are_adopted(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    path = shared(f"faults/models/{name}")
    report = json_of("adopt", path, "-o", tmp_path / "o.onnx", "--color", "rgb", *options)
    assert all(row["passed"] and (row["psnr_db"] is None or row["psnr_db"] >= 48) for row in report["verified"])


@pytest.mark.parametrize(
    ("name", "line"),
    [("lfs-pointer.onnx", "git lfs pull"), ("html-page.onnx", "a web page"), ("ort-optimized-all.onnx", "nchwc")],
)
def test_shared_files_are_refused_in_one_line(name: str, line: str, tmp_path: Path) -> None:
    done = run_command("adopt", shared(f"faults/models/{name}"), "-o", tmp_path / "o.onnx")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and line in done.stderr
    assert not (tmp_path / "o.onnx").exists()
