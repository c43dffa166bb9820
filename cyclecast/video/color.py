"""Converts between decoded frames and (H, W, 3) uint8 BGR, in both directions.

The conversion follows the color description and the display matrix of the stream.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

from cyclecast.errors import InputError
from cyclecast.video.frame import Color, Image

# swscale's BILINEAR | FULL_CHR_H_INT | ACCURATE_RND. Without the last two, plain gray comes back tinted, 5 levels off.
EXACT_COLOR_FLAGS = 0x2 | 0x2000 | 0x40000
# H.273's matrix -> swscale's name for it. Unspecified counts as BT.601 in both directions, which leaves the colors unchanged.
SWSCALE_MATRICES = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020"}
RGB, UNSPECIFIED, CONSTANT_LUMINANCE = 0, 2, 10
FALLBACKS = {3: UNSPECIFIED, CONSTANT_LUMINANCE: 9}  # matrices that swscale does not support -> the closest that it does
FULL_RANGE = 2
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # H.273's transfer characteristics with more brightness than SDR
# PyAV's rotation in degrees -> the result of `orientation`
ROTATIONS = {90: (True, False, True), -90: (True, True, False), 180: (False, True, True), -180: (False, True, True)}
SDR = Color(matrix=1, range=1, primaries=1, transfer=1)


def output_color(color: Color, is_rgb: bool = False) -> Color:
    """Returns the color description of the output for a source with `color`.

    It is the same, except for BT.709 if HDR is mapped to SDR, BT.709's matrix if the source is RGB, and the closest matrix that
    swscale supports if it does not support the source's.
    """
    if color.transfer in HDR_TRANSFERS:
        return SDR
    if is_rgb or color.matrix == RGB:
        return replace(color, matrix=SDR.matrix, range=SDR.range)
    matrix = FALLBACKS.get(color.matrix, color.matrix)
    return replace(color, matrix=matrix if matrix in SWSCALE_MATRICES else UNSPECIFIED)


class BgrConverter:
    """Converts decoded frames of one stream to upright (H, W, 3) uint8 BGR."""

    def __init__(self, color: Color) -> None:
        self._tone_mapping = ToneMapping() if color.transfer in HDR_TRANSFERS else None
        self._reformatter = VideoReformatter()  # a frame's own one would compute swscale's tables anew

    def __call__(self, frame: av.VideoFrame) -> Image:
        """Uses the frame's own matrix and range, applies its display matrix, and maps HDR to BT.709.

        Raises InputError for a matrix that swscale does not support, such as YCgCo.
        """
        matrix = frame.colorspace = FALLBACKS.get(frame.colorspace, frame.colorspace)
        if matrix not in SWSCALE_MATRICES and matrix not in (RGB, UNSPECIFIED):
            raise InputError(f"its color matrix is not supported (matrix {matrix} of ITU-T H.273)")
        turned = orientation(frame)
        if self._tone_mapping is not None:
            frame = self._tone_mapping(frame)
        converted = self._reformatter.reformat(frame, format="bgr24", interpolation=EXACT_COLOR_FLAGS)
        image = np.asarray(converted.to_ndarray(), np.uint8)
        return turn_upright(image, turned)


def turn_upright(image: NDArray[np.uint8], turned: tuple[bool, bool, bool]) -> NDArray[np.uint8]:
    """Applies the result of `orientation` to (H, W, 3) or (H, W)."""
    transposed, flipped_x, flipped_y = turned
    if transposed:
        image = image.swapaxes(0, 1)
    return np.ascontiguousarray(image[:: -1 if flipped_y else 1, :: -1 if flipped_x else 1])


class ToneMapping:
    """Maps HDR (PQ, HLG) to BT.709 with FFmpeg's perceptual tone mapping.

    A 1280x720 frame takes 20 ms on one core of a Xeon (2026-11-23). The first frame takes 4 s, because FFmpeg builds a table.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._input: tuple[int, int, str] | None = None  # width, height, pixel format

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        current = (frame.width, frame.height, frame.format.name)
        if self._graph is None or current != self._input:
            self._graph, self._input = _tone_mapping_graph(*current), current
        self._graph.push(frame)
        mapped = self._graph.pull()
        assert isinstance(mapped, av.VideoFrame)
        return mapped


def _tone_mapping_graph(width: int, height: int, pix_fmt: str) -> Graph:
    graph = Graph()
    last = graph.add_buffer(width=width, height=height, format=av.VideoFormat(pix_fmt), time_base=Fraction(1, 1000))
    mapping = "out_transfer=bt709:out_primaries=bt709:out_range=full:intent=perceptual"
    for name, arguments in (("scale", mapping), ("format", "bgr24"), ("buffersink", None)):
        node = graph.add(name, arguments)
        last.link_to(node)
        last = node
    graph.configure()
    return graph


def orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Returns (is_transposed, then is_flipped_x, then is_flipped_y) of a frame's display matrix (ISO 14496-12, 6.2.2)."""
    try:  # `frame.side_data` would make a reference cycle, and a hundred frames would wait for the collector
        data: Any = cast(Any, SideDataContainer)(frame).get(Type.DISPLAYMATRIX)
    except ValueError:  # PyAV 18 does not know another entry, such as MJPEG's EXIF; the rotation has no mirroring
        return ROTATIONS.get(round(frame.rotation), (False, False, False))
    if data is None:
        return False, False, False
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
    if abs(b) > abs(a):  # x' = c y, y' = b x
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def frame_from_bgr(image: Image, color: Color, pix_fmt: str, reformatter: VideoReformatter | None = None) -> av.VideoFrame:
    """Converts an image to a frame in this pixel format, with the matrix and range of `color`, and tags it with them.

    The size must suit the pixel format: 4:2:0 needs an even width and height. reformatter: one for all frames of a video keeps
    the tables of the conversion.
    """
    frame = (reformatter or VideoReformatter()).reformat(
        av.VideoFrame.from_ndarray(image, format="bgr24"),
        format=pix_fmt,
        dst_colorspace=Colorspace[SWSCALE_MATRICES.get(color.matrix, "ITU601")],
        dst_color_range="JPEG" if color.range == FULL_RANGE else "MPEG",
        interpolation=EXACT_COLOR_FLAGS,
    )
    frame.colorspace, frame.color_range = color.matrix, color.range
    frame.color_primaries, frame.color_trc = color.primaries, color.transfer
    return frame
