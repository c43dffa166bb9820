"""Replaces quantized and fused operators of ONNX Runtime by standard ones (QuantizeLinear, DequantizeLinear, Conv …)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

SAME_INPUTS = {  # QLinear operator with the inputs x, x_scale, x_zero, y_scale, y_zero -> the float operator
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearReduceMean": "ReduceMean",
}
PAIRS = {"QLinearAdd": "Add", "QLinearMul": "Mul", "QLinearMatMul": "MatMul"}
OWN_SETTINGS = {"channels_last", "opset"}  # attributes that the float operators lack


class Rewriter:
    """Rewrites one model in place. Operators that it does not know stay."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].type == onnx.AttributeProto.TENSOR:
                self._constants[node.output[0]] = node.attribute[0].t
        self._nodes: list[onnx.NodeProto] = []

    def rewrite(self) -> onnx.ModelProto:
        """Rewrites the model and returns it."""
        for node in self.model.graph.node:
            name = node.op_type
            settings = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name not in OWN_SETTINGS}
            inputs = list(node.input)
            if name == "QLinearConv":
                self._rewrite_convolution(inputs, node.output[0], settings)
            elif name in PAIRS:
                self._add_quantized(PAIRS[name], [inputs[0:3], inputs[3:6]], inputs[6:], node.output[0], settings)
            elif name in SAME_INPUTS and not any(a.name == "channels_last" and a.i for a in node.attribute):
                self._add_quantized(SAME_INPUTS[name], [inputs[0:3]], inputs[3:], node.output[0], settings)
            elif name == "QLinearConcat":
                parts = [inputs[start : start + 3] for start in range(2, len(inputs), 3)]
                self._add_quantized("Concat", parts, inputs[:2], node.output[0], settings)
            elif name == "FusedConv" and node.domain == "com.microsoft":
                self._rewrite_fused_convolution(inputs, node.output[0], settings)
            else:
                self._nodes.append(node)
        del self.model.graph.node[:]
        self.model.graph.node.extend(self._nodes)
        return self.model

    def _add(self, operator: str, inputs: list[str], output: str, **settings: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], f"{output}/{operator}", **settings))
        return output

    def _add_quantized(
        self, operator: str, parts: list[list[str]], result: list[str], output: str, settings: dict[str, Any]
    ) -> None:
        """Adds the float operator. parts: value, scale and zero point of each input. result: scale and zero point."""
        values = [
            self._add("DequantizeLinear", [name for name in part if name], f"{output}/input_{index}")
            for index, part in enumerate(parts)
        ]
        real = self._add(operator, values, f"{output}/real", **settings)
        self._add("QuantizeLinear", [real, *[name for name in result if name]], output)

    def _rewrite_convolution(self, inputs: list[str], output: str, settings: dict[str, Any]) -> None:
        x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = inputs
        axis = {"axis": 0} if self._size(w_scale) > 1 else {}
        values = [
            self._add("DequantizeLinear", [x, x_scale, x_zero], f"{output}/x"),
            self._add("DequantizeLinear", [w, w_scale, w_zero], f"{output}/w", **axis),
        ]
        if bias and bias[0]:
            scale = self._add("Mul", [x_scale, w_scale], f"{output}/bias_scale")
            if x_scale in self._constants and w_scale in self._constants:  # ONNX Runtime fuses only a constant one
                self._nodes.pop()
                product = np.asarray(self._value(x_scale).reshape(()) * self._value(w_scale), np.float32)
                self.model.graph.initializer.append(numpy_helper.from_array(product, scale))
            values.append(self._add("DequantizeLinear", [bias[0], scale], f"{output}/bias", **axis))
        real = self._add("Conv", values, f"{output}/real", **settings)
        self._add("QuantizeLinear", [real, y_scale, y_zero], output)

    def _rewrite_fused_convolution(self, inputs: list[str], output: str, settings: dict[str, Any]) -> None:
        activation = settings.pop("activation", b"").decode()
        numbers = settings.pop("activation_params", [])
        names = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta")}.get(activation, ())
        added = inputs[3] if len(inputs) > 3 else ""
        value = self._add("Conv", [name for name in inputs[:3] if name], f"{output}/conv", **settings)
        if added:
            value = self._add("Add", [value, added], f"{output}/sum")
        if activation == "Clip":
            ends = []
            for name, number in zip(("low", "high"), numbers, strict=False):
                ends.append(f"{output}/{name}")
                self.model.graph.initializer.append(numpy_helper.from_array(np.array(number, np.float32), ends[-1]))
            self._add("Clip", [value, *ends], output)
        else:
            self._add(activation or "Identity", [value], output, **dict(zip(names, numbers, strict=False)))

    def _value(self, name: str) -> Any:
        return numpy_helper.to_array(self._constants[name])

    def _size(self, name: str) -> int:
        return int(self._value(name).size) if name in self._constants else 1
