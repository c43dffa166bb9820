"""What the live run needs of a model, and a model at the height at which it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cyclecast.errors import EngineError
from cyclecast.video.frame import FrameFunction, Image
from cyclecast.video.resize import fit_size, style_frame, work_size

Size = tuple[int, int]  # (width, height)


class OpenModel(FrameFunction, Protocol):
    """A frame function that has a name and can be closed."""

    @property
    def name(self) -> str: ...

    def close(self) -> None: ...


Opener = Callable[[str], OpenModel]
"""Opens a model by the name that the user typed; raises CyclecastError if it cannot."""


def frame_sizes_of(model: FrameFunction) -> tuple[Size, Size] | None:
    """Returns the smallest and the largest (width, height) that the model accepts; None for any size from 16x16 up."""
    sizes: tuple[Size, Size] | None = getattr(model, "frame_sizes", None)
    return sizes


class BorrowedModel:
    """A model that somebody else opened and will close: `close` leaves it open."""

    def __init__(self, name: str, function: FrameFunction) -> None:
        self.name, self._function = name, function
        self.frame_sizes = frame_sizes_of(function)

    @property
    def identity(self) -> str | None:
        """The function's identity."""
        return self._function.identity

    def __call__(self, frame: Image) -> Image:
        return self._function(frame)

    def prepare(self, width: int, height: int) -> None:
        """As the function's `prepare`."""
        self._function.prepare(width, height)

    def close(self) -> None:
        """Does nothing: the owner closes the model."""


@dataclass(frozen=True)
class Target:
    """A model by its name, and how it processes frames. Equal targets need no other model: the strength is not compared."""

    name: str
    height: int | None
    """Pixels, at most; None: the height of the source."""
    strength: float = field(default=1.0, compare=False)
    """Share of the styled frame in the output, from 0 to 1."""


@dataclass(frozen=True)
class ActiveModel:
    """An open model with its processing height."""

    target: Target
    model: OpenModel

    def prepare(self, width: int, height: int) -> None:
        """Compiles the model for source frames of this size. Raises EngineError if it cannot run at the target's height."""
        size, sizes, asked = work_size(width, height, self.target.height), frame_sizes_of(self.model), self.target.height
        if sizes is not None and asked is not None and not sizes[0][1] <= asked <= sizes[1][1]:
            raise EngineError(f"the model takes frames of {_range_text(*sizes)}; it cannot run at height {asked}")
        self.model.prepare(*(size if sizes is None else fit_size(size, *sizes).frame))

    def __call__(self, image: Image) -> Image:
        """Styles a (H, W, 3) uint8 BGR frame; same shape. For a model of a fixed size, scales it and keeps its aspect ratio."""
        sizes, height, width = frame_sizes_of(self.model), *image.shape[:2]
        if sizes is None:
            return style_frame(image, self.model, self.target.height)
        fit = fit_size(work_size(width, height, self.target.height), *sizes)
        if fit.frame == (width, height):
            return self.model(image)
        return fit.cut_out(self.model(fit.place(image)), (width, height))


def _range_text(smallest: Size, largest: Size) -> str:
    first, last = (f"{width}x{height}" for width, height in (smallest, largest))
    return first if first == last else f"{first} to {last}"
