"""Adapts frame models for ONNX Runtime in browsers, in fp32 and in fp16. Needs onnx and onnxruntime, not torch.

The frame contract stays: uint8 (1, H, W, 3) BGR in and out. A browser fixes H and W when it opens the model, so that ONNX Runtime
computes all shapes once, and every node runs on the GPU.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cyclecast.card import THUMBNAIL
from cyclecast.errors import ConfigError, EngineError, ModelError
from cyclecast.export.adopt.opset import upgrade_opset
from cyclecast.export.agreement import Agreement, check_finite, compare_engines
from cyclecast.export.fp16 import convert_to_fp16
from cyclecast.export.save import save_model
from cyclecast.runtime.engine import Image, frame_spec
from cyclecast.runtime.engines import open_engine
from cyclecast.runtime.onnx_file import describe
from cyclecast.runtime.plan import engine_of_plan
from cyclecast.spec import METADATA_KEY, ModelSpec

log = logging.getLogger(__name__)

PRECISIONS = ("fp32", "fp16")
FREE_SIDES = ("height", "width")  # names of the free dimensions, which the browser fixes
CHECKED_AT = (320, 180)  # (width, height) at which models of any size are compared
LEAST_PSNR_DB = 40.0  # of fp16 against fp32
# Standard operators with a kernel for WebGPU, from `docs/webgpu-operators.md` of onnxruntime-web 1.30.0.
ON_WEBGPU = set(
    """
    Abs Acos Acosh Add ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Clip Concat Conv
    ConvTranspose Cos Cosh CumSum DFT DepthToSpace DequantizeLinear Div Einsum Elu Equal Erf Exp Expand Flatten Floor Gather
    GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GridSample HardSigmoid HardSwish If
    InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log MatMul MaxPool Mul Neg Not Pad Pow Range Reciprocal
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
    Reshape Resize ScatterND Shape Sigmoid Sin Sinh Slice Softmax Split Sqrt Squeeze Sub Tan Tanh ThresholdedRelu Tile
    Transpose Unsqueeze Where
    """.split()  # noqa: SIM905
)
FOLDED = {"Constant", "ConstantOfShape", "Identity", "Dropout"}  # what ONNX Runtime removes when it opens a model


@dataclass(frozen=True)
class WebModel:
    """A frame model for browsers."""

    spec: ModelSpec
    """That of the fp32 file."""
    files: dict[str, bytes]
    """Precision -> content of the ONNX file: fp32, and fp16 if it was requested and is accurate enough."""
    psnr_db: float | None
    """Of fp16 against fp32; infinite if the outputs are equal, None without fp16."""


def adapt_for_web(
    path: Path,
    frames: Sequence[Image],
    precisions: Sequence[str] = PRECISIONS,
    on_message: Callable[[str], None] | None = None,
) -> WebModel:
    """Adapts the frame model at `path`, and compares it with the file that it was.

    frames: images to compare the outputs on, (H, W, 3) uint8 BGR of any size. precisions: of `PRECISIONS`; fp32 is always
    included. on_message: called with one line if operators run on the CPU, and if fp16 is left out because this model cannot be
    converted, has NaN in fp16, or has less than 40 dB PSNR against fp32.

    Raises ModelError if it is not a frame model or its output would change, and ConfigError if it is a plan or not in fp32.
    """
    report = on_message or (lambda line: None)
    spec, model = _read(path)
    if missing := operators_on_cpu(model):
        report(f"{path}: browsers compute {', '.join(missing)} on the CPU, which costs copies of the frame")
    size = spec.size or CHECKED_AT
    with tempfile.TemporaryDirectory(prefix="cyclecast-") as folder:
        exact, half = (Path(folder) / f"{precision}.onnx" for precision in PRECISIONS)
        save_model(model, exact)
        agreement = _compare(exact, path, frames, size)
        if not agreement.passed:
            raise ModelError(f"{path}: for browsers, its output would differ by {agreement.max_abs} gray levels")
        files = {"fp32": exact.read_bytes()}
        if "fp16" not in precisions:
            return WebModel(spec, files, None)
        try:
            _save_in_fp16(model, spec, half)
            check_finite(half, frames, [size], "fp16")
            psnr_db = _compare(half, exact, frames, size).psnr_db
            if psnr_db < LEAST_PSNR_DB:
                raise ModelError(f"its output has {psnr_db:.1f} dB PSNR, expected at least {LEAST_PSNR_DB:g} dB")
        except (ModelError, EngineError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            log.debug("%s stays in fp32", path, exc_info=True)
            reason = " ".join(str(error).replace(str(half), "it").split())[:200]
            report(f"{path}: written in fp32 only; in fp16, {reason}")
            return WebModel(spec, files, None)
        return WebModel(spec, files | {"fp16": half.read_bytes()}, psnr_db)


def check_for_web(path: Path) -> None:
    """Raises the errors of `adapt_for_web` that need no frame computed, so that nothing is downloaded or drawn before."""
    _read(path)


def operators_on_cpu(model: onnx.ModelProto) -> list[str]:
    """Lists the operators that have no kernel for WebGPU, each once, in the order of the graph."""
    names = [node.op_type for node in model.graph.node if not _is_standard(node) or node.op_type not in ON_WEBGPU | FOLDED]
    return list(dict.fromkeys(names))


def _read(path: Path) -> tuple[ModelSpec, onnx.ModelProto]:
    """Reads a frame model in fp32, and rewrites what browsers compute on the CPU."""
    if engine_of_plan(path) is not None:
        raise ConfigError(f"{path}: a plan; browsers run the ONNX model that it was built from")
    size, metadata = describe(path)
    spec = dataclasses.replace(frame_spec(path, metadata), size=size)
    original = onnx.load(str(path))
    if spec.precision != "fp32" or not _is_fp32(original):
        has = "not in fp32" if spec.precision == "fp32" else spec.precision
        raise ConfigError(f"{path}: {has}; browsers get the model that was exported with --precision fp32, and fp16 from it")
    try:
        model = upgrade_opset(original)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    _replace_rounds(model.graph)
    _name_dimensions(model.graph, size)
    properties = {entry.key: entry.value for entry in original.metadata_props if entry.key != THUMBNAIL}  # author, license, card
    helper.set_model_props(model, properties | {METADATA_KEY: spec.to_json()})
    return spec, model


def _is_fp32(model: onnx.ModelProto) -> bool:
    is_quantized = any("QuantizeLinear" in node.op_type for node in model.graph.node)
    half = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    return not is_quantized and not any(tensor.data_type in half for tensor in model.graph.initializer)


def _is_standard(node: onnx.NodeProto) -> bool:
    return node.domain in ("", "ai.onnx")


def _replace_rounds(graph: onnx.GraphProto) -> None:
    """Replaces Round, which has no kernel for WebGPU, by Floor(x + 0.5), in place: only halves differ."""
    nodes: list[onnx.NodeProto] = []
    for index, node in enumerate(graph.node):
        if node.op_type != "Round" or not _is_standard(node):
            nodes.append(node)
            continue
        half, sum_name = f"round_{index}/half", f"round_{index}/sum"
        graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), half))
        nodes.append(helper.make_node("Add", [node.input[0], half], [sum_name]))
        nodes.append(helper.make_node("Floor", [sum_name], node.output))
    del graph.node[:]
    graph.node.extend(nodes)


def _name_dimensions(graph: onnx.GraphProto, size: tuple[int, int] | None) -> None:
    """Names the free sides of frames `FREE_SIDES`, in place, and removes what the file says about the shapes between."""
    del graph.value_info[:]
    sides = FREE_SIDES if size is None else size[::-1]
    for port in (graph.input[0], graph.output[0]):
        port_type = helper.make_tensor_type_proto(TensorProto.UINT8, [1, *sides, 3])
        port_type.denotation = port.type.denotation
        port.type.CopyFrom(port_type)


def _save_in_fp16(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> None:
    """Writes the model in fp16 to `path`. Raises ModelError, or an error of onnx, if it cannot be converted."""
    half = convert_to_fp16(model)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(half, properties | {METADATA_KEY: dataclasses.replace(spec, precision="fp16").to_json()})
    onnx.checker.check_model(half, full_check=True)
    save_model(half, path)


def _compare(one: Path, other: Path, frames: Sequence[Image], size: tuple[int, int]) -> Agreement:
    with closing(open_engine(one, "onnxruntime", "cpu")) as left, closing(open_engine(other, "onnxruntime", "cpu")) as right:
        (agreement,) = compare_engines(left, right, frames, [size])
    return agreement
