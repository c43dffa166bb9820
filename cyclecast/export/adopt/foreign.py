"""Describes an image-to-image model of another project, and converts frames to and from its format."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from cyclecast.export.gray import GRAY_WEIGHTS

Array = NDArray[Any]
Image = NDArray[np.uint8]

LAYOUTS = {"nchw": 1, "nhwc": 3}  # -> the axis of the channels
CHANNELS = (3, 1)  # of an image: color, gray
RANGES = ("0..255", "0..1", "-1..1", "imagenet")
COLORS = ("bgr", "rgb")
EXPECTED = "expected an image, (1, 3, H, W) or (1, H, W, 3), or a gray one with 1 channel"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green, blue in [0, 1]


@dataclass(frozen=True)
class ValueRange:
    """The values of black and of white in a model's input or output."""

    name: str
    black: tuple[float, float, float]
    """One value for each channel, in the order of the model's colors."""
    white: tuple[float, float, float]

    def ends(self, channels: int) -> tuple[Array, Array]:
        """Returns black and white for this number of channels, (channels,) each; a gray one has the mean of three."""
        values = [np.array(end, np.float64) for end in (self.black, self.white)]
        black, white = (value if channels == 3 else value.mean(keepdims=True) for value in values)
        return black, white


def value_range(name: str, color: str) -> ValueRange:
    """Returns the range of this name, one of `RANGES`. color: the order of the model's channels."""
    if name == "imagenet":
        return normalized_range(name, IMAGENET_MEAN[:: 1 if color == "rgb" else -1], IMAGENET_STD[:: 1 if color == "rgb" else -1])
    low, high = {"0..255": (0.0, 255.0), "0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0)}[name]
    return ValueRange(name, (low, low, low), (high, high, high))


def normalized_range(name: str, mean: tuple[float, ...], std: tuple[float, ...]) -> ValueRange:
    """Returns the range of (x - mean) / std, with x in [0, 1], or in [0, 255] if a mean or a std is greater than 1."""
    white = 255.0 if max(*mean, *std) > 1 else 1.0
    black_of_channels, white_of_channels = (
        tuple((level - m) / s for m, s in zip(mean, std, strict=True)) for level in (0.0, white)
    )
    return ValueRange(name, black_of_channels, white_of_channels)  # type: ignore[arg-type]  # three values each


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
    """A model that is reduced to one input and one output, with its weights in memory."""

    path: Path
    model: onnx.ModelProto
    """The file's graph, reduced to that input and output, in standard operators of opset 18 or later."""
    input: TensorSpec
    output: TensorSpec
    constants: dict[str, Array] = field(default_factory=dict)
    """Values of its other inputs."""

    @property
    def has_frames(self) -> bool:
        """Whether input and output are raw frames, in either color order."""
        return all(spec.dtype == np.uint8 and spec.dims and spec.dims[3] == 3 for spec in (self.input, self.output))

    @property
    def is_quantized(self) -> bool:
        """Whether it computes in integers; engines then round differently."""
        return any("Quantize" in node.op_type or "Integer" in node.op_type for node in self.model.graph.node)

    @property
    def precision(self) -> str:
        """Precision of its convolutions' weights: fp32, fp16, or mixed (also if it computes in integers)."""
        if self.is_quantized:
            return "mixed"
        dtypes = {tensor.name: tensor.data_type for tensor in self.model.graph.initializer}
        weights = [node.input[1] for node in self.model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
        half = {dtypes.get(name) == TensorProto.FLOAT16 for name in weights}
        return "mixed" if len(half) == 2 else "fp16" if half == {True} else "fp32"


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The format of a model's input and output images."""

    layout: str
    output_layout: str
    range: ValueRange
    output_range: ValueRange
    color: str
    channels: int = 3
    output_channels: int = 3
    gray: str = "luma"
    """How a frame is converted for a gray input: a key of `GRAY_WEIGHTS`."""
    size: tuple[int, int] | None
    """The fixed (width, height) of the model; None: any size."""
    multiple: int
    """Sides are padded to multiples of this many pixels."""

    def to_input(self, frame: Array) -> Array:
        """Converts (H, W, 3) BGR in [0, 255] to (1, C, H', W') float32 in the model's range and colors, padded."""
        if self.channels == 1:
            x = (frame @ np.array(GRAY_WEIGHTS[self.gray], np.float32))[None, None]
        else:
            x = (frame[..., ::-1] if self.color == "rgb" else frame).transpose(2, 0, 1)[None]
        black, white = (end[:, None, None] for end in self.range.ends(self.channels))
        return pad(x.astype(np.float32) * ((white - black) / 255).astype(np.float32) + black.astype(np.float32), self.multiple)

    def to_frame(self, y: Array, height: int, width: int) -> Array:
        """Converts (1, C, H', W') in the model's range and colors to (H, W, 3) float32 BGR in [0, 255], cropped."""
        black, white = (end[:, None, None] for end in self.output_range.ends(self.output_channels))
        y = (y[0, :, :height, :width].astype(np.float32) - black.astype(np.float32)) * (255 / (white - black)).astype(np.float32)
        y = y[::-1] if self.color == "rgb" else y
        return y.clip(0, 255).transpose(1, 2, 0).repeat(3 // self.output_channels, 2)


def letterbox_size(width: int, height: int, size: tuple[int, int]) -> tuple[int, int]:
    """Returns the largest (width, height) with the frame's aspect ratio that fits into `size`."""
    return (
        min(size[0], max(1, (width * size[1] + height // 2) // height)),
        min(size[1], max(1, (height * size[0] + width // 2) // width)),
    )


def letterbox(x: Array, size: tuple[int, int]) -> Array:
    """Scales (H, W, 3) float32 into `size` (width, height), and fills the rest with mirror images on the right and below."""
    width, height = letterbox_size(x.shape[1], x.shape[0], size)
    return np.pad(resize(x, width, height), ((0, size[1] - height), (0, size[0] - width), (0, 0)), "symmetric")


def resize(x: Array, width: int, height: int) -> Array:
    """Resizes (H, W, 3) float32 to (height, width, 3): linearly to a whole multiple of that, then by the mean of each cell."""
    rows, columns = max(x.shape[0] // height, 1), max(x.shape[1] // width, 1)
    whole = cv2.resize(np.ascontiguousarray(x), (columns * width, rows * height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(whole.reshape(height, rows, width, columns, 3).mean((1, 3)))


def pad(x: Array, multiple: int) -> Array:
    """Pads (N, C, H, W) on the right and below to multiples of `multiple`. See `pad_mode`."""
    right, below = (-side % multiple for side in (x.shape[3], x.shape[2]))
    return np.pad(x, ((0, 0), (0, 0), (0, below), (0, right)), pad_mode(multiple))  # type: ignore[call-overload, no-any-return]


def pad_mode(multiple: int) -> str:
    """Returns the padding mode, as numpy and ONNX name it. A frame of 16 pixels cannot be reflected for larger multiples."""
    return "reflect" if multiple <= 16 else "edge"


def to_layout(x: Array, layout: str, target: str) -> Array:
    """Converts an image from one layout to another."""
    if layout == target:
        return x
    return x.transpose(0, 3, 1, 2) if target == "nchw" else x.transpose(0, 2, 3, 1)
