"""What flows through this room: frames with their own time, and what a stream says of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cyclecast.future import Future

Image = NDArray[np.uint8]  # (H, W, 3) BGR


@dataclass(frozen=True)
class Color:
    """How YUV becomes light: code points of ITU-T H.273, as the stream carries them (2: unspecified; range 0: unspecified)."""

    matrix: int = 2
    range: int = 0
    primaries: int = 2
    transfer: int = 2


@dataclass(frozen=True)
class StreamInfo:
    """What is the same for every frame of a video stream; sizes as displayed, that is after rotation."""

    width: int
    height: int
    rate: Fraction
    """Frames per second on average; each frame's own time is what counts."""
    time_base: Fraction
    """Seconds in one tick of a frame's pts."""
    frames: int | None
    """How many there should be, for a progress bar; None where nobody knows."""
    color: Color
    pixel_aspect: Fraction
    """Width of a pixel over its height."""
    start: Fraction = Fraction(0)
    """Seconds taken off every time: for sources whose clock does not begin near 0, such as recordings of broadcasts."""


@dataclass(frozen=True)
class Frame:
    """One picture and its time."""

    image: Image
    pts: int
    """When it is shown, in ticks of the stream's time base."""
    duration: int
    """For how long, in ticks; 0 where the stream does not say."""


class FrameFunction(Protocol):
    """What a video is run through: (H, W, 3) uint8 BGR in and out, any size; `prepare` compiles for one ahead of time.

    identity: functions of one identity make the same of a frame, so that one may go on where the other was cut short; None:
    nobody knows.
    """

    @property
    def identity(self) -> str | None: ...

    def __call__(self, frame: Image, /) -> Image: ...

    def prepare(self, width: int, height: int) -> None: ...


@runtime_checkable
class SubmittingFunction(FrameFunction, Protocol):
    """One that works on two frames at a time: `submit` starts on a frame and returns the future of its output."""

    def submit(self, frame: Image, /) -> Future[Image]: ...
