"""Converts frame models from fp32 to fp16, for GPUs. Needs onnx, not torch.

As `export --precision fp16`: what lies between the first and the last convolution computes in fp16, except for norms. ONNX
Runtime's own converter (`onnxruntime.transformers.float16`) puts two casts around each node that stays in fp32.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cyclecast.errors import ModelError

CONVOLUTIONS = ("Conv", "ConvTranspose")
STAY_FP32 = {  # sums over a frame, which exceed the range of fp16, and nodes whose output has a type of its own
    *("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization"),
    *("GlobalAveragePool", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare"),
    *("Cast", "CastLike", "Constant", "ConstantOfShape", "DequantizeLinear", "QuantizeLinear", "Range"),
}
FP32_INPUTS = {"Resize": (1, 2)}  # inputs that are fp32 in each precision


def convert_to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy that computes in fp16. Raises ModelError if it has no convolution, or weights beyond the range of fp16."""
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    converter = _Converter(typed)
    for index, node in enumerate(list(typed.graph.node)):
        converter.add(node, index)
    return converter.finish()


class _Converter:
    """Rewrites the nodes of one graph, in their order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        graph = model.graph
        self._fp32 = {value.name for value in graph.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
        self._fp32 |= self._weights.keys()
        self._inner = _between_convolutions(graph)
        self._casts: dict[tuple[str, int], str] = {}  # (value, type) -> the same value in that type
        self._in_fp16: set[str] = set()
        self._nodes: list[onnx.NodeProto] = []

    def add(self, node: onnx.NodeProto, index: int) -> None:
        """Adds a node of the original graph, with casts before it where its precision differs from its inputs'."""
        is_inner = index in self._inner and node.op_type not in STAY_FP32
        if is_inner and node.input[0] in self._fp32:
            stay = FP32_INPUTS.get(node.op_type, ())
            for position, name in enumerate(node.input):
                if name in self._fp32 and position not in stay:
                    node.input[position] = self._as(name, TensorProto.FLOAT16)
            self._in_fp16.update(name for name in node.output if name in self._fp32)
        else:
            for position, name in enumerate(node.input):
                if name in self._in_fp16:
                    node.input[position] = self._as(name, TensorProto.FLOAT)
        self._nodes.append(node)

    def _as(self, name: str, dtype: int) -> str:
        """Returns the name of a value in this type; adds a cast or converts a weight if there is none yet."""
        if (name in self._in_fp16) == (dtype == TensorProto.FLOAT16):
            return name
        key = (name, dtype)
        if key not in self._casts:
            self._casts[key] = converted = f"{name}/{'fp16' if dtype == TensorProto.FLOAT16 else 'fp32'}"
            if name in self._weights:
                self._model.graph.initializer.append(_weight_in_fp16(self._weights[name], converted))
            else:
                self._nodes.append(helper.make_node("Cast", [name], [converted], to=dtype))
        return self._casts[key]

    def finish(self) -> onnx.ModelProto:
        """Returns the model, without the weights that nothing uses anymore."""
        graph = self._model.graph
        used = {name for node in self._nodes for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        for field, values in (("node", self._nodes), ("initializer", kept), ("value_info", [])):
            graph.ClearField(field)
            getattr(graph, field).extend(values)
        return self._model


def _between_convolutions(graph: onnx.GraphProto) -> set[int]:
    """Returns the indices of the convolutions, and of the nodes that depend on one and that another one depends on."""
    producers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    after: set[int] = set()
    before: set[int] = set()
    for index, node in enumerate(graph.node):
        if node.op_type in CONVOLUTIONS or any(producers.get(name) in after for name in node.input):
            after.add(index)
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if node.op_type in CONVOLUTIONS or index in before:
            before.add(index)
            before.update(producers[name] for name in node.input if name in producers)
    if not after:
        raise ModelError("it has no convolution to convert")
    return after & before


def _weight_in_fp16(weight: onnx.TensorProto, name: str) -> onnx.TensorProto:
    with np.errstate(over="ignore"):
        values = numpy_helper.to_array(weight).astype(np.float16)
    if not np.isfinite(values).all():
        raise ModelError("it has weights beyond the range of fp16")
    return numpy_helper.from_array(values, name)
