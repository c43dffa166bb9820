"""Adopts ONNX models from elsewhere: the frame model has the original's output, and the findings have reasons."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cyclecast.errors import ConfigError, CyclecastError, ModelError, OutputError
from cyclecast.export.adopt import AdoptedModel, adopt, graph
from cyclecast.export.adopt.overrides import Overrides
from cyclecast.export.agreement import compare
from cyclecast.runtime.engines import open_engine
from cyclecast.spec import METADATA_KEY, ModelSpec
from cyclecast.video.files.images import read_image
from cyclecast.video.scene import Scene
from tests.conftest import moving_frames, shared

pytestmark = pytest.mark.usefixtures("without_trial")
FRAMES = [Scene(160, 120).draw(0.0)]
RANGES = {"0..255": (0.0, 255.0), "0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0)}
MIX = np.array([[0.6, 0.3, 0.0], [0.1, 0.5, 0.2], [0.0, 0.2, 0.5]])  # of red, green, blue
LIFT = np.array([0.05, 0.1, 0.25])  # of white
DTYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}

Image = np.ndarray[Any, np.dtype[np.uint8]]
Nodes = list[onnx.NodeProto]


def expected(frame: Image) -> Image:
    """Computes the output of every `mixer` for a frame, whatever its convention: mixed and brightened colors."""
    mixed = frame[..., ::-1].astype(np.float64) @ MIX.T + 255 * LIFT
    return np.asarray(mixed.clip(0, 255).round()[..., ::-1], np.uint8)


def save(path: Path, nodes: Nodes, constants: dict[str, Any], shapes: list[Any], opset: int = 18, **settings: Any) -> Path:
    """Writes a model of these nodes from `x` to `y`. shapes: of x and y. settings: dtypes, names, docs, metadata."""
    dtypes = [DTYPES[dtype] for dtype in settings.get("dtypes", ("float32", "float32"))]
    names = settings.get("names", ("x", "y"))
    docs = settings.get("docs", ("", ""))
    for node in nodes:
        for ports in (node.input, node.output):
            ports[:] = [{"x": names[0], "y": names[1]}.get(name, name) for name in ports]
    ports = [
        helper.make_tensor_value_info(name, dtype, shape, doc)
        for name, dtype, shape, doc in zip(names, dtypes, shapes, docs, strict=True)
    ]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "theirs", ports[:1], ports[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, settings.get("metadata", {}))
    onnx.save(model, str(path))
    return path


def mixer(path: Path, layout: str = "nchw", range: str = "0..255", color: str = "rgb", **settings: Any) -> Path:
    """Writes a model that mixes colors, with this layout, range, color order and dtype. size: (height, width), or two names."""
    low, high = RANGES[range]
    order = slice(None) if color == "rgb" else slice(None, None, -1)
    dtype = settings.get("dtype", "float32")
    inside = np.float16 if dtype == "float16" else np.float32
    matrix, lift = MIX[order, order], low + (high - low) * LIFT[order] - low * MIX[order, order].sum(1)
    nodes, value = [], "x"
    if dtype == "uint8":
        nodes, value = [helper.make_node("Cast", ["x"], ["float"], to=TensorProto.FLOAT)], "float"
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", [value], ["planes"], perm=[0, 3, 1, 2]))
        value = "planes"
    constants = {
        "matrix": matrix.astype(inside)[:, :, None, None],
        "lift": lift.astype(inside),
        "low": inside(low),
        "high": inside(high),
    }
    nodes.append(helper.make_node("Conv", [value, "matrix", "lift"], ["mixed"]))
    nodes.append(helper.make_node("Clip", ["mixed", "low", "high"], ["clipped"]))
    value = "clipped"
    if dtype == "uint8":
        nodes.append(helper.make_node("Round", [value], ["whole"]))
        nodes.append(helper.make_node("Cast", ["whole"], ["bytes"], to=TensorProto.UINT8))
        value = "bytes"
    perm = [0, 2, 3, 1] if layout == "nhwc" else [0, 1, 2, 3]
    nodes.append(helper.make_node("Transpose", [value], ["y"], perm=perm))
    size = settings.pop("size", ("h", "w"))
    shape = [1, 3, *size] if layout == "nchw" else [1, *size, 3]
    return save(path, nodes, constants, [shape, shape], dtypes=(dtype, dtype), **settings)


def plain(path: Path, nodes: Nodes, constants: dict[str, Any] | None = None, **settings: Any) -> Path:
    """Writes a model of these nodes on (1, 3, h, w) float32."""
    shape = settings.pop("shape", [1, 3, "h", "w"])
    return save(path, nodes, constants or {}, [shape, settings.pop("output_shape", shape)], **settings)


def styled(path: Path, frame: Image, engine: str = "onnxruntime") -> Image:
    with closing(open_engine(path, engine, "cpu", "auto" if engine == "onnxruntime" else "fp32")) as opened:
        return opened.run(frame)


def findings_of(adopted: AdoptedModel) -> dict[str, tuple[str, str]]:
    return {finding.what: (finding.value, finding.why) for finding in adopted.findings}


node = helper.make_node
RGB = Overrides(color="rgb")
FIXED_RGB = Overrides(color="rgb", keep_size=True)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("range", RANGES)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_every_convention_has_the_same_output_on_every_engine(layout: str, range: str, color: str, tmp_path: Path) -> None:
    theirs = mixer(tmp_path / "theirs.onnx", layout, range, color)
    adopted = adopt(theirs, tmp_path / "ours.onnx", FRAMES, Overrides(color=color))
    found = findings_of(adopted)
    assert (found["layout"][0], found["range"][0], found["output range"][0]) == (layout, range, range)
    assert [a.size for a in adopted.agreements] == [(131, 97), (64, 48)]
    assert all(a.max_abs <= 1 for a in adopted.agreements)
    for size, engine in (((16, 16), "onnxruntime"), ((131, 97), "onnxruntime"), ((131, 97), "openvino")):
        frame = moving_frames(3, *size)[1]
        assert np.abs(styled(tmp_path / "ours.onnx", frame, engine).astype(int) - expected(frame)).max() <= 1


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_float16_and_uint8_models_are_adopted(layout: str, dtype: str, tmp_path: Path) -> None:
    adopted = adopt(mixer(tmp_path / "theirs.onnx", layout, dtype=dtype), tmp_path / "ours.onnx", FRAMES, RGB)
    assert findings_of(adopted)["output range"][0] == "0..255"
    assert adopted.spec.precision == ("fp16" if dtype == "float16" else "fp32")
    frame = moving_frames(3, 97, 51)[1]
    for engine in ("onnxruntime", "openvino"):
        assert np.abs(styled(tmp_path / "ours.onnx", frame, engine).astype(int) - expected(frame)).max() <= 1


def test_convolutions_of_two_precisions_are_mixed(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "whole"], ["first"]),
        node("Cast", ["first"], ["small"], to=TensorProto.FLOAT16),
        node("Conv", ["small", "half"], ["second"]),
        node("Cast", ["second"], ["large"], to=TensorProto.FLOAT),
        node("Sigmoid", ["large"], ["y"]),
    ]
    eye = np.eye(3, dtype=np.float32)[:, :, None, None]
    path = plain(tmp_path / "theirs.onnx", nodes, {"whole": eye, "half": eye.astype(np.float16)})
    assert adopt(path, tmp_path / "ours.onnx", FRAMES, RGB).spec.precision == "mixed"
    frame = moving_frames(3, 97, 51)[1]
    one, other = (styled(tmp_path / "ours.onnx", frame, engine) for engine in ("onnxruntime", "openvino"))
    assert np.abs(one.astype(int) - other).max() <= 1


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_file_is_a_frame_model_with_uint8_only_at_input_and_output(dtype: str, tmp_path: Path) -> None:
    path = mixer(tmp_path / "theirs.onnx", dtype=dtype, metadata={"author": "somebody", "Image.BitmapPixelFormat": "Rgb8"})
    adopt(path, tmp_path / "ours.onnx", FRAMES)
    model = onnx.load(str(tmp_path / "ours.onnx"), load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    (frame,), (out,) = model.graph.input, model.graph.output
    for port, name in ((frame, "frame"), (out, "styled")):
        tensor = port.type.tensor_type
        assert (port.name, tensor.elem_type) == (name, TensorProto.UINT8)
        assert [d.dim_param or d.dim_value for d in tensor.shape.dim] == [1, "height", "width", 3]
    assert [n.op_type for n in model.graph.node if "frame" in n.input] == ["Cast"]
    assert model.graph.node[0].op_type == "Cast" and list(model.graph.node[-1].output) == ["styled"]
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    assert inferred and all(value.type.tensor_type.elem_type != TensorProto.UINT8 for value in inferred)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["author"] == "somebody" and "Image.BitmapPixelFormat" not in metadata
    spec = ModelSpec.from_json(metadata[METADATA_KEY])
    assert (spec.name, spec.model_type, spec.recipe, spec.size) == ("ours", "frame", "adopted", None)
    assert spec.architecture == {
        "layout": "nchw",
        "range": "0..255",
        "output_range": "0..255",
        "color": "rgb",
        "size": None,
        "multiple": 1,
    }


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_model_of_one_size_accepts_every_size(layout: str, tmp_path: Path) -> None:
    theirs = mixer(tmp_path / "theirs.onnx", layout, "-1..1", size=(48, 64))
    adopted = adopt(theirs, tmp_path / "ours.onnx", FRAMES, FIXED_RGB)
    assert findings_of(adopted)["size"][0] == "64x48" and [a.size for a in adopted.agreements] == [(64, 48), (133, 40)]
    frame = moving_frames(3, 64, 48)[1]
    assert np.abs(styled(tmp_path / "ours.onnx", frame).astype(int) - expected(frame)).max() <= 1
    for width, height in ((16, 16), (500, 97), (63, 300)):
        frame = moving_frames(3, width, height)[1]
        scale = min(64 / width, 48 / height)
        fitted = (max(1, round(scale * width)), max(1, round(scale * height)))
        small = cv2.resize(frame, fitted, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        reference = cv2.resize(expected(np.asarray(small, np.uint8)), (width, height), interpolation=cv2.INTER_LINEAR)
        outputs = [styled(tmp_path / "ours.onnx", frame, engine) for engine in ("onnxruntime", "openvino")]
        assert compare((width, height), [(outputs[0], np.asarray(reference, np.uint8))], "fp32").psnr_db > 30
        assert np.abs(outputs[0].astype(int) - outputs[1]).max() <= 1


def test_a_wrong_resize_is_detected_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nearest(nodes: graph.Nodes, x: str, to: str | list[int], channels: int) -> str:
        whole = nodes.add("Concat", [1, channels], to, axis=0)
        return nodes.add("Resize", x, "", "", whole, mode="nearest")

    monkeypatch.setattr(graph, "_resize", nearest)
    theirs = mixer(tmp_path / "theirs.onnx", size=(48, 64))
    with pytest.raises(ModelError, match="differs from .* gray levels at 133x40"):
        adopt(theirs, tmp_path / "ours.onnx", FRAMES, FIXED_RGB)
    assert not (tmp_path / "ours.onnx").exists()


def test_a_uint8_model_of_one_size_gets_whole_numbers(tmp_path: Path) -> None:
    nodes = [
        node("Cast", ["x"], ["float"], to=TensorProto.FLOAT),
        node("Mul", ["float", "gain"], ["loud"]),
        node("Mod", ["loud", "white"], ["back"], fmod=1),  # so half a gray level at the input becomes 20 at the output
        node("Cast", ["back"], ["y"], to=TensorProto.UINT8),
    ]
    constants = {"gain": np.float32(40), "white": np.float32(256)}
    theirs = plain(tmp_path / "theirs.onnx", nodes, constants, shape=[1, 3, 48, 64], dtypes=("uint8", "uint8"))
    adopted = adopt(theirs, tmp_path / "ours.onnx", FRAMES, replace(FIXED_RGB, range="0..255", output_range="0..255"))
    assert [a.passed for a in adopted.agreements] == [True, True]


@pytest.mark.parametrize("size", [("h", "w"), (48, 64)], ids=["any size", "one size"])
def test_a_model_with_nan_in_its_output_is_rejected(size: tuple[object, object], tmp_path: Path) -> None:
    nodes = [node("Sub", ["x", "least"], ["above"]), node("Sqrt", ["above"], ["root"]), node("Mul", ["root", "gain"], ["y"])]
    constants = {"least": np.float32(100), "gain": np.float32(20)}
    theirs = plain(tmp_path / "theirs.onnx", nodes, constants, shape=[1, 3, *size])
    overrides = Overrides(color="rgb", range="0..255", output_range="0..255")
    with pytest.raises(ModelError, match=r"its output has \d+ NaN values at \d+x\d+, computed in fp32"):
        adopt(theirs, tmp_path / "ours.onnx", FRAMES, overrides)
    assert not (tmp_path / "ours.onnx").exists()
    assert adopt(theirs, tmp_path / "ours.onnx", FRAMES, overrides, check=False).agreements == []


def test_strong_downscaling_averages_every_pixel(tmp_path: Path) -> None:
    adopt(mixer(tmp_path / "theirs.onnx", size=(16, 16)), tmp_path / "ours.onnx", FRAMES, FIXED_RGB)
    stripes = np.zeros((160, 160, 3), np.uint8)
    stripes[:, ::8] = 240  # sampling the nearest pixels alone would see only black or only white
    gray = np.full((160, 160, 3), 30, np.uint8)
    assert np.abs(styled(tmp_path / "ours.onnx", stripes).astype(int) - expected(gray)).mean() < 8


def strided_twice(path: Path, **settings: Any) -> Path:
    """Writes a model with two convolutions of stride 2 and then a resize by 4: 102 pixels become 104."""
    weight = np.zeros((3, 3, 3, 3), np.float32)
    weight[:, :, 1, 1] = np.eye(3)
    nodes = [
        node("Conv", ["x", "w"], ["half"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", ["half", "w"], ["quarter"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Resize", ["quarter", "", "scales"], ["big"], mode="nearest", coordinate_transformation_mode="asymmetric"),
        node("Clip", ["big", "low", "high"], ["y"]),
    ]
    constants = {"w": weight, "scales": np.array([1, 1, 4, 4], np.float32), "low": np.float32(0), "high": np.float32(1)}
    return plain(path, nodes, constants, output_shape=[1, 3, "h2", "w2"], **settings)


def shuffled(path: Path) -> Path:
    """Moves blocks of 8x8 pixels into channels and back, so the sides must be multiples of 8."""
    nodes = [
        node("SpaceToDepth", ["x"], ["deep"], blocksize=8),
        node("DepthToSpace", ["deep"], ["wide"], blocksize=8),
        node("Tanh", ["wide"], ["y"]),
    ]
    return plain(path, nodes)


def mirrored(path: Path) -> Path:
    """Pads by a reflection of 20 pixels, which a frame of 16 pixels does not have."""
    pads = np.array([0, 0, 20, 20, 0, 0, 20, 20])
    starts, ends, axes = np.array([20, 20]), np.array([-20, -20]), np.array([2, 3])
    nodes = [
        node("Pad", ["x", "pads"], ["wide"], mode="reflect"),
        node("Slice", ["wide", "starts", "ends", "axes"], ["back"]),
        node("Sigmoid", ["back"], ["y"]),
    ]
    return plain(path, nodes, {"pads": pads, "starts": starts, "ends": ends, "axes": axes})


@pytest.mark.parametrize(("build", "multiple"), [(strided_twice, 4), (shuffled, 8), (mirrored, 32)])
def test_sides_are_padded_to_the_multiple_that_the_model_needs(
    build: Callable[[Path], Path], multiple: int, tmp_path: Path
) -> None:
    adopted = adopt(build(tmp_path / "theirs.onnx"), tmp_path / "ours.onnx", FRAMES, RGB)
    assert findings_of(adopted)["multiple"][0] == str(multiple) and adopted.spec.architecture["multiple"] == multiple
    assert all(a.passed for a in adopted.agreements)
    for width, height in ((16, 16), (17, 31), (102, 150)):
        frame = moving_frames(3, width, height)[1]
        one, other = (styled(tmp_path / "ours.onnx", frame, engine) for engine in ("onnxruntime", "openvino"))
        assert one.shape == frame.shape and one.std() > 1
        assert np.abs(one.astype(int) - other).max() <= 1


def test_the_multiple_can_be_overridden(tmp_path: Path) -> None:
    adopted = adopt(strided_twice(tmp_path / "t.onnx"), tmp_path / "o.onnx", FRAMES, Overrides(color="rgb", multiple=12))
    assert findings_of(adopted)["multiple"] == ("12", "as requested")
    with pytest.raises(ModelError, match=r"its output is .* for an input of .*; expected the same size"):
        adopt(tmp_path / "t.onnx", tmp_path / "p.onnx", FRAMES, Overrides(color="rgb", multiple=3))
    mixer(tmp_path / "fixed.onnx", size=(48, 64))
    with pytest.raises(ConfigError, match="its input is fixed to 64x48: --multiple is for models of any size"):
        adopt(tmp_path / "fixed.onnx", tmp_path / "p.onnx", FRAMES, replace(FIXED_RGB, multiple=3))
    assert not (tmp_path / "p.onnx").exists()


def model_of_2018(path: Path, opset: int = 7) -> Path:
    """Writes a file as converters did in 2018: ImageScaler, Crop, Affine and Upsample, weights among the inputs, IR 3."""
    nodes = [
        node("ImageScaler", ["x"], ["centered"], bias=[-123.68, -116.779, -103.939], scale=1.0),
        node("Pad", ["centered"], ["wide"], mode="reflect", pads=[0, 0, 3, 3, 0, 0, 3, 3]),
        node("Conv", ["wide", "w"], ["half"], strides=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Upsample", ["half"], ["whole"], mode="nearest", scales=[1.0, 1.0, 2.0, 2.0]),
        node("Crop", ["whole"], ["cut"], border=[2, 1, 4, 5]),
        node("Tanh", ["cut"], ["bounded"]),
        node("Affine", ["bounded"], ["y"], alpha=150.0, beta=127.5),
    ]
    weight = np.zeros((3, 3, 3, 3), np.float32)
    weight[:, :, 1, 1] = np.eye(3) / 100
    shape = [1, 3, 48, 64]
    plain(path, nodes, {"w": weight}, shape=shape, opset=opset)
    model = onnx.load(str(path))
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, weight.shape))
    model.ir_version = 3
    onnx.save(model, str(path))
    return path


def test_old_files_are_upgraded_to_opset_18(tmp_path: Path) -> None:
    adopted = adopt(model_of_2018(tmp_path / "theirs.onnx"), tmp_path / "ours.onnx", FRAMES)
    found = findings_of(adopted)
    assert found["range"] == ("0..255", "its first layers map 123.68, 116.779, 103.939 to 0")
    assert found["output range"] == ("0..255", "its last layers limit it to -22.5..277.5")
    assert found["color"] == ("rgb", "its first layers map 123.68, 116.779, 103.939 to 0")
    model = onnx.load(str(tmp_path / "ours.onnx"))
    assert [o.version for o in model.opset_import if o.domain == ""] == [18]
    assert {"ImageScaler", "Crop", "Affine", "Upsample"}.isdisjoint(n.op_type for n in model.graph.node)
    frame = moving_frames(3, 97, 51)[1]
    one, other = (styled(tmp_path / "ours.onnx", frame, engine) for engine in ("onnxruntime", "openvino"))
    assert one.std() > 10 and np.abs(one.astype(int) - other).max() <= 1


def test_a_newer_opset_is_kept(tmp_path: Path) -> None:
    adopt(mixer(tmp_path / "theirs.onnx", opset=20), tmp_path / "ours.onnx", FRAMES, RGB)
    assert [o.version for o in onnx.load(str(tmp_path / "ours.onnx")).opset_import if o.domain == ""] == [20]


def half_plus_bias(path: Path, bias: float = 60.0, **settings: Any) -> Path:
    """Writes y = 0.5 x + bias: its layers give no evidence of a range."""
    constants = {"w": np.eye(3, dtype=np.float32)[:, :, None, None] / 2, "b": np.full(3, bias, np.float32)}
    return plain(path, [node("Conv", ["x", "w", "b"], ["y"])], constants, **settings)


def test_the_range_is_detected_from_the_output_of_a_test_image(tmp_path: Path) -> None:
    value, why = findings_of(adopt(half_plus_bias(tmp_path / "t.onnx"), tmp_path / "o.onnx", FRAMES, RGB))["range"]
    assert value == "0..255" and "its output for a test image is in" in why and "no other range is kept" in why
    half_plus_bias(tmp_path / "t.onnx", bias=0.0)  # every range is kept
    with pytest.raises(ConfigError, match=r"t.onnx: its range cannot be detected: add --range 0..255 or --range 0..1 or --range"):
        adopt(tmp_path / "t.onnx", tmp_path / "p.onnx", FRAMES, RGB)


FIRST_STEPS: list[tuple[list[tuple[str, Any]], str, str | None]] = [
    ([("Div", 255.0)], "0..255", None),
    ([("Mul", 1 / 127.5), ("Sub", 1.0)], "0..255", None),
    ([("Sub", 0.5), ("Div", 0.5)], "0..1", None),
    ([("Mul", 255.0)], "0..1", None),
    ([("Add", 1.0), ("Mul", 127.5)], "-1..1", None),
    ([("Sub", [0.485, 0.456, 0.406]), ("Div", [0.229, 0.224, 0.225])], "0..1", "rgb"),
    ([("Mul", 255.0), ("Sub", [103.939, 116.779, 123.68])], "0..1", "bgr"),
    ([("Sub", [123.675, 116.28, 103.53]), ("Div", [58.395, 57.12, 57.375])], "0..255", "rgb"),
]


@pytest.mark.parametrize(("steps", "range", "color"), FIRST_STEPS)
def test_the_first_layers_show_the_range_and_the_color_order(
    steps: list[tuple[str, Any]], range: str, color: str | None, tmp_path: Path
) -> None:
    nodes, constants, value = [], {}, "x"
    for index, (operator, number) in enumerate(steps):
        constants[f"c{index}"] = np.float32(number) if isinstance(number, float) else np.array(number, np.float32)[:, None, None]
        nodes.append(node(operator, [value, f"c{index}"], [f"v{index}"]))
        value = f"v{index}"
    nodes += [node("Tanh", [value], ["bounded"]), node("Mul", ["bounded", "loud"], ["y"])]
    path = plain(tmp_path / "t.onnx", nodes, constants | {"loud": np.float32(255)})
    found = findings_of(adopt(path, tmp_path / "o.onnx", FRAMES, None if color else RGB))
    assert (found["range"][0], found["color"][0]) == (range, color or "rgb")


WORDS: list[tuple[dict[str, Any], str | None, str | None]] = [
    ({"metadata": {"Image.NominalPixelRange": "Normalized_0_1", "Image.BitmapPixelFormat": "Bgr8"}}, "0..1", "bgr"),
    ({"metadata": {"Image.ColorSpaceGamma": "SRGB", "color": "rgb"}}, None, "rgb"),
    ({"docs": ("RGB image, (1, 3, H, W), in [-1, 1]", "")}, "-1..1", "rgb"),
    ({"docs": ("", "values from 0 to 255, BGR")}, "0..255", "bgr"),
    ({"names": ("input_bgr_255", "y")}, "0..255", "bgr"),
    ({"names": ("inputRGB", "bgr_is_no_part_of_abgrund")}, None, "both"),
]


@pytest.mark.parametrize(("settings", "range", "color"), WORDS)
def test_words_in_the_file_show_the_range_and_the_color_order(
    settings: dict[str, Any], range: str | None, color: str | None, tmp_path: Path
) -> None:
    path = half_plus_bias(tmp_path / "t.onnx", bias=0.25, **settings)
    if color == "both":
        with pytest.raises(ConfigError, match=r"its color has contradictory evidence \(.*\): add --color bgr or --color rgb"):
            adopt(path, tmp_path / "o.onnx", FRAMES, Overrides(range="0..1"))
        return
    found = findings_of(adopt(path, tmp_path / "o.onnx", FRAMES, Overrides(range=None if range else "0..1")))
    assert (found["range"][0], found["color"][0]) == (range or "0..1", color)
    overridden = findings_of(
        adopt(path, tmp_path / "p.onnx", FRAMES, Overrides(range="0..1", color="rgb" if color == "bgr" else "bgr"))
    )
    assert overridden["color"][1].startswith("as requested, although it")


def test_the_output_may_have_another_range(tmp_path: Path) -> None:
    theirs = plain(tmp_path / "t.onnx", [node("Sigmoid", ["x"], ["y"])])
    found = findings_of(adopt(theirs, tmp_path / "o.onnx", FRAMES, Overrides(color="rgb", range="-1..1")))
    assert (found["range"][0], found["output range"]) == ("-1..1", ("0..1", "its last layers limit it to 0..1"))
    weights = {"w": 255 * np.eye(3, dtype=np.float32)[:, :, None, None]}
    loud = plain(tmp_path / "loud.onnx", [node("Conv", ["x", "w"], ["y"])], weights)
    assert (
        findings_of(adopt(loud, tmp_path / "p.onnx", FRAMES, Overrides(color="rgb", range="0..1")))["output range"][0] == "0..255"
    )
    overridden = adopt(loud, tmp_path / "q.onnx", FRAMES, Overrides(color="rgb", range="0..1", output_range="0..1"))
    assert findings_of(overridden)["output range"] == ("0..1", "as requested")


def test_external_weights_are_embedded(tmp_path: Path) -> None:
    theirs = mixer(tmp_path / "theirs.onnx")
    model = onnx.load(str(theirs))
    onnx.save(model, str(theirs), save_as_external_data=True, location="weights.bin", size_threshold=0)
    adopt(theirs, tmp_path / "ours.onnx", FRAMES, RGB)
    (tmp_path / "weights.bin").unlink()
    frame = moving_frames(3, 64, 48)[1]
    assert np.abs(styled(tmp_path / "ours.onnx", frame).astype(int) - expected(frame)).max() <= 1
    with pytest.raises(ModelError, match="theirs.onnx: its weights are in a separate file, which must be in the same folder"):
        adopt(theirs, tmp_path / "o.onnx", FRAMES, RGB)


def test_other_files_and_models_are_rejected_in_one_line(tmp_path: Path) -> None:
    def path(name: str) -> Path:
        return tmp_path / f"{name}.onnx"

    path("text").write_text("no model")
    path("empty").touch()
    fixed_model = mixer(path("fixed"), size=(48, 64))
    latent = onnx.load(str(fixed_model))
    helper.set_model_props(latent, {METADATA_KEY: ModelSpec(model_type="latent").to_json()})
    onnx.save(latent, str(path("latent")))
    bytes_only = mixer(path("raw"), "nhwc", dtype="uint8")
    plain(
        path("classifier"),
        [node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)],
        {"axes": np.array([2, 3])},
        output_shape=[1, 3],
    )
    plain(path("four"), [node("Tanh", ["x"], ["y"])], shape=[1, 4, "h", "w"])
    halves = {"axes": np.array([1]), "start": np.array([0]), "end": np.array([2])}
    plain(path("two"), [node("Slice", ["x", "start", "end", "axes"], ["y"])], halves, output_shape=[1, 2, "h", "w"])
    plain(path("twice"), [node("Concat", ["x", "x"], ["y"], axis=3)], output_shape=[1, 3, "h", "w2"])
    plain(path("batch"), [node("Tanh", ["x"], ["y"])], shape=[4, 3, "h", "w"])
    plain(path("half free"), [node("Tanh", ["x"], ["y"])], shape=[1, 3, "h", 64])
    plain(path("unknown"), [node("Tanh", ["x"], ["y"])], shape=[1, "c", "h", "w"])
    plain(path("flat"), [node("Tanh", ["x"], ["y"])], shape=[1, 64])
    plain(path("nonsense"), [node("Nonsense", ["x"], ["y"])])
    pair = onnx.load(str(plain(path("pair"), [node("Tanh", ["x"], ["y"])])))
    pair.graph.input.append(helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 3, "h", "w"]))
    onnx.save(pair, str(path("pair")))
    numbers = onnx.load(str(path("flat")))
    numbers.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(numbers, str(path("numbers")))
    path("there").write_text("precious")
    adopt(fixed_model, path("ours before"), FRAMES, RGB, check=False)
    before = sorted(tmp_path.iterdir())
    cases: list[tuple[Path, Overrides, type[CyclecastError], str]] = [
        (path("none"), RGB, ModelError, "none.onnx: no such model"),
        (path("text"), RGB, ModelError, "text.onnx: cannot be read as an ONNX model"),
        (path("empty"), RGB, ModelError, "empty.onnx: an empty file; expected an ONNX model"),
        (path("ours before"), RGB, ModelError, "ours before.onnx: already a frame model: use it as it is"),
        (bytes_only, Overrides(), ModelError, "raw.onnx: already a frame model: use it as it is, or add --color rgb"),
        (path("latent"), RGB, ModelError, "latent.onnx: a latent model (noise in, images out); other programs"),
        (path("classifier"), RGB, ModelError, "its output is (1, 3); expected an image, (1, 3, H, W) or (1, H, W, 3)"),
        (path("four"), RGB, ModelError, "its input is (1, 4, ?, ?); expected an image"),
        (path("two"), RGB, ModelError, "its output is (1, 2, 131, 259), with 2 channels: not an image, but two of its planes"),
        (path("twice"), RGB, ModelError, "its output is 518x131 for an input of 259x131; expected the same size"),
        (path("batch"), RGB, ModelError, "its input is (4, 3, ?, ?); expected an image"),
        (path("half free"), RGB, ModelError, "only one side free"),
        (
            path("unknown"),
            RGB,
            ConfigError,
            "its input is (1, ?, ?, ?), which both layouts fit: add --layout nchw or --layout nhwc",
        ),
        (path("fixed"), Overrides(color="rgb", layout="nhwc"), ModelError, "its input is (1, 3, 48, 64); expected an image"),
        (path("flat"), RGB, ModelError, "its input is (1, 64); expected an image"),
        (path("nonsense"), RGB, ModelError, "ONNX Runtime cannot open it"),
        (
            path("pair"),
            RGB,
            ModelError,
            "it has 2 inputs, x float32 (1, 3, ?, ?), style float32 (1, 3, ?, ?): set all but the image with",
        ),
        (path("numbers"), RGB, ModelError, "its input is int64; expected float32, float16 or uint8"),
        (path("fixed"), Overrides(), ConfigError, "fixed.onnx: its color cannot be detected: add --color bgr or --color rgb"),
    ]
    for theirs, overrides, error_type, message in cases:
        with pytest.raises(error_type) as caught:
            adopt(theirs, tmp_path / "ours.onnx", FRAMES, overrides)
        assert message in str(caught.value) and "\n" not in str(caught.value), theirs
        assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(OutputError, match="exists already; --overwrite replaces it"):
        adopt(path("fixed"), path("there"), FRAMES, RGB)
    assert path("there").read_text() == "precious"
    adopt(path("unknown"), path("ours"), FRAMES, Overrides(color="rgb", layout="nhwc"))
    for setting in ({"layout": "chw"}, {"range": "0..2"}, {"output_range": "x"}, {"color": "gray"}, {"multiple": 0}):
        with pytest.raises(ConfigError, match=f"{next(iter(setting))} must be"):
            Overrides(**setting)


def test_all_missing_settings_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"its range cannot be detected: .*; its color cannot be detected: "):
        adopt(half_plus_bias(tmp_path / "t.onnx", bias=0.0), tmp_path / "o.onnx", FRAMES)


def test_raw_rgb_frames_are_converted_to_bgr(tmp_path: Path) -> None:
    adopt(mixer(tmp_path / "theirs.onnx", "nhwc", dtype="uint8"), tmp_path / "ours.onnx", FRAMES, RGB)
    frame = moving_frames(3, 64, 48)[1]
    assert np.abs(styled(tmp_path / "ours.onnx", frame).astype(int) - expected(frame)).max() <= 1


def test_a_graph_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = onnx.load(str(mixer(tmp_path / "other.onnx", color="bgr")))
    mixer(tmp_path / "theirs.onnx")
    monkeypatch.setattr("cyclecast.export.adopt.standard.upgrade_opset", lambda model: other)
    with pytest.raises(ModelError, match="the frame model differs from .*theirs.onnx by [0-9]+ gray levels at"):
        adopt(tmp_path / "theirs.onnx", tmp_path / "ours.onnx", FRAMES, RGB)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.onnx", "theirs.onnx"]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_the_command_needs_no_torch(tmp_path: Path) -> None:
    mixer(tmp_path / "theirs.onnx", range="-1..1")
    out = tmp_path / "ours.onnx"
    args = ["cyclecast", "adopt", str(tmp_path / "theirs.onnx"), "-o", str(out), "--range", "-1..1", "--color", "rgb", "--json"]
    start = f"import sys; sys.argv = {args!r}\n"
    main = "from cyclecast.cli import main\nmain()"
    done = python(f"{start}for name in ('torch', 'onnxscript'): sys.modules[name] = None\n{main}")
    assert done.returncode == 0, done.stderr
    assert "layout nchw: its input is (1, 3, ?, ?)" in done.stderr and '"verified": [{' in done.stdout
    assert out.is_file()
    table = python(start.replace("'--json'", "'--overwrite'") + main)
    assert table.returncode == 0 and table.stdout == ""
    assert all(size in table.stderr for size in ("131x97", "256x256", "640x360", "color rgb: as requested"))
    again = python(start + main)
    assert (again.returncode, again.stderr) == (1, f"error: {out}: exists already; --overwrite replaces it\n")
    without = python(f"{start}sys.modules['onnx'] = None\n{main}")
    assert without.returncode == 1
    assert without.stderr == "error: onnx is not installed: pip install 'cyclecast[adopt]'\n"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [("h", "w"), (48, 64)], ids=["any size", "one size"])
def test_tensorrt_builds_adopted_models(size: tuple[object, object], dtype: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="tensorrt-rtx is not installed")
    from cyclecast.runtime.plan_builder import build_plan

    adopt(mixer(tmp_path / "theirs.onnx", "nhwc", dtype=dtype, size=size), tmp_path / "ours.onnx", FRAMES, RGB, check=False)
    between = ((16, 16), (640, 360))
    plan, facts = build_plan(tmp_path / "ours.onnx", "tensorrt-rtx", (131, 97), between=between, sm=(89,))
    assert plan and facts.precision == ("fp16" if dtype == "float16" else "fp32")


def test_tensorrt_builds_an_adopted_model_that_pads(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="tensorrt-rtx is not installed")
    from cyclecast.runtime.plan_builder import build_plan

    adopt(strided_twice(tmp_path / "theirs.onnx"), tmp_path / "ours.onnx", FRAMES, RGB)
    plan, _ = build_plan(tmp_path / "ours.onnx", "tensorrt-rtx", (131, 97), between=((16, 16), (640, 360)), sm=(89,))
    assert plan


PUBLISHED = [  # one of each architecture
    "gnsmrky_fns/candy_nc16_256x256_onnxjs013.onnx",
    "gnsmrky_fns/mosaic_nc8_128x128.onnx",
    "winml_fns/udnie.onnx",
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_are_adopted(name: str, tmp_path: Path) -> None:
    path, photo = shared(f"models/{name}"), read_image(shared("media/images/Landscape_1.jpg"))
    frame = np.asarray(cv2.resize(photo, (160, 120), interpolation=cv2.INTER_AREA), np.uint8)
    is_winml = name.startswith("winml")
    if "nc8" in name:
        with pytest.raises(ConfigError, match="its color cannot be detected: add --color bgr or --color rgb"):
            adopt(path, tmp_path / "ours.onnx", [frame])
    adopted = adopt(path, tmp_path / "ours.onnx", [frame], None if is_winml else RGB)
    found = findings_of(adopted)
    assert (found["layout"][0], found["range"][0], found["output range"][0]) == ("nchw", "0..255", "0..255")
    assert found["color"][0] == ("bgr" if is_winml else "rgb")
    sizes = {"candy": (256, 256), "mosai": (128, 128), "udnie": (720, 720)}
    own = sizes[path.stem[:5]]  # compared with the file there
    assert found["size"][0] == "any" and [a.size for a in adopted.agreements] == [own, (131, 97), (64, 48)]
    assert all(a.max_abs <= 1 for a in adopted.agreements)
    one, other = (styled(tmp_path / "ours.onnx", frame, engine) for engine in ("onnxruntime", "openvino"))
    assert compare((160, 120), [(one, other)], "fp32").psnr_db > 55
    assert one.shape == frame.shape and one.std() > 30
