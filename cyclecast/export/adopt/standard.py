"""Rewrites a graph into sorted standard operators, which every engine runs."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnx.inliner
from onnx import numpy_helper

from cyclecast.errors import ModelError
from cyclecast.export.adopt.opset import upgrade_opset
from cyclecast.export.adopt.quantized import Rewriter

log = logging.getLogger(__name__)

SCALAR_INPUTS = {  # operator -> its inputs that are one value without a dimension
    "Clip": (1, 2),
    "Dropout": (1,),
    "Pad": (2,),
    "Range": (0, 1, 2),
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
}


def standardize(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a sorted copy in opset 18 or later, without local functions, dead nodes, and fused or quantized operators.

    Raises ModelError if onnx cannot convert it, or if only the type of processor that the file was optimized for can run it.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    domains = {node.domain for node in copy.graph.node}
    if "com.microsoft.nchwc" in domains:
        raise ModelError(
            "ONNX Runtime optimized it for one type of processor (operators com.microsoft.nchwc): "
            "adopt the file from before that optimization"
        )
    if copy.functions:
        try:
            copy = onnx.inliner.inline_local_functions(copy)
        except Exception as error:  # its errors are not typed
            log.debug("cannot inline functions", exc_info=True)
            raise ModelError(f"onnx cannot inline its local functions: {' '.join(str(error).split())[:160]}") from error
    sort_nodes(copy.graph)
    _make_tensors(copy.graph)
    copy = Rewriter(copy).rewrite()
    _make_scalars(copy.graph)
    _remove_dead_nodes(copy.graph)
    used = {node.domain for node in copy.graph.node} | {"", "ai.onnx"}
    kept = [entry for entry in copy.opset_import if entry.domain in used]
    del copy.opset_import[:]
    copy.opset_import.extend(kept)
    return upgrade_opset(copy)


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Sorts the nodes so that each follows those whose outputs it reads, and otherwise keeps their order."""
    producers = {value: index for index, node in enumerate(graph.node) for value in node.output if value}
    ordered: list[int] = []
    placed: set[int] = set()
    waiting: set[int] = set()
    for first in range(len(graph.node)):
        stack = [first]
        while stack:
            index = stack[-1]
            before = {producers[name] for name in _reads(graph.node[index]) if name in producers} - placed
            if index in placed or not before - waiting - {index}:  # a cycle, which no engine runs, ends here too
                stack.pop()
                if index not in placed:
                    placed.add(index)
                    ordered.append(index)
            else:
                waiting.add(index)
                stack.extend(sorted(before - waiting, reverse=True))
    nodes = [graph.node[index] for index in ordered]
    del graph.node[:]
    graph.node.extend(nodes)


def _reads(node: onnx.NodeProto) -> list[str]:
    """Returns the names that a node reads, also inside its subgraphs."""
    names = [value for value in node.input if value]
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            names += [value for inner in graph.node for value in _reads(inner)]
            names += [port.name for port in graph.output]
    return names


def _remove_dead_nodes(graph: onnx.GraphProto) -> None:
    """Removes the nodes and weights that the outputs do not depend on."""
    producers = {value: node for node in graph.node for value in node.output if value}
    needed, names = set(), [port.name for port in graph.output]
    while names:
        name = names.pop()
        if name not in needed:
            needed.add(name)
            names += _reads(producers[name]) if name in producers else []
    nodes = [node for node in graph.node if needed.intersection(node.output)]
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)


def _make_tensors(graph: onnx.GraphProto) -> None:
    """Turns the numbers of Constant nodes into tensors, so that there is one way to write a constant."""
    dtypes = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    for node in graph.node:
        if node.op_type != "Constant" or node.domain or not node.attribute or node.attribute[0].name not in dtypes:
            continue
        attribute = node.attribute[0]
        values = np.array(onnx.helper.get_attribute_value(attribute), dtypes[attribute.name])
        del node.attribute[:]
        node.attribute.append(onnx.helper.make_attribute("value", numpy_helper.from_array(values)))


def _make_scalars(graph: onnx.GraphProto) -> None:
    """Replaces tensors of shape (1,) by scalars where an operator expects a scalar; engines differ in what they accept."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    made: dict[str, str] = {}
    constants = {
        node.output[0]: node.attribute[0].t
        for node in graph.node
        if node.op_type == "Constant" and node.attribute and node.attribute[0].type == onnx.AttributeProto.TENSOR
    }
    for node in graph.node:
        for index in SCALAR_INPUTS.get(node.op_type, ()) if not node.domain else ():
            name = node.input[index] if index < len(node.input) else ""
            tensor = weights.get(name, constants.get(name))
            if tensor is None or list(tensor.dims) != [1]:
                continue
            if name not in made:
                made[name] = f"{name}/scalar"
                value = numpy_helper.to_array(tensor).reshape(())
                graph.initializer.append(numpy_helper.from_array(np.asarray(value), made[name]))
            node.input[index] = made[name]
