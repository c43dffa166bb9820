"""The formats of image files, and how Pillow decodes those that OpenCV may not know: GIF, AVIF and HEIC."""

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

from PIL import Image, features

from cyclecast.phrases import counted

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
ADVICE = "pip install 'cyclecast[heic]'"  # brings pillow-heif, and a Pillow that reads AVIF

_warnings = threading.Lock()  # Python has one list of filters for the whole process


def is_readable(path: Path) -> bool:
    """Whether a file of this suffix is an image that can be decoded here."""
    suffix = path.suffix.lower()
    return suffix in FORMATS or (suffix in PILLOW_FORMATS and has_decoder(PILLOW_FORMATS[suffix]))


@cache
def has_decoder(name: str) -> bool:
    """Whether Pillow decodes GIF, AVIF or HEIC here; registers the plugin of HEIC."""
    if name == "AVIF":
        return "avif" in features.get_supported_modules()  # from Pillow 11.3 on
    if name == "HEIC":
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            return False
        register_heif_opener()
    return True


def describe_unreadable(paths: Sequence[Path]) -> str | None:
    """Returns a phrase such as "3 HEIC files skipped: pip install …" for images that cannot be decoded here; None if all can."""
    names = (PILLOW_FORMATS.get(path.suffix.lower()) for path in paths if not is_readable(path))
    counts = Counter(name for name in names if name)
    phrases = [counted(count, f"{name} file") for name, count in sorted(counts.items())]
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


def open_with_pillow(path: Path, data: bytes) -> Image.Image | None:
    """Decodes the first image of a GIF, AVIF or HEIC file's bytes; None if that is not possible. path: for its suffix."""
    if not is_readable(path):
        return None
    try:
        with quiet_pillow():
            image = Image.open(io.BytesIO(data))
            image.load()
            return image
    except Exception:  # Pillow raises anything for a broken file
        log.debug("%s: Pillow cannot decode it", path, exc_info=True)
        return None


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Ignores Pillow's warnings about malformed files, which would go to the terminal."""
    with _warnings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
