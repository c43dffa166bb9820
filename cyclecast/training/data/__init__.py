"""Training data: folders of photos, pairs and label maps, and files of digits.

A batch is a pure function of the seed and the step. So a resumed run sees the same images, and each of several processes can
draw its own part of a batch.
"""

from cyclecast.training.data.batches import OneDomain, PairedData, UnpairedData
from cyclecast.training.data.digits import DigitSet, Split, find_digits, read_digits
from cyclecast.training.data.domains import Domain, ImageFolder, fixed_set, open_domain
from cyclecast.training.data.images import (
    Half,
    list_images,
    read_image,
    resize_short_side,
    to_bytes,
    to_tensor,
)
from cyclecast.training.data.labels import Palette, colorize, find_palette, nearest_class, read_palette

__all__ = [
    "DigitSet",
    "Domain",
    "Half",
    "ImageFolder",
    "OneDomain",
    "PairedData",
    "Palette",
    "Split",
    "UnpairedData",
    "colorize",
    "find_digits",
    "find_palette",
    "fixed_set",
    "list_images",
    "nearest_class",
    "open_domain",
    "read_digits",
    "read_image",
    "read_palette",
    "resize_short_side",
    "to_bytes",
    "to_tensor",
]
