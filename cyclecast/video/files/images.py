"""Image files in and out: upright as their EXIF says, (H, W, 3) uint8 BGR, with what else they hold."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cyclecast.errors import InputError, MissingInputError, OutputError
from cyclecast.files import read_error, write_error
from cyclecast.video.files.image_metadata import Metadata, orientation, put_metadata, read_metadata, upright_exif, upright_xmp
from cyclecast.video.frame import FrameFunction, Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
JPEG = [
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
]
SETTINGS = {
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".png": [cv2.IMWRITE_PNG_COMPRESSION, 3],  # of a photo: half of level 6's time, 3 % larger
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 95],
}
GRID = 128  # pixels; see `Bucketed`

Pixels = NDArray[np.generic]  # (H, W) or (H, W, 3 or 4), as a decoder gives them


@dataclass(frozen=True, eq=False)
class Still:
    """A picture and what its file says beside it, as it can be written again."""

    image: Image
    """(H, W, 3) uint8 BGR, upright."""
    alpha: NDArray[np.uint8] | None = None
    """(H, W) uint8, 0 is fully transparent, not multiplied into the colors; None where all of the picture is opaque."""
    exif: bytes | None = None
    """The TIFF structure: orientation 1, no thumbnail."""
    icc: bytes | None = None
    """A color profile for RGB."""
    xmp: bytes | None = None
    """The packet, with orientation 1."""
    notes: tuple[str, ...] = ()
    """What was changed or left out on the way in, in words."""
    damage: str | None = None
    """What of the picture could not be decoded, in words."""


def read_image(path: Path) -> Image:
    """The picture as (H, W, 3) uint8 BGR, upright. InputError if it is missing or cannot be decoded whole."""
    still = read_still(path)
    if still.damage:
        raise InputError(f"{path}: cannot be read as an image: {still.damage}")
    return still.image


def read_still(path: Path) -> Still:
    """The first picture of an image file, with transparency, EXIF, color profile and XMP.

    16 bits a channel become 8; a JPEG that is cut short comes with its `damage`. InputError if the file is missing, cannot
    be decoded, or holds other numbers than 8 or 16 bits without a sign.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise read_error(error, path) from error
    said = read_metadata(data)
    pixels, damage = _decode(path, data, said)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: holds {pixels.dtype} values; expected 8 or 16 bits a channel, without a sign")
    notes = ["16 bits a channel became 8"] if pixels.dtype == np.uint16 else []
    if said.white_is_zero and pixels.dtype == np.uint16:  # what OpenCV does itself with 8 bits
        pixels = np.iinfo(np.uint16).max - pixels
    pixels = _upright(pixels, orientation(said.exif))  # a TIFF's own orientation is no EXIF; OpenCV sees to it
    image, alpha = _split(_eight_bits(pixels))
    if alpha is not None and said.premultiplied:
        image = _unmultiplied(image, alpha)
    if said.transparent and pixels.ndim == 2:
        notes.append("the transparency of this gray picture could not be read")
    if said.cmyk:
        notes.append("CMYK became RGB")
    if said.several:
        notes.append("the first of several pictures")
    if said.unread_exif:
        notes.append("EXIF is not read from TIFF")
    if said.icc and said.icc[16:20] != b"RGB ":
        notes.append(f"a color profile for {said.icc[16:20].decode('ascii', 'replace').strip() or 'nothing'} was left out")
    return Still(
        image=image,
        alpha=alpha,
        exif=upright_exif(said.exif) if said.exif else None,
        icc=said.icc if said.icc and said.icc[16:20] == b"RGB " else None,
        xmp=upright_xmp(said.xmp) if said.xmp else None,
        notes=tuple(notes),
        damage=damage,
    )


def _decode(path: Path, data: bytes, said: Metadata) -> tuple[Pixels, str | None]:
    """Pixels as they are stored, and what is damaged. From memory: OpenCV dies on file names that are not UTF-8."""
    if said.straight_alpha_at is not None:  # else libtiff multiplies the colors by it
        order = ">" if data[:2] == b"MM" else "<"
        at = said.straight_alpha_at
        data = data[:at] + struct.pack(order + "H", 0) + data[at + 2 :]
    pixels, damage = _decoded(path, data), None
    if pixels is None and said.kind == "jpeg":
        pixels = _decoded(path, data + b"\xff\xd9")  # the end mark makes libjpeg fill what is missing with gray
        damage = "the file ends before its picture does; what is missing is gray or coarse"
    if pixels is None:
        raise InputError(f"{path}: cannot be read as an image")
    return pixels, damage


def _decoded(path: Path, data: bytes) -> Pixels | None:
    try:
        with _quiet_opencv():
            return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if "MAX_IMAGE" in str(error):
            raise InputError(f"{path}: cannot be read as an image: it says it is larger than 2^30 pixels") from error
        raise InputError(f"{path}: cannot be read as an image") from error


_log_level = threading.Lock()  # it is one for the process


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """What OpenCV would log does not reach the terminal; libpng's and libjpeg's own lines do."""
    with _log_level:
        set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # moved with 4.13
        before = set_level(0)
        try:
            yield
        finally:
            set_level(before)


def _upright(pixels: Pixels, turn: int) -> Pixels:
    """The picture whose EXIF orientation is `turn`, as it should be seen."""
    if turn >= 5:
        pixels = pixels.swapaxes(0, 1)
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _eight_bits(pixels: Pixels) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return np.asarray(cv2.convertScaleAbs(pixels.astype(np.uint16, copy=False), alpha=1 / 257), np.uint8)  # rounds


def _split(pixels: NDArray[np.uint8]) -> tuple[Image, NDArray[np.uint8] | None]:
    """Color and alpha of a picture of 1, 3 or 4 channels; no alpha if it is opaque everywhere."""
    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), np.uint8), None
    if pixels.shape[2] == 3:
        return pixels, None
    alpha = np.ascontiguousarray(pixels[..., 3])
    return np.ascontiguousarray(pixels[..., :3]), None if bool((alpha == 255).all()) else alpha


def _unmultiplied(image: Image, alpha: NDArray[np.uint8]) -> Image:
    straight = image * (255 / np.maximum(alpha, 1).astype(np.float32))[..., None]
    return np.asarray(np.rint(straight.clip(0, 255)), np.uint8)


def write_image(path: Path, image: Image) -> None:
    """Encodes by the suffix, at quality 95 where there is a choice. OutputError if it cannot be written."""
    write_still(path, Still(image))


def write_still(path: Path, still: Still) -> list[str]:
    """Encodes by the suffix, at quality 95 where there is a choice; returns what the format could not hold, in words.

    OutputError if the format is unknown, does not take a picture of this size, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise OutputError(f"no image format of that name; there are: {', '.join(sorted(SUFFIXES))}")
    lost = []
    alpha = still.alpha
    if alpha is not None and suffix in (".jpg", ".jpeg"):
        alpha, lost = None, [f"transparency ({suffix} has none)"]
    pixels = still.image if alpha is None else np.dstack([still.image, alpha])
    size = f"{pixels.shape[1]}x{pixels.shape[0]}"
    try:
        encoded, buffer = cv2.imencode(suffix, pixels, SETTINGS.get(suffix, []))
    except cv2.error as error:
        raise OutputError(f"an image of {size} cannot be encoded as {suffix}") from error
    if not encoded:
        raise OutputError(f"an image of {size} cannot be encoded as {suffix}")
    data, left_out = put_metadata(buffer.tobytes(), suffix, still.exif, still.icc, still.xmp, alpha is not None)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise write_error(error) from error
    return lost + left_out


class Bucketed:
    """A frame function for pictures of many sizes: few of them reach the function, which may compile for each.

    A picture is continued to the right and below by its last column and row up to a multiple of `grid`, and what comes of
    it is cut to size. What is made of a picture changes where its right and lower edges are in the model's sight, and
    everywhere if the model normalizes over the whole picture. Not for a model of a fixed size.
    """

    def __init__(self, function: FrameFunction, grid: int = GRID) -> None:
        self._function, self._grid = function, grid

    @property
    def identity(self) -> str | None:
        """That of the function, and the grid, on which a picture's edges depend."""
        inner = self._function.identity
        return inner and f"{inner} grid {self._grid}"

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) that the function meets for a picture of this size; pictures sorted by it compile least."""
        return -(-width // self._grid) * self._grid, -(-height // self._grid) * self._grid

    def prepare(self, width: int, height: int) -> None:
        """Compiles for pictures of this size and all that share its bucket."""
        self._function.prepare(*self.size(width, height))

    def __call__(self, frame: Image) -> Image:
        height, width = frame.shape[:2]
        right, below = (large - small for large, small in zip(self.size(width, height), (width, height), strict=True))
        if right == below == 0:
            return self._function(frame)
        padded = cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REPLICATE)
        return np.ascontiguousarray(self._function(np.asarray(padded, np.uint8))[:height, :width])
