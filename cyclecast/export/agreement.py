"""Two ways to compute the same frames: numbers, a tolerance, a verdict. Without torch; needs onnx and onnxruntime."""

from __future__ import annotations

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
from cyclecast.runtime.engine import Engine, Image, spec_from_metadata
from cyclecast.runtime.engines import open_engine

Values = NDArray[Any]  # an image, or a latent

IN_HALF = 256 * 256  # pixels up to which NaN are looked for in true fp16: all that is made stays in memory, 1.2 GiB of a ResNet-9
SIZES = ((131, 97), (256, 256), (640, 360))  # (width, height): odd, square, wide
# Most gray levels off, least PSNR in dB; mixed: convolutions of two kinds, in somebody else's model.
TOLERANCE = {"fp32": (1, 0.0), "bf16": (255, 45.0), "fp16": (255, 45.0), "mixed": (255, 45.0)}


@dataclass(frozen=True)
class Agreement:
    """How far two ways to compute the same frames are apart, in gray levels."""

    size: tuple[int, int]
    frames: int
    max_abs: int
    mean_abs: float
    psnr_db: float
    """Over all frames; infinite where they are equal."""
    passed: bool


def compare(size: tuple[int, int], pairs: Iterable[tuple[Image, Image]], precision: str) -> Agreement:
    """Measures pairs of equal-sized frames against the tolerance of `precision`."""
    most, total, square, values, frames = 0, 0.0, 0.0, 0, 0
    for one, other in pairs:
        difference = np.abs(one.astype(np.int32) - other)
        most = max(most, int(difference.max()))
        total += float(difference.sum())
        square += float((difference.astype(np.float64) ** 2).sum())
        values += difference.size
        frames += 1
    psnr_db = decibels(square / values)
    levels, least = TOLERANCE[precision]
    return Agreement(size, frames, most, total / values, psnr_db, most <= levels and psnr_db >= least)


def compare_engines(
    engine: Engine, other: Engine, frames: Sequence[Image], sizes: Sequence[tuple[int, int]] = SIZES
) -> list[Agreement]:
    """One engine's frames against another's, at each size (width, height) that both take, by the coarser one's tolerance.

    frames: real images, as `center_crop_resize` takes them. ConfigError without any, or if the two are fixed to different sizes.
    """
    if not frames:
        raise ConfigError("no frame to compare the model on: give real ones")
    fixed = {one.size for one in (engine, other) if one.size is not None}
    if len(fixed) > 1:
        raise ConfigError("the two models are fixed to different sizes: they make no frames that could be compared")
    coarser = max(engine.precision, other.precision, key=lambda precision: TOLERANCE[precision][0])
    report = []
    for width, height in fixed or sizes:
        fitted = [center_crop_resize(frame, width, height) for frame in frames]
        report.append(compare((width, height), ((engine.run(frame), other.run(frame)) for frame in fitted), coarser))
    return report


def count_nan(path: Path, frames: Sequence[Values], size: tuple[int, int] | None = None) -> int:
    """Values that are no numbers, before a cast to uint8 hides them; computed by ONNX Runtime on the CPU.

    frames: what the model takes: images, or of a latent model its latents, (Z,) each. size: (width, height) that images are
    fitted to; None: their own.
    """
    model = onnx.load(str(path))
    hidden = sorted({node.input[0] for node in model.graph.node if node.op_type == "Cast" and _to_uint8(node)})
    if not hidden:
        return 0
    asked = {*hidden}
    if size is None or size[0] * size[1] <= IN_HALF:
        asked |= _made_in_half(model)
    asked -= {"", *(port.name for port in model.graph.output)}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in sorted(asked))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    takes = session.get_inputs()[0].name
    fitted = frames if size is None else [center_crop_resize(frame, *size) for frame in frames]
    return sum(int(np.isnan(values).sum()) for frame in fitted for values in session.run(hidden, {takes: frame[None]}))


def check_finite(path: Path, frames: Sequence[Values], sizes: Sequence[tuple[int, int] | None], precision: str) -> None:
    """ModelError if the model's pictures hold values that are no numbers; frames and sizes as `count_nan` takes them.

    precision: the model's own, which the message names.
    """
    for size in sizes:
        if nan := count_nan(path, frames, size):
            where = f" at {size[0]}x{size[1]}" if size else ""
            raise ModelError(f"not kept: its pictures have {nan} values that are no numbers{where}, computed in {precision}")


def _made_in_half(model: onnx.ModelProto) -> set[str]:
    """What is made of fp16: ONNX Runtime on a CPU computes it in fp32, where nothing overflows, unless it has to hand it out."""
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    half = {value.name for value in inferred if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16}
    return {name for node in model.graph.node if half.intersection([*node.input, *node.output]) for name in node.output}


def _to_uint8(cast: onnx.NodeProto) -> bool:
    return any(setting.name == "to" and setting.i == onnx.TensorProto.UINT8 for setting in cast.attribute)


def warning_of_auto(path: Path, frames: Sequence[Image]) -> str | None:
    """What people should know of the engine that `auto` takes here: that it fails, or costs more than the tolerance; or None.

    Said only of an engine that computes the model in less than the model's own precision; at one size, against ONNX Runtime.
    """
    try:
        with closing(open_engine(path)) as quick, closing(open_engine(path, "onnxruntime", "cpu")) as exact:
            if quick.precision == spec_from_metadata(path, quick.metadata).precision:
                return None  # nothing of its own to tell, and no plan to be built for it
            (agreement,) = compare_engines(quick, exact, frames, [(256, 256)])
    except EngineError as error:
        return f"the engine that is taken here by itself fails: {error}; name another one with --engine"
    if agreement.passed:
        return None
    return (
        f"{quick.name} computes it in {quick.precision} here unless told otherwise, and is {agreement.psnr_db:.1f} dB, "
        f"{agreement.max_abs} gray levels at most, from {exact.precision}: run it with --precision fp32"
    )


def center_crop_resize(frame: Image, width: int, height: int) -> Image:
    """The largest middle part of the frame with this shape, resized to width x height."""
    scale = max(width / frame.shape[1], height / frame.shape[0])
    crop_width, crop_height = min(frame.shape[1], round(width / scale)), min(frame.shape[0], round(height / scale))
    left, top = (frame.shape[1] - crop_width) // 2, (frame.shape[0] - crop_height) // 2
    part = frame[top : top + crop_height, left : left + crop_width]
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
