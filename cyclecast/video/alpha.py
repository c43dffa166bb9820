"""The transparency of frames: reads it, writes it, and gives transparent pixels a color that may be seen."""

from __future__ import annotations

from typing import Any, cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from cyclecast.video.frame import Alpha, Image

COMPOSED = "transparent pixels were composed on black"  # the notice, without its reason
FloatImage = NDArray[np.float32]


def has_alpha(pix_fmt: str) -> bool:
    """Returns whether the pixels of this format, by FFmpeg's name, have an alpha component."""
    return any(component.is_alpha for component in av.VideoFormat(pix_fmt).components)


def may_be_transparent(frame: av.VideoFrame) -> bool:
    """Returns whether the frame's pixel format has an alpha component, or its palette a transparent color."""
    if not frame.format.has_palette:
        return has_alpha(frame.format.name)
    palette = np.frombuffer(cast(Any, frame.planes[1]), np.uint32)[:256]
    return bool((palette >> 24 < 255).any())


def read_alpha(frame: av.VideoFrame) -> Alpha | None:
    """Returns the alpha of a decoded frame as (H, W) uint8; None if its pixel format has none. More than 8 bits are cut off."""
    form = frame.format
    if not form.has_palette and not has_alpha(form.name):
        return None
    samples = None if form.has_palette else _alpha_plane(frame)
    if samples is None:  # packed pixels; swscale would change some values of planes by 1
        return np.ascontiguousarray(frame.to_ndarray(format="bgra")[..., 3], np.uint8)
    return np.asarray(samples >> (form.components[3].bits - 8), np.uint8)


def write_alpha(frame: av.VideoFrame, alpha: Alpha | None) -> None:
    """Stores the alpha, (H, W) uint8, in a frame with an alpha plane of its own, such as yuva420p; None: opaque."""
    samples = _alpha_plane(frame)
    if samples is None:
        raise ValueError(f"{frame.format.name} has no alpha plane")
    more_bits = frame.format.components[3].bits - 8
    values = np.uint16(255) if alpha is None else alpha.astype(np.uint16)
    samples[:] = (values << more_bits) | (values >> (8 - more_bits)) if more_bits else values


def _alpha_plane(frame: av.VideoFrame) -> NDArray[Any] | None:
    """Returns a view of the frame's alpha, (H, W) uint8, or uint16 above 8 bits; None if it has no such plane."""
    components = frame.format.components
    if len(components) < 4 or components[3].plane != 3 or not 8 <= components[3].bits <= 16:
        return None
    dtype = np.dtype(np.uint8 if components[3].bits == 8 else (">u2" if frame.format.is_big_endian else "<u2"))
    plane = frame.planes[3]
    rows = np.frombuffer(cast(Any, plane), np.uint8).reshape(-1, plane.line_size)[: frame.height]
    return rows[:, : frame.width * dtype.itemsize].view(dtype)


def compose(image: Image, alpha: Alpha, behind: Image | int = 0) -> Image:
    """Returns what a viewer sees of (H, W, 3) uint8 pixels over others, or over a gray level; 0 is black.

    alpha: (H, W) uint8, not multiplied into the pixels.
    """
    share = alpha[..., None].astype(np.uint16)
    background = np.asarray(behind, np.uint16) * (np.uint16(255) - share)
    return np.asarray((image.astype(np.uint16) * share + background + np.uint16(127)) // np.uint16(255), np.uint8)


def fill_hidden(image: Image, alpha: Alpha) -> Image:
    """Replaces the colors of fully transparent pixels, which are arbitrary, by those of the pixels around them.

    So they appear nowhere after a model, an encoder or a filter has mixed neighbors. An image that is all transparent becomes
    black. The colors are averaged over areas that double in size until they hold a visible pixel, each weighted by its alpha.
    """
    hidden = alpha == 0
    if not hidden.any():
        return image
    weights = alpha.astype(np.float32) / np.float32(255)
    spread = _spread(image.astype(np.float32) * weights[..., None], weights)
    return np.where(hidden[..., None], np.rint(spread).astype(np.uint8), image)


def _spread(colors: FloatImage, weights: FloatImage) -> FloatImage:
    """Returns the colors (H, W, 3), which come multiplied by weights (H, W), without gaps where a weight is 0."""
    height, width = weights.shape
    own = colors / np.maximum(weights, 1e-20)[..., None]
    if height * width == 1 or bool((weights > 0).all()):
        return np.asarray(own, np.float32)
    half = (width + 1) // 2, (height + 1) // 2
    smaller = [np.asarray(cv2.resize(each, half, interpolation=cv2.INTER_AREA), np.float32) for each in (colors, weights)]
    around = cv2.resize(_spread(smaller[0], smaller[1]), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.where(weights[..., None] > 0, own, around), np.float32)
