"""Closed captions (CEA-608 and 708) that are stored inside the video stream of H.264, HEVC and MPEG-2 (ATSC A/53)."""

from __future__ import annotations

from typing import Any, cast

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type

CAPTIONED = ("h264", "hevc")  # codecs whose encoders store captions


def has_captions(frame: av.VideoFrame) -> bool:
    """Returns whether a decoded frame has closed captions."""
    try:  # `frame.side_data` would make a reference cycle, see `color.orientation`
        return cast(Any, SideDataContainer)(frame).get(Type.A53_CC) is not None
    except ValueError:  # PyAV 18 does not know another entry
        return False


def with_captions(frame: av.VideoFrame, source: av.VideoFrame) -> av.VideoFrame:
    """Returns the image and colors of `frame`, without a time, with the captions of `source`.

    PyAV cannot add side data to a frame, so the image is written into a copy of the source, of which encoders read nothing
    else.
    """
    out = source.reformat(width=frame.width, height=frame.height, format=frame.format.name)
    out.make_writable()
    for planes in zip(out.planes, frame.planes, strict=True):
        to, rows = (np.frombuffer(cast(Any, plane), np.uint8).reshape(-1, plane.line_size) for plane in planes)
        length = min(to.shape[1], rows.shape[1])  # lines may be padded
        to[:, :length] = rows[:, :length]
    out.colorspace, out.color_range = frame.colorspace, frame.color_range
    out.color_primaries, out.color_trc = frame.color_primaries, frame.color_trc
    out.pict_type = frame.pict_type  # or the encoder would repeat the source's
    return out
