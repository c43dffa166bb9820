"""Video frames with their timestamps, the properties of a video stream, and the interface of frame functions."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cyclecast.future import Future

if TYPE_CHECKING:
    import av

Image = NDArray[np.uint8]  # (H, W, 3) BGR
Alpha = NDArray[np.uint8]  # (H, W), from 0, fully transparent, to 255; not multiplied into the colors


@dataclass(frozen=True)
class Color:
    """The color description of a stream, as code points of ITU-T H.273. 2 means unspecified; for the range, 0 does."""

    matrix: int = 2
    range: int = 0
    """1: limited (16 to 235); 2: full (0 to 255)."""
    primaries: int = 2
    transfer: int = 2


@dataclass(frozen=True)
class StreamInfo:
    """The properties that all frames of a video stream share. Sizes are those on display, after rotation."""

    width: int
    height: int
    rate: Fraction
    """Average frames per second. It is informative only: each frame has its own timestamp."""
    time_base: Fraction
    """Seconds per tick of `Frame.pts`."""
    frames: int | None
    """The expected number of frames, for a progress bar; None if it is unknown."""
    color: Color
    pixel_aspect: Fraction
    """The width of a pixel divided by its height."""
    start: Fraction = Fraction(0)
    """Seconds subtracted from every timestamp, for sources whose clock starts late, such as recordings of broadcasts."""
    pix_fmt: str = "yuv420p"
    """FFmpeg's name of the source's pixel format."""
    has_alpha: bool = False
    """Frames may have transparent pixels."""


@dataclass(frozen=True)
class Frame:
    """An image and its timestamp."""

    image: Image
    pts: int
    """Presentation time, in ticks of the stream's time base."""
    duration: int
    """Display time in ticks; 0 if the stream does not state it."""
    captions: av.VideoFrame | None = None
    """The decoded frame, if closed captions (CEA-608 or 708) come with it."""
    alpha: Alpha | None = None
    """The transparency of the image; None: it is opaque, or composed on black."""


class FrameFunction(Protocol):
    """Maps an image to an image of the same size, both (H, W, 3) uint8 BGR. It accepts any size.

    identity: two functions with the same identity return the same output for the same frame, so that one can resume a
    conversion that the other began. None: unknown, and a conversion cannot be resumed. prepare: compiles for a size in advance.
    """

    @property
    def identity(self) -> str | None: ...

    def __call__(self, frame: Image, /) -> Image: ...

    def prepare(self, width: int, height: int) -> None: ...


@runtime_checkable
class SubmittingFunction(FrameFunction, Protocol):
    """A frame function that can process two frames at a time: `submit` starts one and returns the future of its output."""

    def submit(self, frame: Image, /) -> Future[Image]: ...
