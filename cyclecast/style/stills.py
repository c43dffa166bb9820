"""Lists and reads the user's images, without hidden files, damage and transparency."""

from __future__ import annotations

from pathlib import Path

from cyclecast.errors import InputError
from cyclecast.files import is_hidden
from cyclecast.training.data import list_images
from cyclecast.video.alpha import compose
from cyclecast.video.files.images import read_still
from cyclecast.video.frame import Image


def read_opaque(path: Path, background: Image | None = None) -> Image:
    """Reads an image as (H, W, 3) uint8 BGR, upright. Transparent parts show `background`, of the same size, or white.

    Raises InputError if the file is missing or cannot be decoded as a whole.
    """
    still = read_still(path)
    if still.damage:
        raise InputError(f"{path}: cannot be read as an image: {still.damage}")
    if still.alpha is None:
        return still.image
    behind = 255 if background is None or background.shape != still.image.shape else background
    return compose(still.image, still.alpha, behind)


def list_visible(folder: Path) -> list[Path]:
    """Lists the image files of a folder and its subfolders, sorted, without hidden ones.

    Raises InputError if there are none.
    """
    paths = [path for path in list_images(folder) if not is_hidden(path.relative_to(folder))]
    if not paths:
        raise InputError(f"{folder}: expected images in this folder; found none, except hidden files")
    return paths
