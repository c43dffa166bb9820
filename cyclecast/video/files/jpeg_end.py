"""Tells a JPEG that lacks only its end marker from one that lacks a part of its image."""

from __future__ import annotations

import io
import logging
import re
from collections import Counter

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

from cyclecast.image_formats import quiet_pillow

log = logging.getLogger(__name__)
END_MARKER = b"\xff\xd9"
RESTART_MARKERS = [bytes((0xFF, 0xD0 + number)) for number in range(8)]
# Bits that become a part of the image if its own do not suffice, also after a restart marker; otherwise a decoder skips them.
FILLERS = [b"".join(32 * bits + marker for marker in (*RESTART_MARKERS, b"")) for bits in (b"\x55\xaa", b"\xbe\x7d")]
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
SCAN_HEADER = 0xDA
COEFFICIENTS = 64  # of a block


def lacks_only_end(data: bytes) -> bool:
    """Returns whether a JPEG file without an end marker holds its whole image."""
    whole = data.removesuffix(END_MARKER[:1])  # half of the marker may exist
    try:
        with quiet_pillow():
            first, *others = (np.asarray(JpegImageFile(io.BytesIO(whole + filler + END_MARKER))) for filler in (b"", *FILLERS))
        return all(np.array_equal(first, other) for other in others) and _has_all_scans(data)
    except Exception:  # Pillow raises anything for a broken file
        log.debug("Pillow cannot decode a JPEG without an end marker", exc_info=True)
        return False


def _has_all_scans(data: bytes) -> bool:
    """Returns whether the scans hold every coefficient of each component to its last bit (ITU-T T.81, B.2)."""
    at, components = 2, b""
    while data[at + 1] != SCAN_HEADER:  # over the segments in front, whose thumbnails have scans, too
        if data[at + 1] in FRAME_HEADERS:
            components = data[at + 10 : at + 10 + 3 * data[at + 9] : 3]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    scans, finished = data[at:], Counter[int]()
    for header in re.finditer(rb"\xff\xda..(.)", scans, re.DOTALL):
        end = header.end() + 2 * header[1][0]
        first, last, missing_bits = scans[end], scans[end + 1], scans[end + 2] & 15
        if not missing_bits:
            finished.update(dict.fromkeys(scans[header.end() : end : 2], last - first + 1))
    return all(finished[component] == COEFFICIENTS for component in components)
