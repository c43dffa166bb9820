"""What an engine is, and how one is chosen."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cyclecast.errors import EngineError, ModelError
from cyclecast.future import Completed, Future
from cyclecast.spec import SMALLEST_FRAME, ModelSpec

Image = NDArray[np.uint8]
Compiled = TypeVar("Compiled")
OnBuild = Callable[[float], None]  # is given the share that is done, from 0 to 1

IN_FLIGHT = 2  # frames that an engine works on at a time: one is copied while the other is computed
SIZES_KEPT = 4  # compiled graphs an engine holds at once, one a frame size


class Engine(Protocol):
    """Opens a frame model in its constructor, specializes it to each frame size it meets, turns a frame into a frame, closes.

    The constructor takes (path, device, precision), each of the last two "auto" or a name, and raises EngineUnavailable
    if they are not on this machine, ModelError if the file is not a frame model. One engine serves one thread at a time.
    """

    name: str
    """As in `--engine`."""
    device: str
    """The device that computes, in words."""
    precision: str
    """Of the arithmetic: fp32, bf16, fp16."""
    size: tuple[int, int] | None
    """(width, height) that the model is fixed to, or None for any from 16x16 up."""
    metadata: str | None
    """The ModelSpec's JSON, if the file has one."""
    on_build: OnBuild | None
    """Told while the engine builds for a frame size, which may take minutes; what it raises ends the build. None at first."""

    def prepare(self, width: int, height: int) -> None:
        """Compiles for this frame size, which the first frame of the size would do otherwise."""
        ...

    def run(self, frame: Image) -> Image:
        """(H, W, 3) uint8 BGR -> a new (H, W, 3) uint8 BGR array. EngineError if the frame does not fit the model."""
        ...

    def submit(self, frame: Image) -> Future[Image]:
        """As `run`, without waiting for the picture; `IN_FLIGHT` frames at a time, a further one waits for the oldest.

        The frame must stay as it is until its picture is there. What computes in the caller's own thread does so at once.
        """
        ...

    def close(self) -> None:
        """Frees what the engine holds; running a frame afterwards is an error."""
        ...


class _Runs(Protocol):
    def run(self, frame: Image) -> Image: ...


class SynchronousEngine:
    """Of an engine that computes in the caller's own thread: `begin` has the picture when it returns, and no size takes long."""

    on_build: OnBuild | None = None

    def submit(self: _Runs, frame: Image) -> Future[Image]:
        """See `Engine`."""
        return Completed(self.run(frame))


class PerSizeCache(Generic[Compiled]):
    """What was built for each of the last `SIZES_KEPT` frame sizes; drop: frees one that is not needed any more."""

    def __init__(self, build: Callable[[int, int], Compiled], drop: Callable[[Compiled], None] | None = None) -> None:
        self._build, self._drop = build, drop
        self._built: OrderedDict[tuple[int, int], Compiled] = OrderedDict()
        self._closed = False

    def get(self, width: int, height: int) -> Compiled:
        """The one for this size, built if need be; the size unused for longest makes room."""
        if self._closed:
            raise EngineError("the engine is closed")
        key = (width, height)
        if key not in self._built:
            self._built[key] = self._build(width, height)
            if len(self._built) > SIZES_KEPT:
                self._release(self._built.popitem(last=False)[1])
        self._built.move_to_end(key)
        return self._built[key]

    def close(self) -> None:
        """Drops them all; `get` is an EngineError from now on."""
        while self._built:
            self._release(self._built.popitem()[1])
        self._closed = True

    def _release(self, built: Compiled) -> None:
        if self._drop is not None:
            self._drop(built)


def stated_kind(metadata: str | None) -> str:
    """frame or latent, by a model's own metadata; frame where they do not say."""
    try:
        return ModelSpec.from_json(metadata).kind if metadata else "frame"
    except (ValueError, TypeError):  # `Model` tells of it
        return "frame"


def stated_precision(metadata: str | None) -> str:
    """The precision that a model's own metadata asks for; fp32 where they do not say."""
    try:
        return ModelSpec.from_json(metadata).precision if metadata else "fp32"
    except (ValueError, TypeError):  # `Model` tells of it
        return "fp32"


Port = tuple[str, Sequence[int | None]]  # element type as the library names it, dimensions with None for any


def frame_size(path: Path, inputs: Sequence[Port], outputs: Sequence[Port]) -> tuple[int, int] | None:
    """The fixed (width, height) of a frame model, None if it takes any; ModelError if these ports are no frame model's."""
    wanted = "one uint8 input and one uint8 output of shape (1, H, W, 3)"
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(f"{path}: not a frame model: it has {len(inputs)} inputs and {len(outputs)} outputs; expected {wanted}")
    for role, (kind, shape) in (("input", inputs[0]), ("output", outputs[0])):
        fits = len(shape) == 4 and shape[0] in (1, None) and shape[3] in (3, None)
        if not fits or kind not in ("u8", "uint8", "tensor(uint8)"):
            dims = ", ".join("?" if d is None else str(d) for d in shape)
            raise ModelError(f"{path}: not a frame model: its {role} is {kind} ({dims}); expected {wanted}")
    _, height, width, _ = inputs[0][1]
    if (height is None) != (width is None):
        raise ModelError(
            f"{path}: fixed in one direction only ({width or 'any'}x{height or 'any'}); export it fixed in both, or free"
        )
    if height is None or width is None:
        return None
    if any(got not in (None, want) for got, want in zip(outputs[0][1][1:3], (height, width), strict=True)):
        raise ModelError(f"{path}: not a frame model: its output is not of its input's size")
    return width, height


def check_frame(frame: Image, size: tuple[int, int] | None) -> tuple[int, int]:
    """(width, height) of a frame that the model can take; EngineError otherwise."""
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise EngineError(f"a frame is (H, W, 3) uint8 BGR, got {frame.shape} {frame.dtype}")
    height, width = frame.shape[:2]
    check_size(width, height, size)
    return width, height


def check_styled(styled: Image, frame: Image) -> Image:
    """`styled`, if it is of the frame's size; EngineError otherwise."""
    check_shape(styled.shape, frame.shape)
    return styled


def check_shape(got: Sequence[int], wanted: Sequence[int]) -> None:
    """EngineError unless a picture's shape (H, W, 3) is that of its frame."""
    if tuple(got) != tuple(wanted):
        raise EngineError(f"not a frame model: it makes {got[1]}x{got[0]} of {wanted[1]}x{wanted[0]}")


def check_size(width: int, height: int, size: tuple[int, int] | None) -> None:
    """EngineError if a model of this fixed size (or of any, None) cannot take width x height."""
    if size is not None and (width, height) != size:
        raise EngineError(f"the model is fixed to {size[0]}x{size[1]}, got a frame of {width}x{height}")
    if min(width, height) < SMALLEST_FRAME:
        raise EngineError(f"frames start at {SMALLEST_FRAME}x{SMALLEST_FRAME}, got {width}x{height}")
