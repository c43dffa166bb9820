"""Upgrades ONNX files to opset 18 or later, which every engine supports."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cyclecast.errors import ModelError

log = logging.getLogger(__name__)

OPSET = 18
IR_VERSION = 8  # of ONNX 1.12 and 1.13, which brought opset 18
END = 2**31 - 1  # as the end of a Slice: up to the end, however far


def opset_of(model: onnx.ModelProto) -> int:
    """Returns the file's version of the standard operators."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def upgrade_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy in opset 18, or in the file's own if that is later. Raises ModelError if onnx cannot convert it.

    Replaces ImageScaler, Affine and Crop, which ONNX 1.5 removed and only ONNX Runtime still runs, by Mul, Add and Slice.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights = {tensor.name for tensor in copy.graph.initializer}
    inputs = [port for port in copy.graph.input if port.name not in weights]  # before IR 4, weights are inputs too
    del copy.graph.input[:]
    copy.graph.input.extend(inputs)
    copy.ir_version = max(copy.ir_version, IR_VERSION)
    if opset_of(copy) >= OPSET:
        return copy
    _replace_experimental(copy.graph)
    del copy.graph.value_info[:]
    try:
        return onnx.version_converter.convert_version(copy, OPSET)
    except Exception as error:  # its assertions and its checker's errors share no other base
        log.debug("opset upgrade failed", exc_info=True)
        reason = " ".join(str(error).split())[-160:]
        raise ModelError(f"onnx cannot upgrade it from opset {opset_of(model)} to {OPSET}: {reason}") from error


def _replace_experimental(graph: onnx.GraphProto) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(graph.input[0].type.tensor_type.elem_type)
    nodes: list[onnx.NodeProto] = []
    for index, node in enumerate(graph.node):
        settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.domain or node.op_type not in ("ImageScaler", "Affine", "Crop"):
            nodes.append(node)
        elif node.op_type == "Crop":
            nodes.append(helper.make_node("Slice", node.input, node.output, **_borders(**settings)))
        else:
            scale, shift = settings.get("scale", 1.0), np.array(settings.get("bias", [0.0])).reshape(1, -1, 1, 1)
            if node.op_type == "Affine":
                scale, shift = settings.get("alpha", 1.0), np.array(settings.get("beta", 0.0))
            names = [f"{node.op_type}_{index}/{part}" for part in ("scale", "shift", "scaled")]
            for name, value in zip(names, (np.array(scale), shift), strict=False):
                graph.initializer.append(numpy_helper.from_array(value.astype(dtype), name))
            nodes.append(helper.make_node("Mul", [node.input[0], names[0]], [names[2]]))
            nodes.append(helper.make_node("Add", [names[2], names[1]], node.output))
    del graph.node[:]
    graph.node.extend(nodes)


def _borders(border: Sequence[int] = (0, 0, 0, 0), scale: Sequence[int] = ()) -> dict[str, Any]:
    """Turns a Crop's attributes into a Slice's. border: left, top, right, bottom; scale: the remaining height and width."""
    left, top, right, bottom = border
    ends = [top + scale[0], left + scale[1]] if scale else [-bottom or END, -right or END]
    return {"axes": [2, 3], "starts": [top, left], "ends": ends}
