"""Lists the formats of image files, limits their size, and decodes with Pillow those that OpenCV may not: GIF, AVIF, HEIC."""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from PIL import Image, TiffImagePlugin, features

from cyclecast.errors import InputError
from cyclecast.phrases import count_noun

log = logging.getLogger(__name__)
FORMATS = {  # suffix -> Pillow's name of a format that is read and written
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
PILLOW_FORMATS = {".gif": "GIF", ".avif": "AVIF", ".heic": "HEIC", ".heif": "HEIC", ".hif": "HEIC"}  # suffix -> name; only read
IMAGE_SUFFIXES = frozenset({*FORMATS, *PILLOW_FORMATS})
STILL_SUFFIXES = IMAGE_SUFFIXES - {".gif"}
"""Files that hold one image; a GIF may hold a video."""
RAW_SUFFIXES = frozenset(  # of cameras' raw files, which nothing here decodes
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mef"}
    | {".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
)
LARGEST_PIXELS = 1 << 28  # of an image; the header of a small file can state any number
HEADER_FORMATS = (*dict.fromkeys(FORMATS.values()), "GIF", "AVIF", "HEIF")  # Pillow's names, to read sizes
ADVICE = "pip install 'cyclecast[heic]'"  # brings pillow-heif, and a Pillow that reads AVIF

_warnings = threading.Lock()  # Python has one list of filters for the whole process


def is_readable(path: Path) -> bool:
    """Returns whether a file of this suffix is an image that can be decoded here."""
    suffix = path.suffix.lower()
    return suffix in FORMATS or (suffix in PILLOW_FORMATS and has_decoder(PILLOW_FORMATS[suffix]))


@cache
def has_decoder(name: str) -> bool:
    """Returns whether Pillow decodes this format (GIF, AVIF or HEIC) here; registers the plugin of HEIC."""
    if name == "AVIF":
        return "avif" in features.get_supported_modules()  # from Pillow 11.3 on
    if name == "HEIC":
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            return False
        register_heif_opener()
    return True


def describe_missing_plugin(path: Path) -> str:
    """Returns the end of an error's line for a file that needs a plugin; an empty string for others."""
    name = PILLOW_FORMATS.get(path.suffix.lower())
    return f"; {name} needs a plugin: {ADVICE}" if name and not is_readable(path) else ""


def describe_unreadable(paths: Sequence[Path]) -> str | None:
    """Returns a phrase such as "3 HEIC files skipped: pip install …" for images that cannot be decoded here; None if all can."""
    names = (PILLOW_FORMATS.get(path.suffix.lower()) for path in paths if not is_readable(path))
    counts = Counter(name for name in names if name)
    phrases = [count_noun(count, f"{name} file") for name, count in sorted(counts.items())]
    return f"{' and '.join(phrases)} skipped: {ADVICE}" if phrases else None


def keep_readable(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Returns the paths without images that cannot be decoded here; logs their number in one line, once for each folder."""
    skipped = describe_unreadable(paths)
    if skipped:
        _warn_once(f"{folder}: {skipped}")
    return [path for path in paths if path.suffix.lower() not in PILLOW_FORMATS or is_readable(path)]


@cache
def _warn_once(message: str) -> None:
    log.warning("%s", message)


def check_image_size(path: Path, data: bytes) -> None:
    """Raises InputError if the header states no size, or one above `LARGEST_PIXELS`."""
    size = stated_size(path, data)
    if size is None:
        raise InputError(f"{path}: cannot be read as an image{describe_missing_plugin(path)}")
    if size[0] * size[1] > LARGEST_PIXELS:
        raise InputError(
            f"{path}: cannot be read as an image: its header states {size[0]}x{size[1]} pixels; the limit is {LARGEST_PIXELS}"
        )


def stated_size(path: Path, data: bytes) -> tuple[int, int] | None:
    """Reads (width, height) from the header, without decoding; returns None if the format is not known here."""
    is_readable(path)  # registers the plugin of HEIC
    try:
        with quiet_pillow():
            if data[:2] in (b"II", b"MM"):
                tags = tiff_tags(data)
                return int(tags[TiffImagePlugin.IMAGEWIDTH]), int(tags[TiffImagePlugin.IMAGELENGTH])
            with Image.open(io.BytesIO(data), formats=HEADER_FORMATS) as image:
                return image.size
    except Exception:  # Pillow raises anything for a broken file
        log.debug("%s: its size cannot be read", path, exc_info=True)
        return None


def tiff_tags(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Reads the tags of the first image of a TIFF file's bytes: Pillow does not open all TIFF files that OpenCV can decode."""
    header = data[:8]
    if data[2:4] in (b"+\0", b"\0+"):  # BigTIFF, which Pillow recognizes by a header in little-endian order only
        header = b"II+\0" + data[4:16]
    tags = TiffImagePlugin.ImageFileDirectory_v2(header, prefix=data[:2])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    return tags


def open_with_pillow(path: Path, data: bytes) -> Image.Image | None:
    """Decodes the first image of a GIF, AVIF or HEIC file's bytes; None if that is not possible. path: for its suffix."""
    if not is_readable(path):
        return None
    try:
        with quiet_pillow():
            image = Image.open(io.BytesIO(data), formats=HEADER_FORMATS)
            if image.width * image.height > LARGEST_PIXELS:
                return None
            image.load()
            return image
    except Exception:  # Pillow raises anything for a broken file
        log.debug("%s: Pillow cannot decode it", path, exc_info=True)
        return None


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Ignores Pillow's warnings about malformed files, which would go to the terminal, and its limit, which is below ours."""
    with _warnings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
