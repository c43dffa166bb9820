"""Reads, checks and runs image-to-image ONNX models from elsewhere. Needs onnx and onnxruntime, not torch."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.external_data_helper import load_external_data_for_model

from cyclecast.errors import MissingModelError, ModelError
from cyclecast.export.file_types import describe_wrong_type
from cyclecast.runtime.engine import LATENT_MODEL, spec_from_metadata
from cyclecast.spec import METADATA_KEY

log = logging.getLogger(__name__)

Array = NDArray[Any]
Image = NDArray[np.uint8]

LAYOUTS = {"nchw": 1, "nhwc": 3}  # -> the axis of the channels
RANGES = {"0..255": (0.0, 255.0), "0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0)}  # -> black, white
DTYPES: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.UINT8: "uint8"}
COLORS = ("bgr", "rgb")
EXPECTED = "expected an image, (1, 3, H, W) or (1, H, W, 3)"


@dataclass(frozen=True)
class TensorSpec:
    """An input or output tensor, as the file declares it."""

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int | None, ...]
    """None for any size; empty if the file declares no shape."""

    def __str__(self) -> str:
        return f"({', '.join('?' if d is None else str(d) for d in self.dims)})"


@dataclass(frozen=True)
class ForeignModel:
    """A model with one input and one output, its weights in memory."""

    path: Path
    model: onnx.ModelProto
    input: TensorSpec
    output: TensorSpec

    @property
    def has_frames(self) -> bool:
        """Whether input and output are raw frames, in either color order."""
        return all(spec.dtype == np.uint8 and spec.dims and spec.dims[3] == 3 for spec in (self.input, self.output))

    @property
    def precision(self) -> str:
        """Precision of its convolutions' weights: fp32, fp16 or mixed."""
        dtypes = {tensor.name: tensor.data_type for tensor in self.model.graph.initializer}
        weights = [node.input[1] for node in self.model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
        half = {dtypes.get(name) == TensorProto.FLOAT16 for name in weights}
        return "mixed" if len(half) == 2 else "fp16" if half == {True} else "fp32"


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The format of a model's input and output images."""

    layout: str
    output_layout: str
    range: str
    output_range: str
    color: str
    size: tuple[int, int] | None
    """(width, height) that the model is fixed to; None: any."""
    multiple: int
    """Sides are padded to multiples of this many pixels."""

    def frame(self, y: Array, height: int, width: int) -> Array:
        """(1, 3, H', W') in the model's range and colors -> (H, W, 3) float32 BGR in [0, 255], cropped."""
        low, high = RANGES[self.output_range]
        y = (y[0, :, :height, :width].astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
        y = y[::-1] if self.color == "rgb" else y
        return y.clip(0, 255).transpose(1, 2, 0)


def to_input(frame: Array, range: str, color: str, multiple: int) -> Array:
    """(H, W, 3) BGR in [0, 255] -> (1, 3, H', W') float32 in the range and the colors, padded."""
    low, high = RANGES[range]
    image = frame[..., ::-1] if color == "rgb" else frame
    x = image.transpose(2, 0, 1)[None].astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
    return pad(x, multiple)


def resized(x: Array, width: int, height: int) -> Array:
    """(H', W', 3) float32 -> (height, width, 3): linear to a whole multiple of the size, then the mean of each cell."""
    rows, columns = max(x.shape[0] // height, 1), max(x.shape[1] // width, 1)
    whole = cv2.resize(np.ascontiguousarray(x), (columns * width, rows * height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(whole.reshape(height, rows, width, columns, 3).mean((1, 3)))


def pad(x: Array, multiple: int) -> Array:
    """Pads (N, C, H, W) on the right and below to multiples of `multiple`. See `pad_mode`."""
    right, below = (-side % multiple for side in (x.shape[3], x.shape[2]))
    return np.pad(x, ((0, 0), (0, 0), (0, below), (0, right)), pad_mode(multiple))  # type: ignore[call-overload, no-any-return]


def pad_mode(multiple: int) -> str:
    """The padding mode in the terms of numpy and ONNX. A reflection cannot be wider than a frame, which has 16 pixels or more."""
    return "reflect" if multiple <= 16 else "edge"


def read_foreign(path: Path) -> ForeignModel:
    """The model at `path`. ModelError, without the path, if it cannot be read, is ours, or has several inputs or outputs."""
    if not path.is_file():
        raise MissingModelError("no such model")
    if wrong := describe_wrong_type(path, "onnx"):
        raise ModelError(wrong)
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except Exception as error:  # protobuf's errors are not typed
        log.debug("onnx cannot read %s", path, exc_info=True)
        raise ModelError("cannot be read as an ONNX model") from error
    _reject_our_models(model)
    try:
        load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # onnx raises many types
        log.debug("onnx cannot read the weights of %s", path, exc_info=True)
        raise ModelError(f"its weights are in a separate file, which must be in the same folder ({error})") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in weights]
    outputs = list(model.graph.output)
    if not outputs:
        raise ModelError("cannot be read as an ONNX model")
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(f"it has {len(inputs)} inputs and {len(outputs)} outputs; expected one image in, one image out")
    return ForeignModel(path, model, _port(inputs[0], "input"), _port(outputs[0], "output"))


def _reject_our_models(model: onnx.ModelProto) -> None:
    text = {entry.key: entry.value for entry in model.metadata_props}.get(METADATA_KEY)
    if text is None:
        return
    if spec_from_metadata("this file", text).model_type == "latent":
        raise ModelError(LATENT_MODEL)
    raise ModelError("already a frame model: use it as it is")


def _port(value: onnx.ValueInfoProto, role: str) -> TensorSpec:
    tensor = value.type.tensor_type
    dims = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim)
    if tensor.elem_type not in DTYPES:
        found = TensorProto.DataType.Name(tensor.elem_type).lower() if tensor.elem_type else "no tensor"
        raise ModelError(f"its {role} is {found}; expected float32, float16 or uint8")
    port = TensorSpec(value.name, np.dtype(DTYPES[tensor.elem_type]), dims)
    if dims and (len(dims) != 4 or dims[0] not in (1, None)):
        raise ModelError(f"its {role} is {port}; {EXPECTED}")
    return port


class Original:
    """The unchanged file in ONNX Runtime: the reference for its frame model."""

    def __init__(self, foreign: ForeignModel, layout: str) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal only: errors come as exceptions, which become one line
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as in `OnnxRuntimeEngine`
        self.path, self.layout, self._dtype, self._name = foreign.path, layout, foreign.input.dtype, foreign.input.name
        try:
            self._session = onnxruntime.InferenceSession(str(foreign.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exception types are private and share no other base
            log.debug("onnxruntime cannot open %s", foreign.path, exc_info=True)
            raise ModelError(f"ONNX Runtime cannot open it: {_short_text(error)}") from error

    def __call__(self, x: Array) -> Array:
        """(1, 3, H, W) float -> the model's output, in its own layout and dtype; ModelError if it fails."""
        x = to_layout(x, "nchw", self.layout)
        x = np.rint(x).astype(np.uint8) if self._dtype == np.uint8 else x.astype(self._dtype)
        try:
            (y,) = self._session.run(None, {self._name: np.ascontiguousarray(x)})
        except Exception as error:  # as above
            log.debug("onnxruntime cannot run %s", self.path, exc_info=True)
            raise ModelError(f"ONNX Runtime cannot run it: {_short_text(error)}") from error
        return np.asarray(y)

    def style(self, frame: Image, convention: Convention) -> Image:
        """Styles a frame with pre- and postprocessing in numpy: (H, W, 3) uint8 BGR -> the same."""
        height, width = frame.shape[:2]
        x: Array = frame.astype(np.float32)
        if convention.size is not None:
            x = resized(x, *convention.size)
        y = to_layout(
            self(to_input(x, convention.range, convention.color, convention.multiple)), convention.output_layout, "nchw"
        )
        styled = convention.frame(y, *x.shape[:2])
        if convention.size is not None:
            styled = resized(styled, width, height)
        return np.asarray(np.rint(styled), np.uint8)


def to_layout(x: Array, layout: str, target: str) -> Array:
    """Converts an image from one layout to another."""
    if layout == target:
        return x
    return x.transpose(0, 3, 1, 2) if target == "nchw" else x.transpose(0, 2, 3, 1)


def _short_text(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:197] + "..."
