"""Equalizes the channels of a network before quantization, without a change of its output in fp32.

A quantizer has one scale for all channels of a tensor, so that channels with small values lose their bits. Convolution, ReLU and
sum commute with a positive factor for each channel (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and
Bias Correction", arXiv 1906.04721, section 4.1). The factors balance the ranges of values and of weights, as in Xiao et al. 2023,
"SmoothQuant" (arXiv 2211.10438, equation 4). Needs onnx and onnxruntime.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from cyclecast.runtime.engine import Image

Ranges = dict[str, NDArray[np.float32]]
"""Name of a tensor -> the largest absolute value of each of its channels, (C,)."""

SHARE_OF_VALUES = 0.8
"""How much of a channel's range moves from its values to the weights that read them, from 0 to 1: SmoothQuant's alpha. For
`water-lilies`, 0.8 gains 0.9 dB PSNR in int8, 0.5 and 1 gain 0.3 and 0.6 dB (2026-11-28)."""


@dataclass
class ChannelGroup:
    """Tensors (1, C, H, W) whose channels can only be scaled together, because a ReLU or a sum joins them."""

    tensors: set[str] = field(default_factory=set)
    producers: list[onnx.NodeProto] = field(default_factory=list)
    """The convolutions that compute them."""
    consumers: list[onnx.NodeProto] = field(default_factory=list)
    """The convolutions that read them."""


def equalize_channels(model: onnx.ModelProto, photos: Sequence[Image]) -> None:
    """Scales the channels of `model` in place, by the ranges that its values have for these photos: (H, W, 3) uint8 BGR."""
    groups = find_groups(model.graph)
    if not groups:
        return
    ranges = _measure_ranges(model, sorted(set().union(*(group.tensors for group in groups))), photos)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for group in groups:
        factors = _factors(group, ranges, weights)
        for node in group.producers:
            for name in node.input[1:]:  # weights (C, K, h, w), and bias (C,) if there is one
                _scale(weights[name], 1 / factors, 0)
        for node in group.consumers:
            _scale(weights[node.input[1]], factors, 1)


def find_groups(graph: onnx.GraphProto) -> list[ChannelGroup]:
    """Finds the groups of tensors that only convolutions compute, and that only convolutions read.

    Left out are convolutions with groups of channels, and weights that several nodes share.
    """
    uses = [name for node in graph.node for name in node.input]
    initializers = {tensor.name for tensor in graph.initializer}
    scalable = {
        node.output[0]
        for node in graph.node
        if node.op_type == "Conv"
        and all(name in initializers and uses.count(name) == 1 for name in node.input[1:])
        and all(attribute.i == 1 for attribute in node.attribute if attribute.name == "group")
    }
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while parents.setdefault(name, name) != name:
            name = parents[name]
        return name

    for node in graph.node:
        if node.op_type in ("Relu", "Add") and not initializers.intersection(node.input):
            for name in node.input:
                parents[root(name)] = root(node.output[0])
    groups: dict[str, ChannelGroup] = {}
    fixed = {root(port.name) for port in (*graph.input, *graph.output)}
    for node in graph.node:
        if node.output[0] in scalable:
            groups.setdefault(root(node.output[0]), ChannelGroup()).producers.append(node)
            groups.setdefault(root(node.input[0]), ChannelGroup()).consumers.append(node)
        elif not (node.op_type in ("Relu", "Add") and not initializers.intersection(node.input)):
            fixed.update(root(name) for name in (*node.input, *node.output) if name not in initializers)
    for name in parents:
        if root(name) in groups:
            groups[root(name)].tensors.add(name)
    return [group for name, group in groups.items() if name not in fixed and group.producers and group.consumers]


def _measure_ranges(model: onnx.ModelProto, tensors: Iterable[str], photos: Sequence[Image]) -> Ranges:
    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    tensors = list(tensors)
    measured.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in tensors)
    session = onnxruntime.InferenceSession(measured.SerializeToString(), providers=["CPUExecutionProvider"])
    input_name = model.graph.input[0].name
    ranges: Ranges = {}
    for photo in photos:
        for name, values in zip(tensors, session.run(tensors, {input_name: photo[None]}), strict=True):
            largest = np.abs(values).max((0, 2, 3))
            ranges[name] = np.maximum(ranges.get(name, largest), largest)
    return ranges


def _factors(group: ChannelGroup, ranges: Ranges, weights: dict[str, onnx.TensorProto]) -> NDArray[np.float32]:
    """Returns by how much each channel's values are divided: (C,), with a geometric mean of 1."""
    values = np.max([ranges[name] for name in group.tensors], 0)
    read = np.max([np.abs(numpy_helper.to_array(weights[node.input[1]])).max((0, 2, 3)) for node in group.consumers], 0)
    factors = np.maximum(values, 1e-5) ** SHARE_OF_VALUES / np.maximum(read, 1e-5) ** (1 - SHARE_OF_VALUES)
    factors = np.where((values > 0) & (read > 0), factors, 1)
    normalized: NDArray[np.float32] = (factors / np.exp(np.log(factors).mean())).astype(np.float32)
    return normalized


def _scale(tensor: onnx.TensorProto, factors: NDArray[np.floating[Any]], axis: int) -> None:
    values = numpy_helper.to_array(tensor)
    shape = [1] * values.ndim
    shape[axis] = -1
    tensor.CopyFrom(numpy_helper.from_array((values * factors.reshape(shape)).astype(values.dtype), tensor.name))
