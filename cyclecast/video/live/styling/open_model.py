"""What the live run needs of a model, and a model at the height at which it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cyclecast.video.frame import FrameFunction, Image
from cyclecast.video.resize import style_frame, work_size


class OpenModel(FrameFunction, Protocol):
    """A frame function that has a name and can be closed."""

    @property
    def name(self) -> str: ...

    def close(self) -> None: ...


Opener = Callable[[str], OpenModel]
"""Opens a model by the name that the user typed; raises CyclecastError if it cannot."""


class BorrowedModel:
    """A model that somebody else opened and will close: `close` leaves it open."""

    def __init__(self, name: str, function: FrameFunction) -> None:
        self.name, self._function = name, function

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
        """Compiles the model for source frames of this size."""
        self.model.prepare(*work_size(width, height, self.target.height))

    def __call__(self, image: Image) -> Image:
        """(H, W, 3) uint8 BGR -> the styled frame, same shape."""
        return style_frame(image, self.model, self.target.height)
