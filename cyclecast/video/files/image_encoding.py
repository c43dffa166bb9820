"""An image with its metadata, and its encoding in the formats that are written. What a format cannot hold is named."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import PngImagePlugin

from cyclecast.errors import OutputError
from cyclecast.image_formats import FORMATS
from cyclecast.video.files.image_metadata import COMMENT, EXIF_MARK, IPTC_TAG, XMP_TAG, iptc_segment, reason_not_held
from cyclecast.video.frame import Image

log = logging.getLogger(__name__)
SETTINGS: dict[str, dict[str, Any]] = {  # Pillow's name of a format that is written -> its settings
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {"compress_level": 2},  # of a photo: 3 % larger than level 6 in half of its time
    "WEBP": {"quality": 95},
    "BMP": {},  # by OpenCV, as Pillow writes none with transparency
    "TIFF": {"compression": "tiff_lzw"},
}
PREDICTOR = 317  # a tag of TIFF; 2: differences between neighbors, which compress better


@dataclass(frozen=True, eq=False)
class Still:
    """An image and what else its file holds, as it can be written again."""

    image: Image
    """(H, W, 3) uint8 BGR, upright."""
    alpha: NDArray[np.uint8] | None = None
    """(H, W) uint8, 0 is fully transparent, not multiplied into the colors; None for an opaque image."""
    exif: bytes | None = None
    """The TIFF structure: orientation 1, no thumbnail."""
    icc: bytes | None = None
    """A color profile for RGB."""
    xmp: bytes | None = None
    """The packet, with orientation 1 and without pointers to what is left out."""
    iptc: bytes | None = None
    """The records of IPTC, such as title and keywords."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch, horizontally and vertically."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Comments by name: the text of a PNG; a JPEG has one, `Comment`."""
    notes: tuple[str, ...] = ()
    """Phrases for what was changed or left out by reading."""
    damage: str | None = None
    """A phrase for what could not be decoded."""


def encode_still(suffix: str, still: Still) -> tuple[bytes, list[str]]:
    """Encodes an image file of this suffix. Returns its bytes, and a phrase for each thing that the format cannot hold.

    Raises OutputError if the format cannot hold an image of this size.
    """
    still, lost = _held(suffix, still)
    height, width = still.image.shape[:2]
    pixels = still.image if still.alpha is None else np.dstack([still.image, still.alpha])
    if suffix == ".bmp":
        return cv2.imencode(suffix, pixels)[1].tobytes(), lost
    modes = ("RGB", "BGR") if still.alpha is None else ("RGBA", "BGRA")
    image = PillowImage.frombuffer(modes[0], (width, height), pixels.tobytes(), "raw", modes[1], 0, 1)
    file = io.BytesIO()
    try:
        image.save(file, FORMATS[suffix], **_options(FORMATS[suffix], still))
    except Exception as error:  # the format's own, such as ValueError and OSError
        log.debug("Pillow cannot encode an image", exc_info=True)
        raise OutputError(f"an image of {width}x{height} cannot be encoded as {suffix}") from error
    return file.getvalue(), lost


def _held(suffix: str, still: Still) -> tuple[Still, list[str]]:
    """Returns what a file of this suffix can hold, and phrases for the rest."""
    lost = []
    if still.alpha is not None and suffix in (".jpg", ".jpeg"):
        still, lost = replace(still, alpha=None), [f"transparency ({suffix} has none)"]
    for name, field_name in (("EXIF", "exif"), ("color profile", "icc"), ("XMP", "xmp"), ("IPTC", "iptc")):
        value = getattr(still, field_name)
        reason = reason_not_held(suffix, name, len(value)) if value else None
        if reason:
            without: dict[str, Any] = {field_name: None}
            still, lost = replace(still, **without), [*lost, f"{name} ({reason})"]
    if still.dpi and suffix in (".bmp", ".webp"):
        lost.append(f"the resolution of {still.dpi[0]:.0f} dpi ({suffix} has none)")
        still = replace(still, dpi=None)
    names = {".png": set(still.texts), ".jpg": {COMMENT}, ".jpeg": {COMMENT}}.get(suffix, set())
    others = [name for name in still.texts if name not in names]
    if others:
        lost.append(f"text: {', '.join(others)} ({suffix} has none)")
        still = replace(still, texts={name: text for name, text in still.texts.items() if name in names})
    return still, lost


def _options(format_name: str, still: Still) -> dict[str, Any]:
    """Returns Pillow's options for a format that holds all that the still has."""
    options: dict[str, Any] = dict(SETTINGS[format_name])
    if still.exif:
        options["exif"] = EXIF_MARK + still.exif
    if still.icc:
        options["icc_profile"] = still.icc
    if still.dpi:
        options["dpi"] = still.dpi
    if format_name == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        if still.xmp:
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", still.xmp)
        for name, text in still.texts.items():
            options["pnginfo"].add_text(name, text)
    elif format_name == "TIFF":
        tags = {XMP_TAG: still.xmp, IPTC_TAG: still.iptc}
        options["tiffinfo"] = {PREDICTOR: 2} | {tag: value for tag, value in tags.items() if value}
    elif still.xmp:
        options["xmp"] = still.xmp
    if format_name == "JPEG":
        options["extra"] = iptc_segment(still.iptc) if still.iptc else b""
        options["comment"] = still.texts.get(COMMENT, "").encode()
    return options
