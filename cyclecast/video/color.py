"""Between a decoder's pictures and (H, W, 3) uint8 BGR, both ways, by what the stream says of its colors and its orientation."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer, Type

from cyclecast.errors import InputError
from cyclecast.video.frame import Color, Image

# swscale's BILINEAR | FULL_CHR_H_INT | ACCURATE_RND: without the last two a plain gray comes back 5 levels off, tinted.
EXACT_COLORS = 0x2 | 0x2000 | 0x40000
# H.273's matrix -> swscale's name of it. Unspecified is taken as BT.601 both ways, so it comes out as it went in.
MATRICES = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020"}
RGB, UNSPECIFIED, CONSTANT_LUMINANCE = 0, 2, 10
NEAREST = {3: UNSPECIFIED, CONSTANT_LUMINANCE: 9}  # matrices that swscale refuses -> what comes next to them
FULL_RANGE = 2
HDR = {16: "PQ", 18: "HLG"}  # H.273's transfer characteristics that reach beyond the white of a screen
# PyAV's rotation -> what `orientation` says of it
TURNS = {90: (True, False, True), -90: (True, True, False), 180: (False, True, True), -180: (False, True, True)}
SDR = Color(matrix=1, range=1, primaries=1, transfer=1)


def delivered(color: Color, is_rgb: bool = False) -> Color:
    """What the output says of its colors: the same, but BT.709 where HDR was mapped or the source has no matrix, being RGB."""
    if color.transfer in HDR:
        return SDR
    if is_rgb or color.matrix == RGB:
        return replace(color, matrix=SDR.matrix, range=SDR.range)
    matrix = NEAREST.get(color.matrix, color.matrix)
    return replace(color, matrix=matrix if matrix in MATRICES else UNSPECIFIED)


class ToBgr:
    """Turns decoded frames of one stream into upright (H, W, 3) uint8 BGR."""

    def __init__(self, color: Color) -> None:
        self._tones = ToneMapping() if color.transfer in HDR else None

    def __call__(self, frame: av.VideoFrame) -> Image:
        """By the frame's own matrix and range, turned as its display matrix says; HDR is mapped to BT.709.

        InputError for a matrix that nothing here converts, such as YCgCo.
        """
        matrix = frame.colorspace = NEAREST.get(frame.colorspace, frame.colorspace)
        if matrix not in MATRICES and matrix not in (RGB, UNSPECIFIED):
            raise InputError(f"its colors are in a form that is not known here (matrix {matrix} of ITU-T H.273)")
        transposed, flipped_x, flipped_y = orientation(frame)
        if self._tones is not None:
            frame = self._tones(frame)
        image = np.asarray(frame.to_ndarray(format="bgr24", interpolation=EXACT_COLORS), np.uint8)
        if transposed:
            image = image.transpose(1, 0, 2)
        image = image[:: -1 if flipped_y else 1, :: -1 if flipped_x else 1]
        return np.ascontiguousarray(image)


class ToneMapping:
    """HDR (PQ, HLG) to BT.709 by FFmpeg's own perceptual mapping; 20 ms for 1280x720 on a core of a Xeon, 2026-11-23.

    The first frame takes 4 s of that core: a table is made.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._form: tuple[int, int, str] | None = None

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        form = (frame.width, frame.height, frame.format.name)
        if self._graph is None or form != self._form:
            self._graph, self._form = _tone_mapping_graph(*form), form
        self._graph.push(frame)
        mapped = self._graph.pull()
        assert isinstance(mapped, av.VideoFrame)
        return mapped


def _tone_mapping_graph(width: int, height: int, form: str) -> Graph:
    graph = Graph()
    last = graph.add_buffer(width=width, height=height, format=av.VideoFormat(form), time_base=Fraction(1, 1000))
    mapping = "out_transfer=bt709:out_primaries=bt709:out_range=full:intent=perceptual"
    for name, arguments in (("scale", mapping), ("format", "bgr24"), ("buffersink", None)):
        step = graph.add(name, arguments)
        last.link_to(step)
        last = step
    graph.configure()
    return graph


def orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """(transposed, then flipped left to right, then upside down) by the display matrix (ISO 14496-12, 6.2.2)."""
    try:  # not `frame.side_data`: the two would hold each other, and a hundred frames wait for the garbage collector
        data: Any = cast(Any, SideDataContainer)(frame).get(Type.DISPLAYMATRIX)
    except ValueError:  # PyAV 18 has no name for one of the others, such as the EXIF of MJPEG; of mirroring it then says nothing
        return TURNS.get(round(frame.rotation), (False, False, False))
    if data is None:
        return False, False, False
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
    if abs(b) > abs(a):  # x' = c y, y' = b x
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def from_bgr(image: Image, color: Color, form: str) -> av.VideoFrame:
    """A frame of this pixel format, converted with the matrix and range of `color` and tagged so. Sizes must suit the format."""
    picture = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(
        format=form,
        dst_colorspace=MATRICES.get(color.matrix, "ITU601"),
        dst_color_range="JPEG" if color.range == FULL_RANGE else "MPEG",
        interpolation=EXACT_COLORS,
    )
    picture.colorspace, picture.color_range = color.matrix, color.range
    picture.color_primaries, picture.color_trc = color.primaries, color.transfer
    return picture
