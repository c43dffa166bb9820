"""Handwritten digits as a domain, from the usual files of MNIST and USPS: idx, .npz and HDF5."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyclecast.errors import InputError, MissingInputError
from cyclecast.training.data.images import has_images, spaced_indices, to_tensor

Split = Literal["train", "test"]
ARCHIVE_SUFFIXES = (".npz", ".h5", ".hdf5")
DIGIT_SUFFIXES = (*ARCHIVE_SUFFIXES, "-ubyte", ".gz")
NPZ_KEYS = (("x_{}", "y_{}"), ("{}_images", "{}_labels"))  # of images and of labels, by split
IDX_IMAGES = re.compile(r"(.*)images([-.])idx3-ubyte(\.gz)?", re.IGNORECASE)
INK_KEPT = 0.99  # share of a set's ink that remains after its border is cropped
GZIP_MAGIC = b"\x1f\x8b"
READ_ERRORS = (OSError, EOFError, ValueError, KeyError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)
MAX_BYTES = 1 << 30  # of one array; a damaged header may announce any size
EXPANSION = 100  # bytes of an array for each byte of its file; compressed MNIST has 5, as 64-bit floats 40
ALLOWANCE = 16 << 20  # bytes beside that
GZIP_FILTER, SAME_SIZE_FILTERS = 1, (2, 3)  # HDF5's numbers; shuffled bytes, and a checksum behind them


def list_digit_files(folder: Path) -> list[Path]:
    """Lists the files of digits in `folder`, sorted; of idx files, only the images of the training split if it exists."""
    names = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_file()}
    idx = [
        path
        for name, path in names.items()
        if IDX_IMAGES.fullmatch(name) and name.removesuffix(".gz") not in names.keys() - {name}
    ]
    training = [path for path in idx if not path.name.lower().startswith("t10k")]
    archives = [path for name, path in names.items() if name.endswith(ARCHIVE_SUFFIXES)]
    return sorted(archives + (training or idx))


def find_digits(path: Path) -> Path:
    """Returns the file of digits in a folder without images; any other path as it is.

    Raises InputError, which lists the files, if the folder holds several.
    """
    files = list_digit_files(path) if path.is_dir() and not has_images(path) else []
    if len(files) > 1:
        raise InputError(f"{path}: holds {len(files)} files of digits; name one of them: {', '.join(map(str, files))}")
    return files[0] if files else path


def resize_digit(digit: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resizes (S, S) uint8 to (size, size): bilinear to enlarge, area mean to shrink, so that sets of all sizes compare."""
    if size == len(digit):
        return digit
    interpolation = cv2.INTER_AREA if size < len(digit) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(digit, (size, size), interpolation=interpolation), np.uint8)


@dataclass
class DigitSet:
    """The digits of a file (see `read_digits`) as a domain, resized to `size` pixels; never cropped at random, never flipped.

    Gray, in three equal channels. tight: crops all digits to the center square that holds 99 % of the set's ink, because MNIST's
    digits have a blank border and USPS's fill the image. Raises InputError if the file cannot be read.
    """

    path: Path
    size: int
    split: Split = "train"
    tight: bool = False
    skipped: set[Path] = field(default_factory=set, init=False)  # always empty: a file of digits is read whole or not at all

    def __post_init__(self) -> None:
        self.images, self.labels = read_digits(self.path, self.split)  # (N, S, S) uint8, (N,) int64 from 0 to 9
        if self.tight:  # measured on the training digits for both splits: test data must not influence their preparation
            margin = blank_margin(self.images if self.split == "train" else read_digits(self.path, "train")[0])
            self.images = self.images[:, margin : self.images.shape[1] - margin, margin : self.images.shape[2] - margin]

    def __len__(self) -> int:
        return len(self.images)

    def draw(self, random: np.random.Generator) -> Tensor:
        """Draws a random digit: (3, size, size) float32 in [-1, 1]."""
        return self._one(int(random.integers(len(self))), self.size)

    def first(self, count: int, side: int) -> Tensor:
        """Returns up to `count` digits, evenly spaced over the file: (n, 3, side, side) in [-1, 1]."""
        return torch.stack([self._one(int(index), side) for index in spaced_indices(len(self), count)])

    def tensor(self, indices: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Returns the digits at `indices`, whose labels are `labels[indices]`: (n, 3, size, size) in [-1, 1]."""
        return torch.stack([self._one(int(index), self.size) for index in indices])

    def bytes(self) -> tuple[Tensor, Tensor]:
        """Returns all digits, (N, 3, size, size) uint8, and their labels (N,) int64."""
        resized = np.stack([resize_digit(digit, self.size) for digit in self.images])
        return torch.from_numpy(resized)[:, None].expand(-1, 3, -1, -1), torch.from_numpy(self.labels)

    def _one(self, index: int, size: int) -> Tensor:
        digit = resize_digit(self.images[index], size)
        return to_tensor(np.broadcast_to(digit[..., None], (size, size, 3)))


def blank_margin(digits: NDArray[np.uint8]) -> int:
    """Counts the pixels that can be cropped from each side of (N, S, S) so that 99 % of the ink remains."""
    ink = digits.sum(0, dtype=np.int64)
    margins = range(1, len(ink) // 2)
    kept = [margin for margin in margins if ink[margin:-margin, margin:-margin].sum() >= INK_KEPT * ink.sum()]
    return max(kept, default=0)


def read_digits(path: Path, split: Split = "train") -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Reads images (N, S, S) uint8, white on black, and labels (N,) int64 from 0 to 9.

    .npz: x_train, y_train, x_test, y_test or train_images, train_labels, test_images, test_labels. .h5, .hdf5: groups train and
    test with data and target; needs h5py. idx, gzipped or not: `...images-idx3-ubyte` with `...labels-idx1-ubyte` beside it; for
    the test split, its `t10k` sibling if there is one. Images are uint8 or floats in [0, 1], square or flattened squares.
    Raises InputError for anything else.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file")
    name = path.name.lower()
    try:
        if name.endswith(".npz"):
            images, labels = _read_npz(path, split)
        elif name.endswith(ARCHIVE_SUFFIXES):
            images, labels = _read_hdf5(path, split)
        elif IDX_IMAGES.fullmatch(name):
            images, labels = _read_idx_pair(path, split)
        else:
            raise InputError(f"{path}: not a file of digits; expected .npz, .h5, .hdf5 or ...images-idx3-ubyte, gzipped or not")
        return _pixels(images), _classes(labels, len(images))
    except InputError:
        raise
    except _Malformed as error:
        raise InputError(f"{path}: cannot be read as digits ({split}): {error}") from error
    except READ_ERRORS as error:
        raise InputError(f"{path}: damaged: {error or type(error).__name__}") from error


class _Malformed(Exception):
    """The file can be opened but does not hold digits."""


def _pixels(images: NDArray[Any]) -> NDArray[np.uint8]:
    side = math.isqrt(images.shape[1]) if images.ndim == 2 else images.shape[-1] if images.ndim == 3 else 0
    if not side or not len(images) or images[0].size != side * side:
        raise _Malformed(f"expected (N, S, S) or (N, S * S) square images, got {images.shape}")
    if images.dtype.kind == "f":
        if not bool(((images >= 0) & (images <= 1)).all()):
            raise _Malformed(f"expected floats in [0, 1], got {images.min()} to {images.max()}")
        images = np.rint(images * 255).astype(np.uint8)
    if images.dtype != np.uint8:
        raise _Malformed(f"expected uint8, or floats in [0, 1], got {images.dtype}")
    return images.reshape(-1, side, side)


def _classes(labels: NDArray[Any], count: int) -> NDArray[np.int64]:
    if labels.shape != (count,):
        raise _Malformed(f"{count} images, but labels of shape {labels.shape}")
    if labels.dtype.kind not in "iuf" or not bool(np.isin(labels, np.arange(10)).all()):
        raise _Malformed("expected labels from 0 to 9")
    return labels.astype(np.int64)


def _check_size(path: Path, what: str, size: int) -> None:
    """Raises _Malformed if an array of `size` bytes is larger than the file can reasonably hold; call it before reading it."""
    held = path.stat().st_size
    limit = min(MAX_BYTES, EXPANSION * held + ALLOWANCE)
    if size > limit:
        raise _Malformed(f"{what} takes {size / 1e9:.2f} GB; at most {limit / 1e9:.2f} GB are read from {held / 1e9:.4f} GB")


def _read_npz(path: Path, split: Split) -> tuple[NDArray[Any], NDArray[Any]]:
    if not zipfile.is_zipfile(path):
        raise _Malformed("not an archive of arrays, as np.savez writes them")
    with np.load(path, allow_pickle=False) as archive:
        for keys in NPZ_KEYS:
            images, labels = (key.format(split) for key in keys)
            if images in archive.files and labels in archive.files:
                for key in (images, labels):
                    _check_npz_array(path, archive.zip, key)
                return archive[images], archive[labels]
        expected = " or ".join(" and ".join(key.format(split) for key in keys) for keys in NPZ_KEYS)
        raise _Malformed(f"expected {expected}, got {', '.join(archive.files) or 'nothing'}")


def _check_npz_array(path: Path, archive: zipfile.ZipFile, key: str) -> None:
    """Checks an array's size in the archive and in its header, which may differ."""
    entry = archive.getinfo(key if key in archive.namelist() else f"{key}.npy")
    _check_size(path, key, entry.file_size)
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    _check_size(path, key, math.prod(shape) * dtype.itemsize)


def _read_hdf5(path: Path, split: Split) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        import h5py  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise InputError(f"{path}: reading it needs h5py, which is not installed: pip install h5py") from error
    with h5py.File(path, "r") as file:
        found = [file.get(f"{split}/{name}") for name in ("data", "target")]
        if not all(isinstance(dataset, h5py.Dataset) for dataset in found):
            raise _Malformed(f"expected {split}/data and {split}/target, got {', '.join(file) or 'nothing'}")
        for dataset in found:
            if dataset.file.filename != file.filename:
                raise _Malformed(f"{dataset.name} is stored in another file")
            _check_hdf5_dataset(path, dataset)
        return np.asarray(found[0]), np.asarray(found[1])


def _check_hdf5_dataset(path: Path, dataset: Any) -> None:
    """Checks what a dataset takes once read: all values, one chunk, which may be larger, and what its chunks unpack to."""
    if dataset.is_virtual or dataset.external:
        raise _Malformed(f"{dataset.name} is stored in another file")
    if dataset.dtype.kind not in "iuf":
        raise _Malformed(f"expected numbers in {dataset.name}, got {dataset.dtype}")
    _check_size(path, dataset.name, math.prod(dataset.shape or ()) * dataset.dtype.itemsize)
    chunk_size = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    _check_size(path, f"a chunk of {dataset.name}", chunk_size)
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(index)[0] for index in range(settings.get_nfilters())]
    if not set(filters) <= {GZIP_FILTER, *SAME_SIZE_FILTERS} or filters.count(GZIP_FILTER) > 1:
        raise _Malformed(f"{dataset.name} is compressed; expected gzip or no compression")
    for index in range(dataset.id.get_num_chunks() if GZIP_FILTER in filters else 0):
        _, packed = dataset.id.read_direct_chunk(dataset.id.get_chunk_info(index).chunk_offset)
        if len(zlib.decompressobj().decompress(packed, chunk_size + 1)) > chunk_size:  # HDF5 would unpack all of it
            raise _Malformed(f"a chunk of {dataset.name} unpacks to more than its size")


def _read_idx_pair(path: Path, split: Split) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    if split == "test":
        path = _plain_or_gzipped(path.with_name(IDX_IMAGES.sub(r"t10k-images\2idx3-ubyte", path.name))) or path
    beside = path.with_name(IDX_IMAGES.sub(r"\1labels\2idx1-ubyte", path.name))
    labels = _plain_or_gzipped(beside)
    if labels is None:
        raise _Malformed(f"expected its labels beside it, {beside.name} or {beside.name}.gz")
    return _read_idx(path, 3), _read_idx(labels, 1)


def _plain_or_gzipped(path: Path) -> Path | None:
    return next((found for found in (path, path.with_name(f"{path.name}.gz")) if found.is_file()), None)


def _read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Reads LeCun's format: two zero bytes, 8 for uint8, the number of dimensions, each as big-endian int32, the values."""
    with path.open("rb") as plain:
        is_gzipped = plain.read(2) == GZIP_MAGIC
        plain.seek(0)
        file = cast(BinaryIO, gzip.GzipFile(fileobj=plain)) if is_gzipped else plain
        header = file.read(4 + 4 * dimensions)
        if header[:4] != bytes((0, 0, 8, dimensions)) or len(header) < 4 + 4 * dimensions:
            raise _Malformed(f"{path.name} starts with {header[:4].hex() or 'nothing'}, not with 000008{dimensions:02x}")
        shape = struct.unpack(f">{dimensions}I", header[4:])
        size = math.prod(shape)
        _check_size(path, f"the array of {path.name}", size)
        values = file.read(size + 1)
    if len(values) != size:
        found = "more" if len(values) > size else f"only {len(values)}"
        raise _Malformed(f"the header of {path.name} announces {size} values, the file holds {found}")
    return np.frombuffer(values, np.uint8).reshape(shape)
