"""Reads arithmetic from a graph: the scaling of its input, and the bounds of its output."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

Values = NDArray[np.float64]  # (3,): one for each channel

# Operators that keep values, and those that keep them within the bounds of their first input, the data.
RESHAPING = {"Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Pad", "Dropout"}
BOUND_KEEPING = RESHAPING | {"Slice", "Crop", "Gather", "DepthToSpace", "Resize", "Upsample", "AveragePool", "MaxPool"}
ACTIVATION_BOUNDS = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0)}


def first_affine_step(graph: onnx.GraphProto, name: str) -> tuple[Values, Values] | None:
    """Returns (a, b), (3,) each, of the a * x + b at the start of the graph; None if it starts with something else."""
    constants = _constants(graph)
    scale, shift, any_step = np.ones(3), np.zeros(3), False
    while True:
        readers = [node for node in graph.node if name in node.input and node.op_type != "Shape"]
        if len(readers) != 1:
            break
        if readers[0].op_type not in RESHAPING:
            step = _affine(readers[0], name, constants)
            if step is None:
                break
            scale, shift, any_step = scale * step[0], shift * step[0] + step[1], True
        name = readers[0].output[0]
    return (scale, shift) if any_step else None


def output_bounds(graph: onnx.GraphProto, name: str) -> tuple[float, float] | None:
    """Returns (minimum, maximum) of the value `name`, from a Tanh, Sigmoid or Clip and the affine steps after it, or None."""
    constants = _constants(graph)
    producers = {output: node for node in graph.node for output in node.output}
    steps: list[tuple[Values, Values]] = []
    while name in producers:
        node = producers[name]
        interval = ACTIVATION_BOUNDS.get(node.op_type) or _clip_bounds(node, constants)
        if interval is not None:
            ends = np.array([[interval[0]] * 3, [interval[1]] * 3])
            for scale, shift in reversed(steps):
                ends = ends * scale + shift
            return float(ends.min()), float(ends.max())
        data = [value for value in node.input if value not in constants]
        if node.op_type not in BOUND_KEEPING:
            step = _affine(node, data[0], constants) if len(data) == 1 else None
            if step is None:
                return None
            steps.append(step)
        if not data:
            return None
        name = data[0]
    return None


def _constants(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    return found


def _affine(node: onnx.NodeProto, data: str, constants: dict[str, NDArray[Any]]) -> tuple[Values, Values] | None:
    """Returns (a, b), (3,) each, of a node that computes a * data + b with a value for all or for each of three channels."""
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "ImageScaler":
        bias = np.array(settings.get("bias", [0.0]), np.float64)
        return (np.full(3, settings.get("scale", 1.0)), np.ones(3) * bias) if bias.size in (1, 3) else None
    if node.op_type == "Affine":
        return np.full(3, settings.get("alpha", 1.0)), np.full(3, settings.get("beta", 0.0))
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or list(node.input).count(data) != 1:
        return None
    first = node.input[0] == data
    other = constants.get(node.input[1 if first else 0])
    if other is None or other.size not in (1, 3):
        return None
    value = np.ones(3) * other.astype(np.float64).ravel()
    if node.op_type == "Add":
        return np.ones(3), value
    if node.op_type == "Sub":
        return (np.ones(3), -value) if first else (-np.ones(3), value)
    if node.op_type == "Mul":
        return value, np.zeros(3)
    return (1 / value, np.zeros(3)) if first and value.all() else None


def _clip_bounds(node: onnx.NodeProto, constants: dict[str, NDArray[Any]]) -> tuple[float, float] | None:
    """Returns the bounds of a Clip, which are attributes before opset 11 and inputs since then; None for other nodes."""
    if node.op_type != "Clip":
        return None
    ends = [a.f for name in ("min", "max") for a in node.attribute if a.name == name]
    ends = ends or [constants[value].item() for value in node.input[1:] if value in constants and constants[value].size == 1]
    return (ends[0], ends[1]) if len(ends) == 2 else None
