"""Compares two engines on the same frames, and searches models for NaN. Needs onnx and onnxruntime, not torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from cyclecast.errors import ConfigError, EngineError, ModelError
from cyclecast.runtime.bench import decibels
from cyclecast.runtime.engine import Engine, Image
from cyclecast.runtime.engines import open_engine
from cyclecast.spec import ModelSpec

Values = NDArray[Any]  # an image, or a latent

FP16_CHECK_PIXELS = 256 * 256  # up to this size NaN are searched in true fp16, with all values in memory: 1.2 GiB for a ResNet-9
SIZES = ((131, 97), (256, 256), (640, 360))  # (width, height): odd, square, wide
# Maximum difference in gray levels, minimum PSNR in dB. mixed: convolutions of two precisions, in adopted models.
TOLERANCE = {"fp32": (1, 0.0), "bf16": (255, 45.0), "fp16": (255, 45.0), "mixed": (255, 45.0), "int8": (255, 44.0)}


@dataclass(frozen=True)
class Agreement:
    """The difference between two engines on the same frames, in gray levels."""

    size: tuple[int, int]
    frames: int
    max_abs: int
    mean_abs: float
    psnr_db: float
    """Over all frames; infinite if they are equal."""
    passed: bool


def compare(size: tuple[int, int], pairs: Iterable[tuple[Image, Image]], precision: str) -> Agreement:
    """Measures the differences in pairs of equal-sized frames, and applies the tolerance of `precision`."""
    most, total, square, values, frames = 0, 0.0, 0.0, 0, 0
    for one, other in pairs:
        difference = np.abs(one.astype(np.int32) - other)
        most = max(most, int(difference.max()))
        total += float(difference.sum())
        square += float((difference.astype(np.float64) ** 2).sum())
        values += difference.size
        frames += 1
    psnr_db = decibels(square / values)
    levels, min_psnr = TOLERANCE.get(precision, TOLERANCE["mixed"])
    return Agreement(size, frames, most, total / values, psnr_db, most <= levels and psnr_db >= min_psnr)


def compare_engines(
    engine: Engine, other: Engine, frames: Sequence[Image], sizes: Sequence[tuple[int, int]] = SIZES
) -> list[Agreement]:
    """Compares two engines at each size (width, height) that both accept, with the tolerance of the lower precision.

    frames: real images of any size, cropped and resized. Raises ConfigError without any, or if the two are fixed to different
    sizes.
    """
    if not frames:
        raise ConfigError("no frame to compare the model on; expected at least one image")
    fixed = {one.size for one in (engine, other) if one.size is not None}
    if len(fixed) > 1:
        raise ConfigError("the two models are fixed to different sizes, so their outputs cannot be compared")
    coarser = max(engine.precision, other.precision, key=_tolerance_of)
    report = []
    for width, height in fixed or sizes:
        fitted = [center_crop_resize(frame, width, height) for frame in frames]
        report.append(compare((width, height), ((engine.run(frame), other.run(frame)) for frame in fitted), coarser))
    return report


def _tolerance_of(precision: str) -> tuple[int, float]:
    """Returns a key that orders precisions, the one with the larger tolerance last."""
    levels, min_psnr = TOLERANCE.get(precision, TOLERANCE["mixed"])
    return levels, -min_psnr


def count_nan(path: Path, frames: Sequence[Values], size: tuple[int, int] | None = None) -> int:
    """Counts NaN values before a cast to uint8 hides them, with ONNX Runtime on the CPU.

    frames: the model's inputs: images, or latents, (Z,) each. size: (width, height) to resize images to; None: their own.
    """
    model = onnx.load(str(path))
    hidden = sorted({node.input[0] for node in model.graph.node if node.op_type == "Cast" and _to_uint8(node)})
    if not hidden:
        return 0
    outputs = {*hidden}
    if size is None or size[0] * size[1] <= FP16_CHECK_PIXELS:
        outputs |= _fp16_values(model)
    outputs -= {"", *(port.name for port in model.graph.output)}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in sorted(outputs))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only, as in `OnnxRuntimeEngine`
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    input_name = session.get_inputs()[0].name
    fitted = frames if size is None else [center_crop_resize(frame, *size) for frame in frames]
    return sum(int(np.isnan(values).sum()) for frame in fitted for values in session.run(hidden, {input_name: frame[None]}))


def check_finite(path: Path, frames: Sequence[Values], sizes: Sequence[tuple[int, int] | None], precision: str) -> None:
    """Raises ModelError if the model's output has NaN. frames and sizes: as in `count_nan`.

    precision: the model's own, for the message.
    """
    for size in sizes:
        if nan := count_nan(path, frames, size):
            where = f" at {size[0]}x{size[1]}" if size else ""
            raise ModelError(f"its output has {nan} NaN values{where}, computed in {precision}, so it was not kept")


def _fp16_values(model: onnx.ModelProto) -> set[str]:
    """Names the fp16 values. On a CPU, ONNX Runtime computes them in fp32, which does not overflow, unless they are outputs."""
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    half = {value.name for value in inferred if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16}
    return {name for node in model.graph.node if half.intersection([*node.input, *node.output]) for name in node.output}


def _to_uint8(cast: onnx.NodeProto) -> bool:
    return any(setting.name == "to" and setting.i == onnx.TensorProto.UINT8 for setting in cast.attribute)


def default_precision(path: Path, spec: ModelSpec, frames: Sequence[Image]) -> tuple[ModelSpec, str | None]:
    """Returns the spec with the precision that `auto` should use, and a line to print or None.

    The line warns if the engine that `auto` chooses here fails, or if its precision costs more than the tolerance. path: the
    model, with that spec. Compares with ONNX Runtime at one size, and only if the engine computes in a lower precision than the
    model's.
    """
    try:
        with closing(open_engine(path)) as chosen, closing(open_engine(path, "onnxruntime", "cpu")) as exact:
            if chosen.precision == spec.precision:
                return spec, None  # no loss of precision, and no plan to build
            (agreement,) = compare_engines(chosen, exact, frames, [(256, 256)])
    except (EngineError, ModelError) as error:
        reason = str(error).replace(str(path), "it")
        return spec, f"the engine that --engine auto chooses here fails: {reason}; choose another one with --engine"
    if agreement.passed:
        return spec, None
    lost = (
        f"{chosen.name} computes it in {chosen.precision} here by default, which differs by {agreement.psnr_db:.1f} dB PSNR, "
        f"up to {agreement.max_abs} gray levels, from {exact.precision}"
    )
    if spec.precision == "mixed" and chosen.precision == "fp32":
        return spec, f"{lost}: --engine onnxruntime has the original's output"
    if chosen.precision != "bf16":
        return spec, f"{lost}: run it with --precision fp32"
    return dataclasses.replace(spec, auto_precision="fp32"), f"{lost}: the file says so, and --precision auto now means fp32"


def center_crop_resize(frame: Image, width: int, height: int) -> Image:
    """Cuts out the largest central part of the frame with this aspect ratio, and resizes it to width x height."""
    scale = max(width / frame.shape[1], height / frame.shape[0])
    crop_width, crop_height = min(frame.shape[1], round(width / scale)), min(frame.shape[0], round(height / scale))
    left, top = (frame.shape[1] - crop_width) // 2, (frame.shape[0] - crop_height) // 2
    part = frame[top : top + crop_height, left : left + crop_width]
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
