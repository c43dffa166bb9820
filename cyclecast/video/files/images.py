"""Reads and writes image files: (H, W, 3) uint8 BGR, upright as their EXIF says, with transparency and metadata.

OpenCV decodes: it keeps 16 bits a channel, shows what is left of a JPEG that is cut short, and tells broken files reliably.
Pillow does the rest: it reads and writes the metadata, encodes, and decodes TIFFs with transparency.
"""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from cyclecast.errors import InputError, OutputError
from cyclecast.files import check_source, read_error, write_error
from cyclecast.image_formats import (
    FORMATS,
    PILLOW_FORMATS,
    STILL_SUFFIXES,
    check_image_size,
    describe_missing_plugin,
    open_with_pillow,
    quiet_pillow,
)
from cyclecast.video.files.image_encoding import Still, encode_still
from cyclecast.video.files.image_metadata import (
    Metadata,
    orientation,
    read_metadata,
    read_pillow_metadata,
    upright_exif,
)
from cyclecast.video.files.jpeg_end import END_MARKER, lacks_only_end
from cyclecast.video.files.xmp import upright_xmp, without_pointers
from cyclecast.video.frame import Image

log = logging.getLogger(__name__)
SUFFIXES = STILL_SUFFIXES
"""Files that are read as an image; `FORMATS` are those that can be written. A GIF is a video, unless it is read here."""

Pixels = NDArray[np.generic]  # (H, W) or (H, W, 3 or 4), as a decoder gives them


def read_image(path: Path) -> Image:
    """Returns the image as (H, W, 3) uint8 BGR, upright. Raises InputError if it is missing or cannot be decoded as a whole."""
    still = read_still(path)
    if still.damage:
        raise InputError(f"{path}: cannot be read as an image: {still.damage}")
    return still.image


def read_still(path: Path) -> Still:
    """Reads the first image of a file, of a GIF the first frame, with transparency and metadata.

    16 bits a channel become 8; a JPEG that is cut short comes with its `damage`. Raises InputError if the file is missing,
    cannot be decoded, or holds other values than unsigned integers of 8 or 16 bits.
    """
    check_source(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise read_error(error, path) from error
    check_image_size(path, data)
    pillows: NDArray[np.uint8] | None
    if path.suffix.lower() in PILLOW_FORMATS:
        pillows, found = _decode_with_pillow(path, data)
    else:
        found = read_metadata(data)
        pillows = _decode_straight_tiff(data) if found.is_straight else None
    pixels, damage = _decode(path, data, found) if pillows is None else (pillows, None)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: holds {pixels.dtype} values; expected 8 or 16 bits a channel, without a sign")
    notes = ["16 bits a channel became 8"] if pixels.dtype == np.uint16 or found.is_deep else []
    if found.is_white_zero and pixels.dtype == np.uint16:  # OpenCV inverts 8 bits only
        pixels = np.iinfo(np.uint16).max - pixels
    pixels = _upright(pixels, orientation(found.exif))  # the decoders apply a TIFF's own orientation
    image, alpha = _split(_eight_bits(pixels))
    is_multiplied_here = found.is_straight and pillows is None and pixels.dtype == np.uint8  # OpenCV leaves 16 bits alone
    if alpha is not None and (found.is_premultiplied or is_multiplied_here):
        image = _unmultiply(image, alpha)
    if found.has_alpha and pixels.ndim == 2:
        notes.append("the transparency of this gray image could not be read")
    if found.is_cmyk:
        notes.append("CMYK became RGB")
    if found.has_more_images:
        notes.append("the first of several images")
    if found.has_unread_exif:
        notes.append("EXIF is not read from TIFF")
    xmp = without_pointers(found.xmp) if found.xmp else None
    if xmp != found.xmp:
        notes.append("XMP about a motion photo, gain map or depth map was removed, as these are left out")
    xmp = upright_xmp(xmp) if xmp else None
    color_space = found.icc[16:20] if found.icc else b"RGB "
    if color_space != b"RGB ":
        notes.append(f"a color profile for {color_space.decode('ascii', 'replace').strip() or 'nothing'} was left out")
    return Still(
        image=image,
        alpha=alpha,
        exif=upright_exif(found.exif) if found.exif else None,
        icc=found.icc if color_space == b"RGB " else None,
        xmp=xmp,
        iptc=found.iptc,
        dpi=found.dpi[::-1] if found.dpi and orientation(found.exif) >= 5 else found.dpi,
        texts=found.texts,
        notes=tuple(notes),
        damage=damage,
    )


def _decode_with_pillow(path: Path, data: bytes) -> tuple[NDArray[np.uint8], Metadata]:
    """Decodes the first image of a GIF, AVIF or HEIC file: (H, W, 4) uint8 BGRA as it is stored, and its metadata.

    Raises InputError if it cannot be decoded.
    """
    image = open_with_pillow(path, data)
    if image is None:
        raise InputError(f"{path}: cannot be read as an image{describe_missing_plugin(path)}")
    found = read_pillow_metadata(image, data)
    return np.ascontiguousarray(np.asarray(image.convert("RGBA"), np.uint8)[..., [2, 1, 0, 3]]), found


def _decode_straight_tiff(data: bytes) -> NDArray[np.uint8] | None:
    """Decodes (H, W, 4) uint8 BGRA, upright, of a TIFF with transparency; None if Pillow cannot decode it.

    OpenCV would multiply the colors by the transparency, so that transparent parts lose theirs.
    """
    try:
        with quiet_pillow():
            image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
            return np.ascontiguousarray(np.asarray(image.convert("RGBA"), np.uint8)[..., [2, 1, 0, 3]])
    except Exception:  # Pillow raises anything for a broken file; OpenCV decides
        log.debug("Pillow cannot decode a TIFF with transparency", exc_info=True)
        return None


def _decode(path: Path, data: bytes, found: Metadata) -> tuple[Pixels, str | None]:
    """Returns the pixels as they are stored, and what is damaged. From memory: OpenCV fails on file names that are not UTF-8."""
    pixels, damage = _decode_with_opencv(path, data), None
    if pixels is None and found.is_jpeg:
        pixels = _decode_with_opencv(path, data + END_MARKER)  # with it, libjpeg fills in gray for what is missing
        if not lacks_only_end(data):
            damage = "the file ends before its image does; what is missing is gray or coarse"
    if pixels is None:
        raise InputError(f"{path}: cannot be read as an image")
    return pixels, damage


def _decode_with_opencv(path: Path, data: bytes) -> Pixels | None:
    try:
        with _quiet_opencv():
            return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise InputError(f"{path}: cannot be read as an image") from error


_log_level = threading.Lock()  # OpenCV has one level for the whole process


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Keeps OpenCV's log off the terminal; lines that libpng and libjpeg print themselves still appear."""
    with _log_level:
        set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # moved with 4.13
        before = set_level(0)
        try:
            yield
        finally:
            set_level(before)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turns an image of this EXIF orientation upright."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _eight_bits(pixels: Pixels) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return np.asarray(cv2.convertScaleAbs(pixels.astype(np.uint16, copy=False), alpha=1 / 257), np.uint8)  # rounds


def _split(pixels: NDArray[np.uint8]) -> tuple[Image, NDArray[np.uint8] | None]:
    """Returns color and alpha of an image with 1, 3 or 4 channels; no alpha for an opaque image."""
    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), np.uint8), None
    if pixels.shape[2] == 3:
        return pixels, None
    alpha = np.ascontiguousarray(pixels[..., 3])
    return np.ascontiguousarray(pixels[..., :3]), None if bool((alpha == 255).all()) else alpha


def _unmultiply(image: Image, alpha: NDArray[np.uint8]) -> Image:
    straight = image * (255 / np.maximum(alpha, 1).astype(np.float32))[..., None]
    return np.asarray(np.rint(straight.clip(0, 255)), np.uint8)


def write_image(path: Path, image: Image) -> None:
    """Writes (H, W, 3) uint8 BGR in the format of the suffix, at quality 95 where there is a choice.

    Raises OutputError if it cannot be written.
    """
    write_still(path, Still(image))


def write_still(path: Path, still: Still) -> list[str]:
    """Writes the image in the format of the suffix, at quality 95 where there is a choice.

    Returns a phrase for each thing that the format cannot hold. Raises OutputError if the format is unknown or cannot hold an
    image of this size, or if the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise OutputError(f"no image format of that name; there are: {', '.join(sorted(FORMATS))}")
    data, lost = encode_still(suffix, still)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise write_error(error) from error
    return lost
