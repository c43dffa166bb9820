"""Finds the convolutions of an int8 model whose inputs lose the most, to leave them in floating point.

As in Wu et al. 2020, "Integer Quantization for Deep Learning Inference" (arXiv 2004.09602, section 6.1, partial quantization),
one layer at a time is left out. Often one block of a network costs more than all the others. Needs onnx and onnxruntime.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx
import onnxruntime

from cyclecast.runtime.bench import psnr_db
from cyclecast.runtime.engine import Image


def find_costly_convolutions(
    model: onnx.ModelProto, photos: Sequence[Image], exact: Sequence[Image], least_db: float
) -> list[str]:
    """Returns the names of the convolutions to leave in floating point, the costliest first, as few as reach `least_db`.

    model: the quantized model. photos: (H, W, 3) uint8 BGR. exact: the fp32 model's output for them. least_db: of the output
    against it, PSNR in dB; if nothing reaches it, all convolutions are returned.
    """
    names = [node.name for node in model.graph.node if node.op_type == "Conv" and _is_quantized(model, node)]
    alone = {name: _psnr_without(model, {name}, photos, exact) for name in names}
    ranked = sorted(names, key=lambda name: alone[name], reverse=True)
    for count in range(1, len(ranked)):
        if _psnr_without(model, set(ranked[:count]), photos, exact) >= least_db:
            return ranked[:count]
    return ranked


def _psnr_without(model: onnx.ModelProto, names: Collection[str], photos: Sequence[Image], exact: Sequence[Image]) -> float:
    """Measures the output if the inputs of these convolutions are not quantized."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    producers = {name: node for node in changed.graph.node for name in node.output}
    for node in changed.graph.node:
        if node.name in names:
            node.input[0] = producers[producers[node.input[0]].input[0]].input[0]
    session = onnxruntime.InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    return psnr_db(exact, [session.run(None, {port.name: photo[None]})[0][0] for photo in photos])


def _is_quantized(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    producers = {name: each for each in model.graph.node for name in each.output}
    read = producers.get(node.input[0])
    return read is not None and read.op_type == "DequantizeLinear" and read.input[0] in producers
