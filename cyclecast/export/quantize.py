"""Quantizes frame models to int8 after training, for CPUs. Needs onnx, onnxruntime and nncf, not torch.

Nagel et al. 2021, "A White Paper on Neural Network Quantization" (arXiv 2106.08295): symmetric, weights per channel, with bias
correction (section 3). Quantizers are pairs of QuantizeLinear and DequantizeLinear, which OpenVINO and ONNX Runtime read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import nncf  # type: ignore[import-untyped]
import numpy as np
import onnx
from onnx import helper, numpy_helper

from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.agreement import TOLERANCE, Agreement, center_crop_resize, check_finite, compare_engines
from cyclecast.export.equalize import equalize_channels
from cyclecast.export.save import save_model
from cyclecast.export.sensitivity import find_costly_convolutions
from cyclecast.files import atomic_write, check_output
from cyclecast.runtime.bench import psnr_db
from cyclecast.runtime.engine import Image, frame_spec
from cyclecast.runtime.engines import open_engine
from cyclecast.runtime.onnx_file import describe
from cyclecast.runtime.plan import engine_of_plan
from cyclecast.spec import METADATA_KEY

CALIBRATION_SIZE = (640, 360)  # (width, height) that photos are cropped and resized to, for models of any size
MOST_CALIBRATED = 40  # photos that set the ranges; more change little
EQUALIZED_WITH = 16  # photos that set the factors of channels
LEAST_PHOTOS = 8
HELD_OUT = 4  # each fourth photo sets no range, and measures what quantization costs
CONVOLUTIONS = ("Conv", "ConvTranspose")

SEARCHED_WITH = 3  # photos that find the convolutions that cost most
ATTEMPTS = 4  # everything in int8; sums in floating point; with convolutions, twice
BELOW_FOR_ONE_DB = 2.0  # by how much a single photo may miss the limit
RESERVE_DB = 0.3  # which the search wants beyond the limit, because it uses few photos
SUMS = "sums"  # of residual blocks, the first to stay in floating point: each adds its rounding to one signal


@dataclass(frozen=True)
class QuantizationResult:
    """What `quantize` wrote."""

    agreement: Agreement
    """The difference from the model that was quantized, on photos that set no range."""
    calibrated: int
    """Number of photos that set the ranges."""
    kept: tuple[str, ...]
    """What stays in floating point: sums (of residual blocks), then the number of convolutions, such as 2 of 18."""


def quantize(
    model: Path,
    output: Path,
    photos: Iterable[Image],
    *,
    overwrite: bool = False,
    on_message: Callable[[str], None] | None = None,
) -> QuantizationResult:
    """Writes the frame model as int8 to `output`, atomically.

    Its output has at least 44 dB PSNR against the fp32 model's over all photos that set no range, and 42 dB for each. If it has
    less with everything in int8, the sums of residual blocks stay in floating point, and then as few convolutions as necessary.
    photos: (H, W, 3) uint8 BGR of any size, like what will be styled; three of four set the ranges. on_message: called with one
    line for each attempt that was not kept.

    Raises ConfigError for fewer than 8 photos or a model that is not fp32, OutputError if the file exists or cannot be written,
    and ModelError if the model cannot be quantized or does not reach 44 dB with half of its convolutions in int8.
    """
    check_output(output, overwrite)
    if engine_of_plan(model) is not None:
        raise ConfigError(f"{model}: a plan; quantize the ONNX model that it was built from")
    size, metadata = describe(model)
    spec = frame_spec(model, metadata)
    source = onnx.load(str(model))
    if spec.precision != "fp32" or any(node.op_type == "QuantizeLinear" for node in source.graph.node):
        has = "quantized already" if spec.precision == "fp32" else spec.precision
        raise ConfigError(f"{model}: {has}; quantize a model that was exported with --precision fp32")
    _name_nodes(source)
    fitted = [center_crop_resize(photo, *(size or CALIBRATION_SIZE)) for photo in photos]
    if len(fitted) < LEAST_PHOTOS:
        raise ConfigError(f"found {len(fitted)} photos to quantize with; expected at least {LEAST_PHOTOS}, better 50")
    held_out = fitted[::HELD_OUT]
    calibration = [photo for index, photo in enumerate(fitted) if index % HELD_OUT][:MOST_CALIBRATED]
    spec = dataclasses.replace(spec, precision="int8")
    properties = {entry.key: entry.value for entry in source.metadata_props}  # author, license, card
    best, least_db = 0.0, TOLERANCE["int8"][1]
    report = on_message or (lambda line: None)
    with atomic_write(output, overwrite) as partial, closing(open_engine(model, "onnxruntime", "cpu")) as exact:
        check_finite(model, held_out[:1], [None], "fp32")  # in int8, quantizers would hide NaN
        equalize_channels(source, calibration[:EQUALIZED_WITH])
        kept: tuple[str, ...] = ()
        floating: list[str] = []  # names of nodes
        for attempt in range(ATTEMPTS):
            quantized = _quantize_graph(model, source, calibration, floating)
            helper.set_model_props(quantized, properties | {METADATA_KEY: spec.to_json()})
            save_model(quantized, partial)
            with closing(open_engine(partial, "onnxruntime", "cpu")) as engine:
                (agreement,) = compare_engines(engine, exact, held_out, [size or CALIBRATION_SIZE])
                worst_db = min(psnr_db([exact.run(photo)], [engine.run(photo)]) for photo in held_out)
            if agreement.passed and worst_db >= least_db - BELOW_FOR_ONE_DB:
                return QuantizationResult(agreement, len(calibration), kept)
            best = max(best, agreement.psnr_db)
            report(f"{agreement.psnr_db:.1f} dB PSNR ({worst_db:.1f} for one photo) with {_describe(kept)}: not enough")
            if not attempt:
                floating = [node.name for node in source.graph.node if node.op_type == "Add"]
                kept = (SUMS,)
                continue
            searched = held_out[:SEARCHED_WITH]
            outputs = [exact.run(photo) for photo in searched]
            floating += find_costly_convolutions(quantized, searched, outputs, least_db + RESERVE_DB)
            convolutions = [node.name for node in source.graph.node if node.op_type in CONVOLUTIONS]
            in_float = len(set(floating).intersection(convolutions))
            if 2 * in_float > len(convolutions):
                break  # it would hardly be faster
            kept = (SUMS, f"{in_float} of {len(convolutions)} convolutions")
        raise ModelError(
            f"{output}: not written: int8 has {best:.1f} dB PSNR against fp32 at best, expected at least "
            f"{least_db:g} dB; photos that are more like the footage may help"
        )


def _describe(kept: Sequence[str]) -> str:
    return f"{', '.join(kept)} in floating point" if kept else "everything in int8"


def _name_nodes(model: onnx.ModelProto) -> None:
    """Gives each node a name of its own, in place."""
    for index, node in enumerate(model.graph.node):
        node.name = f"{index}:{node.op_type}"


def _quantize_graph(path: Path, source: onnx.ModelProto, photos: Sequence[Image], floating: Sequence[str]) -> onnx.ModelProto:
    """Quantizes a graph except for the nodes `floating` and what follows its last convolution. ModelError if that fails."""
    nodes = list(source.graph.node)
    shapes = {tensor.name: list(tensor.dims) for tensor in source.graph.initializer}
    convolutions = [
        index
        for index, node in enumerate(nodes)
        if node.op_type in CONVOLUTIONS and not _mixes_colors(shapes.get(node.input[1], []))
    ]
    if not convolutions:
        raise ModelError(f"{path}: has no convolution, so int8 would make nothing faster")
    ignored = [node.name for node in nodes[convolutions[-1] + 1 :]]
    ignored += [node.name for index, node in enumerate(nodes) if node.op_type in CONVOLUTIONS and index not in convolutions]
    ignored += floating
    input_name = source.graph.input[0].name
    logging.getLogger("nncf").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # nncf draws bars
            quantized = nncf.quantize(
                source,
                nncf.Dataset(photos, lambda photo: {input_name: photo[None]}),
                preset=nncf.QuantizationPreset.PERFORMANCE,  # symmetric, also for activations, as TensorRT needs them
                subset_size=len(photos),
                fast_bias_correction=False,  # layer after layer, each with the errors of those before it: gains 0.5 to 1 dB
                ignored_scope=nncf.IgnoredScope(names=sorted(set(ignored)), validate=False),
            )
    except Exception as error:  # whatever nncf and ONNX Runtime raise for graphs that they cannot handle
        logging.getLogger(__name__).debug("%s cannot be quantized", path, exc_info=True)
        raise ModelError(f"{path}: cannot be quantized ({' '.join(str(error).split())[:200]})") from error
    assert isinstance(quantized, onnx.ModelProto)
    _keep_bytes(quantized)
    return quantized


def _mixes_colors(shape: Sequence[int]) -> bool:
    """Returns whether weights of this shape mix the colors of each pixel, as for `keep_colors` and for gray networks."""
    return len(shape) == 4 and max(shape[:2]) <= 3 and list(shape[2:]) == [1, 1]


def _keep_bytes(model: onnx.ModelProto) -> None:
    """Gives frames and the styled image, whose values are whole numbers from 0 to 255, quantizers of scale 1, in place.

    A frame's own range would clip the photos that are brighter than those that set it. A quantizer in place of the last rounding
    computes the same, and lets engines write bytes from the last convolution.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] not in producers:
            continue
        if list(producers[node.input[0]].input) == [model.graph.input[0].name]:
            scale = constants[node.input[1]]
            scale.CopyFrom(numpy_helper.from_array(np.ones_like(numpy_helper.to_array(scale)), scale.name))
    nodes = list(model.graph.node)
    exact = {index: _unrounded(node, producers, constants) for index, node in enumerate(nodes)}
    rounds = [(index, name) for index, name in exact.items() if name is not None]
    if not rounds:
        return
    index, unrounded = rounds[-1]
    model.graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "byte_scale"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.uint8), "byte_zero"))
    pair = [
        helper.make_node("QuantizeLinear", [unrounded, "byte_scale", "byte_zero"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "byte_scale", "byte_zero"], [nodes[index].output[0]]),
    ]
    nodes[index : index + 1] = pair
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _unrounded(
    node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto], constants: Mapping[str, onnx.TensorProto]
) -> str | None:
    """Returns the name of the values that a node rounds to whole numbers, by Round or by Floor after + 0.5; None for others."""
    if node.op_type == "Round":
        return str(node.input[0])
    half = producers.get(node.input[0]) if node.op_type == "Floor" else None
    if half is None or half.op_type != "Add" or half.input[1] not in constants:
        return None
    return str(half.input[0]) if np.all(numpy_helper.to_array(constants[half.input[1]]) == 0.5) else None
