"""Somebody's ONNX model of pictures: read, refused with a reason, and run as it stands. Needs onnx and onnxruntime, not torch."""

from __future__ import annotations

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
from cyclecast.runtime.engine import spec_from_metadata
from cyclecast.spec import METADATA_KEY

Array = NDArray[Any]
Image = NDArray[np.uint8]

LAYOUTS = {"nchw": 1, "nhwc": 3}  # -> the axis of the channels
RANGES = {"0..255": (0.0, 255.0), "0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0)}  # -> black, white
KINDS: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.UINT8: "uint8"}
COLORS = ("bgr", "rgb")
EXPECTED = "expected a picture, (1, 3, H, W) or (1, H, W, 3)"


@dataclass(frozen=True)
class Port:
    """An input or an output, as the file declares it."""

    name: str
    kind: np.dtype[Any]
    dims: tuple[int | None, ...]
    """None for any; no dimensions at all where the file does not say."""

    def __str__(self) -> str:
        return f"({', '.join('?' if d is None else str(d) for d in self.dims)})"


@dataclass(frozen=True)
class Foreign:
    """A model with one input and one output, its weights in memory."""

    path: Path
    model: onnx.ModelProto
    takes: Port
    gives: Port

    @property
    def frames(self) -> bool:
        """Whether it takes and gives raw frames, but for the order of their colors."""
        return all(port.kind == np.uint8 and port.dims and port.dims[3] == 3 for port in (self.takes, self.gives))

    @property
    def precision(self) -> str:
        """Of its convolutions, by their weights: fp32, fp16 or mixed."""
        kinds = {tensor.name: tensor.data_type for tensor in self.model.graph.initializer}
        weights = [node.input[1] for node in self.model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
        half = {kinds.get(name) == TensorProto.FLOAT16 for name in weights}
        return "mixed" if len(half) == 2 else "fp16" if half == {True} else "fp32"


@dataclass(frozen=True, kw_only=True)
class Convention:
    """How a model wants its pictures and how it gives them back."""

    layout: str
    gives_layout: str
    range: str
    gives_range: str
    color: str
    size: tuple[int, int] | None
    """(width, height) that it is fixed to."""
    multiple: int
    """Sides are padded to multiples of this."""

    def frame(self, y: Array, height: int, width: int) -> Array:
        """(1, 3, H', W') in the model's range and colors -> (H, W, 3) float32 BGR in [0, 255], cropped."""
        low, high = RANGES[self.gives_range]
        y = (y[0, :, :height, :width].astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
        y = y[::-1] if self.color == "rgb" else y
        return y.clip(0, 255).transpose(1, 2, 0)


def fed(frame: Array, range: str, color: str, multiple: int) -> Array:
    """(H, W, 3) BGR in [0, 255] -> (1, 3, H', W') float32 in the range and the colors, padded."""
    low, high = RANGES[range]
    picture = frame[..., ::-1] if color == "rgb" else frame
    x = picture.transpose(2, 0, 1)[None].astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
    return pad(x, multiple)


def resized(x: Array, width: int, height: int) -> Array:
    """(H', W', 3) float32 -> (height, width, 3): linear, to the next smaller whole multiple, of which the mean is taken."""
    rows, columns = max(x.shape[0] // height, 1), max(x.shape[1] // width, 1)
    whole = cv2.resize(np.ascontiguousarray(x), (columns * width, rows * height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(whole.reshape(height, rows, width, columns, 3).mean((1, 3)))


def pad(x: Array, multiple: int) -> Array:
    """(N, C, H, W) -> sides up to multiples, right and below: mirrored, or, past a mirror's reach, repeated."""
    right, below = (-side % multiple for side in (x.shape[3], x.shape[2]))
    return np.pad(x, ((0, 0), (0, 0), (0, below), (0, right)), pad_mode(multiple))  # type: ignore[call-overload, no-any-return]


def pad_mode(multiple: int) -> str:
    """As numpy and ONNX call it: a frame is 16 pixels wide at the least, which is how far it can be mirrored."""
    return "reflect" if multiple <= 16 else "edge"


def read_foreign(path: Path) -> Foreign:
    """The model at `path`; ModelError, without the path, if it is none, is one of ours, or has not one input and one output."""
    if not path.is_file():
        raise MissingModelError("no such model")
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except Exception as error:  # protobuf's, which has no types
        raise ModelError("cannot be read as an ONNX model") from error
    _refuse_ours(model)
    try:
        load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # onnx's, one kind for each way that it can fail
        raise ModelError(f"its weights lie in a file of their own, which must stand beside it ({error})") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in weights]
    outputs = list(model.graph.output)
    if not outputs:
        raise ModelError("cannot be read as an ONNX model")
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(f"it has {len(inputs)} inputs and {len(outputs)} outputs; expected one picture in, one out")
    return Foreign(path, model, _port(inputs[0], "input"), _port(outputs[0], "output"))


def _refuse_ours(model: onnx.ModelProto) -> None:
    text = {entry.key: entry.value for entry in model.metadata_props}.get(METADATA_KEY)
    if text is None:
        return
    if spec_from_metadata("it", text).model_type == "latent":
        raise ModelError("a latent model: it makes pictures of noise and has no frame to take")
    raise ModelError("a frame model already: use it as it is")


def _port(value: onnx.ValueInfoProto, role: str) -> Port:
    kind = value.type.tensor_type
    dims = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim)
    if kind.elem_type not in KINDS:
        found = TensorProto.DataType.Name(kind.elem_type).lower() if kind.elem_type else "no tensor"
        raise ModelError(f"its {role} is {found}; expected float32, float16 or uint8")
    port = Port(value.name, np.dtype(KINDS[kind.elem_type]), dims)
    if dims and (len(dims) != 4 or dims[0] not in (1, None)):
        raise ModelError(f"its {role} is {port}; {EXPECTED}")
    return port


class Original:
    """The foreign file in ONNX Runtime, untouched: the truth that its frame model is held against."""

    def __init__(self, foreign: Foreign, layout: str) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # its complaints come as errors, which are told in one line
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as in `OnnxRuntimeEngine`
        self.path, self.layout, self._kind, self._name = foreign.path, layout, foreign.takes.kind, foreign.takes.name
        try:
            self._session = onnxruntime.InferenceSession(str(foreign.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exception types are private and share no other base
            raise ModelError(f"ONNX Runtime cannot open it: {_reason(error)}") from error

    def __call__(self, x: Array) -> Array:
        """(1, 3, H, W) float -> what the model makes of it, in its own layout and kind; ModelError if it fails."""
        x = turned(x, "nchw", self.layout)
        x = np.rint(x).astype(np.uint8) if self._kind == np.uint8 else x.astype(self._kind)
        try:
            (y,) = self._session.run(None, {self._name: np.ascontiguousarray(x)})
        except Exception as error:  # as above
            raise ModelError(f"ONNX Runtime cannot run it: {_reason(error)}") from error
        return np.asarray(y)

    def style(self, frame: Image, convention: Convention) -> Image:
        """(H, W, 3) uint8 BGR -> the same, prepared and finished by numpy."""
        height, width = frame.shape[:2]
        x: Array = frame.astype(np.float32)
        if convention.size is not None:
            x = resized(x, *convention.size)
        y = turned(self(fed(x, convention.range, convention.color, convention.multiple)), convention.gives_layout, "nchw")
        styled = convention.frame(y, *x.shape[:2])
        if convention.size is not None:
            styled = resized(styled, width, height)
        return np.asarray(np.rint(styled), np.uint8)


def turned(x: Array, layout: str, wanted: str) -> Array:
    """A picture in one layout -> in another."""
    if layout == wanted:
        return x
    return x.transpose(0, 3, 1, 2) if wanted == "nchw" else x.transpose(0, 2, 3, 1)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:197] + "..."
