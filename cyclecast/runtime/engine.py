"""The engine protocol, and the checks that all engines share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cyclecast.errors import EngineError, EngineUnavailable, ModelError
from cyclecast.future import Completed, Future
from cyclecast.runtime.threads import ThreadsRefused
from cyclecast.spec import SMALLEST_FRAME, ModelSpec

Image = NDArray[np.uint8]
Compiled = TypeVar("Compiled")
OnBuild = Callable[[float], None]  # called with the finished share of a build, from 0 to 1

IN_FLIGHT = 2  # frames an engine works on at a time: it copies one while it computes the other
SIZES_KEPT = 4  # compiled graphs that an engine keeps, one for each frame size
EXPECTED_MODEL = "one uint8 input and one uint8 output of shape (1, H, W, 3)"
LATENT_MODEL = (
    "a latent model (noise in, images out); other programs, such as ONNX Runtime or Triton, run it to generate images; "
    "cyclecast runs frame models"
)


class UnreadableModel(ModelError):
    """The library of an engine cannot read a file; that of another engine may."""


class DeviceFailed(EngineUnavailable):
    """A device that the library of an engine lists but that does not start."""


class Engine(Protocol):
    """Runs a frame model: opens it, compiles it for each frame size that it meets, turns frames into frames, and closes.

    The constructor takes (path, device, precision). The device is a name, as in `--device`; `open_engine` chooses it for "auto".
    The precision is "auto" or a name. It raises EngineUnavailable if this machine lacks them, and ModelError if the file is not a
    frame model. Use one engine from one thread at a time.
    """

    name: str
    """The engine's name, as in `--engine`."""
    device: str
    """The device that computes, for people."""
    precision: str
    """Precision of the arithmetic: int8, fp32, bf16 or fp16."""
    size: tuple[int, int] | None
    """(width, height) that the model is fixed to; None: any size from 16x16 up."""
    metadata: str | None
    """The ModelSpec's JSON, if the file has one."""
    on_build: OnBuild | None
    """Called while the engine builds for a frame size, which may take minutes; an exception from it ends the build. None
    after construction."""

    def limit_threads(self, threads: int) -> None:
        """Computes with this many CPU threads, instead of as many as the engine chooses. Call it before the first frame.

        Raises ConfigError if the engine does not compute on the CPU.
        """
        ...

    def prepare(self, width: int, height: int) -> None:
        """Compiles for this frame size now, instead of at the first frame of this size."""
        ...

    def run(self, frame: Image) -> Image:
        """Styles a frame: (H, W, 3) uint8 BGR -> a new array of the same shape.

        The frame may be read-only or any view. Raises EngineError if it does not fit the model.
        """
        ...

    def submit(self, frame: Image) -> Future[Image]:
        """Starts `run` without waiting for the result. `IN_FLIGHT` frames run at a time; one more waits for the oldest.

        Do not change the frame until its result is there. An engine that computes in the caller's thread returns a completed
        future.
        """
        ...

    def close(self) -> None:
        """Frees the engine's resources. `run` raises EngineError afterwards."""
        ...


class _HasRun(Protocol):
    def run(self, frame: Image) -> Image: ...


class _HasDevice(Protocol):
    name: str
    device: str


class SynchronousEngine:
    """Mixin for an engine that computes in the caller's thread and compiles quickly."""

    on_build: OnBuild | None = None

    def limit_threads(self: _HasDevice, threads: int) -> None:
        """See `Engine`. This one refuses; an engine that computes on the CPU overrides it."""
        raise ThreadsRefused(self.name, self.device)

    def submit(self: _HasRun, frame: Image) -> Future[Image]:
        """See `Engine`."""
        return Completed(self.run(frame))


class PerSizeCache(Generic[Compiled]):
    """Compiled graphs of the last `SIZES_KEPT` frame sizes. release: frees a graph that leaves the cache."""

    def __init__(self, build: Callable[[int, int], Compiled], release: Callable[[Compiled], None] | None = None) -> None:
        self._build, self._release = build, release
        self._graphs: OrderedDict[tuple[int, int], Compiled] = OrderedDict()
        self._closed = False

    def get(self, width: int, height: int) -> Compiled:
        """Returns the graph for this size, and builds it if necessary; the least recently used size makes room."""
        if self._closed:
            raise EngineError("the engine is closed")
        key = (width, height)
        if key not in self._graphs:
            self._graphs[key] = self._build(width, height)
            if len(self._graphs) > SIZES_KEPT:
                self._free(self._graphs.popitem(last=False)[1])
        self._graphs.move_to_end(key)
        return self._graphs[key]

    def close(self) -> None:
        """Frees all graphs. `get` raises EngineError afterwards."""
        while self._graphs:
            self._free(self._graphs.popitem()[1])
        self._closed = True

    def _free(self, graph: Compiled) -> None:
        if self._release is not None:
            self._release(graph)


def spec_from_metadata(model: str | Path, metadata: str | None) -> ModelSpec:
    """Returns the ModelSpec in a model's metadata, or the default one if there are none. model: the name in the error.

    Raises ModelError if the metadata cannot be read.
    """
    if not metadata:
        return ModelSpec()
    try:
        return ModelSpec.from_json(metadata)
    except ValueError as error:
        raise ModelError(
            f"{model}: its cyclecast metadata cannot be read ({error}); export it again, or update cyclecast"
        ) from error


def frame_spec(model: str | Path, metadata: str | None) -> ModelSpec:
    """Reads the metadata as `spec_from_metadata` does, but raises ModelError for a latent model, too."""
    spec = spec_from_metadata(model, metadata)
    if spec.model_type == "latent":
        raise ModelError(f"{model}: {LATENT_MODEL}")
    return spec


def check_precision(engine: str, own: str, requested: str) -> None:
    """Raises EngineUnavailable unless `requested` is "auto" or the precision that the file itself has, with what to type."""
    if requested in ("auto", own):
        return
    remedies = {"int8": "`cyclecast quantize` writes it in int8", "bf16": "openvino computes bf16 on CPUs that have it"}
    remedy = remedies.get(requested, f"export it in {requested}")
    raise EngineUnavailable(f"{engine} computes this model in {own}, not in {requested}; {remedy}")


TensorSpec = tuple[str, Sequence[int | None]]  # dtype as the library names it; dimensions, None for any


def frame_size(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> tuple[int, int] | None:
    """Returns the fixed (width, height) of a frame model, or None if it accepts any. Raises ModelError for other models."""
    rejected = f"{path}: not a model cyclecast can run"
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"{rejected}: it has {len(inputs)} inputs and {len(outputs)} outputs (expected {EXPECTED_MODEL}); {_adopt(path)}"
        )
    for role, (dtype, shape) in (("input", inputs[0]), ("output", outputs[0])):
        fits = len(shape) == 4 and shape[0] in (1, None) and shape[3] in (3, None)
        if not fits or dtype not in ("u8", "uint8", "tensor(uint8)"):
            dims = ", ".join("?" if d is None else str(d) for d in shape)
            raise ModelError(f"{rejected}: its {role} is {dtype} ({dims}) (expected {EXPECTED_MODEL}); {_adopt(path)}")
    _, height, width, _ = inputs[0][1]
    if (height is None) != (width is None):
        fixed = f"{width or 'any'}x{height or 'any'}"
        raise ModelError(f"{rejected}: only one side of its frame size is fixed ({fixed}; expected both or neither)")
    if height is None or width is None:
        return None
    if any(got not in (None, want) for got, want in zip(outputs[0][1][1:3], (height, width), strict=True)):
        raise ModelError(f"{rejected}: its output differs in size from its input (expected the same size)")
    return width, height


def _adopt(path: Path) -> str:
    return f"`cyclecast adopt {path} -o NEW.onnx` converts image-to-image models"


def check_frame(frame: Image, size: tuple[int, int] | None) -> tuple[int, int]:
    """Returns the frame's (width, height). Raises EngineError if a model of this fixed size (None: any) cannot take it."""
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise EngineError(f"expected a frame of shape (H, W, 3) uint8 BGR, got {frame.shape} {frame.dtype}")
    height, width = frame.shape[:2]
    check_size(width, height, size)
    return width, height


def dense(frame: Image) -> Image:
    """Returns the frame as a writable, C-contiguous array, which libraries take without a copy; itself if it is one already.

    Frames may be read-only (`np.frombuffer`, a Pillow image), mirrored or broadcast views, or in Fortran order.
    """
    return np.require(frame, np.uint8, ["C_CONTIGUOUS", "WRITEABLE", "ENSUREARRAY"])


def check_shape(got: Sequence[int], expected: Sequence[int]) -> None:
    """Raises EngineError unless an output's shape (H, W, 3) equals its frame's."""
    if tuple(got) != tuple(expected):
        sizes = f"{got[1]}x{got[0]} for an input of {expected[1]}x{expected[0]}"
        raise EngineError(f"not a frame model: its output is {sizes} (expected the same size)")


def check_size(width: int, height: int, size: tuple[int, int] | None) -> None:
    """Raises EngineError if a model of this fixed size (None: any) cannot take width x height."""
    if size is not None and (width, height) != size:
        raise EngineError(f"the model is fixed to {size[0]}x{size[1]}, got a frame of {width}x{height}")
    if min(width, height) < SMALLEST_FRAME:
        raise EngineError(f"frames start at {SMALLEST_FRAME}x{SMALLEST_FRAME}, got {width}x{height}")
