"""Wraps a foreign graph in a frame graph: converts raw frames to the format that the model expects, and its output back."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cyclecast.errors import ModelError
from cyclecast.export.adopt.foreign import Array, Convention, pad_mode
from cyclecast.export.gray import GRAY_WEIGHTS
from cyclecast.spec import METADATA_KEY, ModelSpec

log = logging.getLogger(__name__)

PREFIX = "model/"  # of every name in the foreign graph, so that it cannot clash with ours
RESHAPING = {"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze"}  # allowed between a uint8 input or output and its Cast
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
MIDDLE = 128  # gray levels; whole numbers stay whole when it is subtracted


def frame_graph(foreign: onnx.ModelProto, convention: Convention, spec: ModelSpec) -> onnx.ModelProto:
    """Wraps a copy of the foreign model: input `frame`, output `styled`, uint8 (1, H, W, 3) BGR, any H and W from 16 up.

    foreign: one input and one output, opset 18 or later. The casts are the first and the last node, because TensorRT supports
    uint8 nowhere else. Raises ModelError if the graph is not valid.
    """
    model = onnx.compose.add_prefix(foreign, PREFIX)
    graph = model.graph
    input_info, output_info = graph.input[0], graph.output[0]
    is_uint8 = input_info.type.tensor_type.elem_type == TensorProto.UINT8
    dtype = _choose_input_dtype(graph, input_info)
    _replace_uint8_cast(graph, output_info)
    before, after = Nodes("before"), Nodes("after")
    sides = _add_input_nodes(before, input_info.name, dtype, is_uint8, convention)
    _add_output_nodes(after, output_info.name, sides, convention)
    inner = list(graph.node)
    del graph.node[:], graph.value_info[:], graph.input[:], graph.output[:]
    graph.node.extend([*before.nodes, *inner, *after.nodes])
    graph.initializer.extend([*before.constants, *after.constants])
    shape: list[int | str | None] = [1, "height", "width", 3]
    graph.input.append(helper.make_tensor_value_info("frame", TensorProto.UINT8, shape))
    graph.output.append(helper.make_tensor_value_info("styled", TensorProto.UINT8, shape))
    set_spec(model, spec)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the errors of checker and shape inference share no base
        log.debug("invalid graph", exc_info=True)
        raise ModelError(f"not a valid model: {' '.join(str(error).split())[:200]}") from error
    return model


class Nodes:
    """Collects nodes and constants to add to a graph. Each value gets a new name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, operator: str, *values: str | Array | Sequence[int], output: str = "", **settings: Any) -> str:
        """Adds a node; values that are not names become constants (sequences: int64). Returns the name of its output."""
        names = [value if isinstance(value, str) else self._constant(np.asarray(value)) for value in values]
        output = output or f"{self.name}/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [output], f"{self.name}/node_{len(self.nodes)}", **settings))
        return output

    def _constant(self, value: Array) -> str:
        name = f"{self.name}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name


def _add_input_nodes(nodes: Nodes, output: str, dtype: int, is_uint8: bool, convention: Convention) -> FrameSides:
    """Adds the nodes from `frame` to `output`, the model's input, which is rounded if `is_uint8`."""
    x = nodes.add("Transpose", nodes.add("Cast", "frame", to=TensorProto.FLOAT), perm=TO_NCHW)
    whole = _sides(nodes, x)
    sides = FrameSides(whole, whole)
    black, white = convention.range.ends(convention.channels)
    scale = (white - black) / 255
    if convention.channels == 1:
        weights = np.array(GRAY_WEIGHTS[convention.gray], np.float32).reshape(1, 3, 1, 1)
        x = nodes.add("Conv", x, weights)
    if convention.size is not None:  # centered during the resize, because bf16 is finer near 0
        sides = FrameSides(whole, _letterbox_sides(nodes, whole, convention.size))
        x = _resize(nodes, nodes.add("Sub", x, _float32(MIDDLE)), sides.used, convention.channels)
        x = _mirror(nodes, x, sides.used, convention.size)
        black = black + MIDDLE * scale
    elif convention.multiple > 1:
        x = _pad(nodes, x, whole, convention.multiple)
    x = _scale_and_shift(nodes, _reorder_channels(nodes, x, convention.color, convention.channels), scale, black)
    if convention.layout == "nhwc":
        x = nodes.add("Transpose", x, perm=TO_NHWC)
    if is_uint8 and (dtype == TensorProto.UINT8 or convention.size is not None or convention.channels == 1):
        x = nodes.add("Round", x)
    nodes.add("Cast", x, output=output, to=dtype)
    return sides


def _add_output_nodes(nodes: Nodes, output: str, sides: FrameSides, convention: Convention) -> None:
    """Adds the nodes from `output`, the model's output, to `styled`."""
    x = nodes.add("Cast", output, to=TensorProto.FLOAT)
    if convention.output_layout == "nhwc":
        x = nodes.add("Transpose", x, perm=TO_NCHW)
    if convention.size is not None or convention.multiple > 1:
        x = nodes.add("Slice", x, [0, 0], sides.used, [2, 3])
    channels = convention.output_channels
    black, white = convention.output_range.ends(channels)
    scale = 255 / (white - black)
    x = _reorder_channels(nodes, _scale_and_shift(nodes, x, scale, -black * scale), convention.color, channels)
    x = nodes.add("Clip", x, _float32(0), _float32(255))
    if convention.size is not None:
        x = _resize(nodes, x, sides.whole, channels)
    if channels == 1:
        x = nodes.add("Concat", x, x, x, axis=1)
    nodes.add("Cast", nodes.add("Transpose", nodes.add("Round", x), perm=TO_NHWC), output="styled", to=TensorProto.UINT8)


@dataclass(frozen=True)
class FrameSides:
    """Names of two values (height, width), int64, in the graph."""

    whole: str
    """The frame's size."""
    used: str
    """The part of the model's image that the frame covers."""


def _sides(nodes: Nodes, x: str) -> str:
    return nodes.add("Gather", nodes.add("Shape", x), [2, 3])


def _pad(nodes: Nodes, x: str, sides: str, multiple: int) -> str:
    """Adds the nodes of `foreign.pad`."""
    whole = nodes.add("Mul", nodes.add("Div", nodes.add("Add", sides, [multiple - 1]), [multiple]), [multiple])
    amount = nodes.add("Concat", [0] * 6, nodes.add("Sub", whole, sides), axis=0)
    return nodes.add("Pad", x, amount, mode=pad_mode(multiple))


def _letterbox_sides(nodes: Nodes, sides: str, size: tuple[int, int]) -> str:
    """Adds the nodes of `foreign.letterbox_size`, from (height, width) to (height, width). size: (width, height)."""
    largest = np.array(size[::-1])
    other = nodes.add("Gather", sides, [1, 0])
    scaled = nodes.add("Mul", sides, largest[::-1])  # height * target width, width * target height
    nearest = nodes.add("Div", nodes.add("Add", scaled, nodes.add("Div", other, [2])), other)
    return nodes.add("Min", nodes.add("Max", nearest, [1]), largest)


def _mirror(nodes: Nodes, x: str, used: str, size: tuple[int, int]) -> str:
    """Adds the padding of `foreign.letterbox`: (1, C, *used) -> (1, C, height, width)."""
    for axis, index in ((2, 0), (3, 1)):
        side = nodes.add("Gather", used, [index])
        position = nodes.add("Mod", np.arange(size[::-1][index]), nodes.add("Mul", side, [2]))
        back = nodes.add("Sub", nodes.add("Sub", nodes.add("Mul", side, [2]), position), [1])
        x = nodes.add("Gather", x, nodes.add("Min", position, back), axis=axis)
    return x


def _resize(nodes: Nodes, x: str, to: str, channels: int) -> str:
    """Adds the nodes of `foreign.resize`: (1, C, H, W) -> (1, C, *to).

    Every pixel counts, even if a frame shrinks a lot. antialias=1 would do the same, but TensorRT lacks it.
    """
    ratio = nodes.add("Max", nodes.add("Div", _sides(nodes, x), to), [1])
    whole = nodes.add("Mul", ratio, to)
    settings = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    x = nodes.add("Resize", x, "", "", nodes.add("Concat", [1, channels], whole, axis=0), **settings)
    height, width = (nodes.add("Gather", to, [axis]) for axis in (0, 1))
    rows, columns = (nodes.add("Gather", ratio, [axis]) for axis in (0, 1))
    x = nodes.add("Reshape", x, nodes.add("Concat", [channels], height, rows, [-1], axis=0))
    x = nodes.add("ReduceMean", x, [2], keepdims=0)  # (C, height, width * columns)
    x = nodes.add("Reshape", x, nodes.add("Concat", [1, channels], height, width, columns, axis=0))
    return nodes.add("ReduceMean", x, [4], keepdims=0)


def _reorder_channels(nodes: Nodes, x: str, color: str, channels: int) -> str:
    """Reverses the channels for RGB with a Gather, which is exact and no slower than a convolution."""
    return nodes.add("Gather", x, [2, 1, 0], axis=1) if color == "rgb" and channels == 3 else x


def _scale_and_shift(nodes: Nodes, x: str, scale: Array, shift: Array) -> str:
    """Adds x * scale + shift, (C,) each, with a single value if the channels do not differ."""
    for operator, values, neutral in (("Mul", scale, 1), ("Add", shift, 0)):
        if (values != neutral).any():
            value = values[0] if (values == values[0]).all() else values.reshape(1, -1, 1, 1)
            x = nodes.add(operator, x, _float32(value))
    return x


def _float32(value: float | Array) -> Array:
    return np.array(value, np.float32)


def _choose_input_dtype(graph: onnx.GraphProto, input_info: onnx.ValueInfoProto) -> int:
    """Returns the dtype for the model's input: its own, or float32 if it is uint8 and only reshaping nodes and a Cast read it."""
    dtype: int = input_info.type.tensor_type.elem_type
    if dtype != TensorProto.UINT8:
        return dtype
    names = [input_info.name]
    for name in names:
        for node in graph.node:
            if name in node.input and node.op_type in RESHAPING:
                names.append(node.output[0])
            elif name in node.input and node.op_type not in ("Cast", "Shape"):
                return dtype
    return int(TensorProto.FLOAT)


def _replace_uint8_cast(graph: onnx.GraphProto, output_info: onnx.ValueInfoProto) -> None:
    """Replaces a final Cast to uint8 by Floor, which truncates in the same way."""
    if output_info.type.tensor_type.elem_type != TensorProto.UINT8:
        return
    producers = {value: index for index, node in enumerate(graph.node) for value in node.output}
    index = producers.get(output_info.name)
    while index is not None and graph.node[index].op_type in RESHAPING:
        index = producers.get(graph.node[index].input[0])
    if index is None or graph.node[index].op_type != "Cast":
        return
    cast = graph.node[index]
    value = f"{cast.output[0]}/float"
    nodes = list(graph.node)
    nodes[index : index + 1] = [
        helper.make_node("Cast", cast.input, [value], to=TensorProto.FLOAT),
        helper.make_node("Floor", [value], cast.output),
    ]
    del graph.node[:]
    graph.node.extend(nodes)


def set_spec(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Adds our metadata to the author's, and removes those about image formats, which are wrong for the frame model."""
    kept = [entry for entry in model.metadata_props if not entry.key.lower().startswith("image.") and entry.key != METADATA_KEY]
    kept.append(onnx.StringStringEntryProto(key=METADATA_KEY, value=spec.to_json()))
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.graph.name = spec.name
    model.producer_name, model.producer_version = "cyclecast", spec.version
