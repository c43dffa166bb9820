"""Files of digits, whole and damaged, and the domain they make."""

from __future__ import annotations

import gzip
import struct
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cyclecast.errors import InputError
from cyclecast.training.data import (
    DigitSet,
    ImageFolder,
    OneDomain,
    Split,
    find_digits,
    fixed_set,
    open_domain,
    read_digits,
    to_bytes,
)
from tests.conftest import shared


def digits(count: int, side: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, side, side), np.uint8), random.integers(0, 10, count, np.uint8)


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, name: str, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Path:
    (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels))
    (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
    return folder / f"{name}-images-idx3-ubyte"


def write_npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_mnist_archives_hold_both_splits(tmp_path: Path) -> None:
    (train, train_labels), (test, test_labels) = digits(5, 28), digits(3, 28, 1)
    path = write_npz(tmp_path / "m.npz", x_train=train, y_train=train_labels, x_test=test, y_test=test_labels)
    images, labels = read_digits(path)
    assert np.array_equal(images, train) and np.array_equal(labels, train_labels)
    assert images.dtype == np.uint8 and labels.dtype == np.int64
    images, labels = read_digits(path, "test")
    assert np.array_equal(images, test) and np.array_equal(labels, test_labels)


def test_flattened_floats_are_read_as_digits(tmp_path: Path) -> None:
    images, labels = digits(4, 16)
    flat = images.reshape(4, 256).astype(np.float32) / 255
    path = write_npz(tmp_path / "usps.npz", train_images=flat, train_labels=labels.astype(np.int32))
    assert np.array_equal(read_digits(path)[0], images)


def test_hdf5_holds_both_splits(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "usps.h5", "w") as file:
        for seed, split in enumerate(("train", "test")):
            images, labels = digits(4, 16, seed)
            file[f"{split}/data"], file[f"{split}/target"] = images.reshape(4, 256) / 255.0, labels
    splits: list[Split] = ["train", "test"]
    for seed, split in enumerate(splits):
        images, labels = digits(4, 16, seed)
        read, read_labels = read_digits(tmp_path / "usps.h5", split)
        assert np.array_equal(read, images) and np.array_equal(read_labels, labels)
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["other"] = np.zeros(3)
    with pytest.raises(InputError, match="expected train/data and train/target, got other"):
        read_digits(tmp_path / "empty.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InputError, match="damaged"):
        read_digits(tmp_path / "text.h5")


def test_hdf5_without_h5py_is_an_error_with_the_command_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "usps.h5").write_bytes(b"")
    with pytest.raises(InputError, match="pip install h5py"):
        read_digits(tmp_path / "usps.h5")


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_idx_files_are_read_gzipped_or_not(zipped: bool, tmp_path: Path) -> None:
    images, labels = digits(6, 28)
    path = write_idx(tmp_path, "train", images, labels)
    if zipped:
        for plain in list(tmp_path.iterdir()):
            plain.with_name(f"{plain.name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
            plain.unlink()
        path = path.with_name(f"{path.name}.gz")
    read, read_labels = read_digits(path)
    assert np.array_equal(read, images) and np.array_equal(read_labels, labels)


def test_the_test_split_of_an_idx_file_is_its_t10k_sibling(tmp_path: Path) -> None:
    train = write_idx(tmp_path, "train", *digits(6, 28))
    assert len(read_digits(train, "test")[0]) == 6  # it has no sibling yet
    test = write_idx(tmp_path, "t10k", *digits(2, 28))
    assert len(read_digits(train, "train")[0]) == 6
    assert len(read_digits(train, "test")[0]) == 2
    assert len(read_digits(test, "train")[0]) == 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: b"\0\0\x0d" + whole[3:], "starts with 00000d03, not with 00000803"),
        (lambda whole: b"", "starts with nothing"),
        (lambda whole: whole[:9], "starts with 00000803"),
        (lambda whole: whole[:-5], "holds only"),
        (lambda whole: whole + b"more", "holds more"),
        (lambda whole: whole[:4] + b"\xff" * 12 + whole[16:], "takes .* GB; at most 0.02 GB are read"),
        (lambda whole: gzip.compress(whole)[:-20], "damaged"),
        (lambda whole: idx(digits(5, 28)[0]), "5 images, but labels of shape"),
        (lambda whole: idx(digits(0, 28)[0]), "expected .* square images"),
        (lambda whole: idx(np.zeros((6, 28, 20), np.uint8)), "expected .* square images, got"),
    ],
    ids=["magic", "empty", "header", "truncated", "longer", "huge", "gzip", "count", "none", "oblong"],
)
def test_a_damaged_idx_file_is_an_error(damage: object, message: str, tmp_path: Path) -> None:
    path = write_idx(tmp_path, "train", *digits(6, 28))
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=message) as caught:
        read_digits(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_malformed_archives_are_errors(tmp_path: Path) -> None:
    images, labels = digits(4, 28)
    cases: dict[str, dict[str, object]] = {
        "expected x_train and y_train or train_images and train_labels, got x_train": {"x_train": images},
        "4 images, but labels of shape": {"x_train": images, "y_train": labels[:3]},
        "expected labels from 0 to 9": {"x_train": images, "y_train": labels + 10},
        "expected floats in": {"x_train": images.astype(np.float32), "y_train": labels},
        "expected uint8": {"x_train": images.astype(np.int64), "y_train": labels},
        "got \\(4, 27\\)": {"x_train": images.reshape(4, -1)[:, :27], "y_train": labels},
        "got \\(\\)": {"x_train": np.uint8(1), "y_train": labels},
        "damaged": {"x_train": np.array([{}, {}, {}, {}], object), "y_train": labels},  # a pickle is never opened
    }
    for message, arrays in cases.items():
        with pytest.raises(InputError, match=message):
            read_digits(write_npz(tmp_path / "bad.npz", **arrays))
    whole = write_npz(tmp_path / "bad.npz", x_train=images, y_train=labels).read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2]):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(InputError, match="not an archive"):
            read_digits(tmp_path / "bad.npz")


def test_other_files_are_errors_that_name_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_digits(tmp_path / "nowhere.npz")
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"")
    with pytest.raises(InputError, match="expected .npz, .h5, .hdf5 or ...images-idx3-ubyte"):
        read_digits(tmp_path / "train-labels-idx1-ubyte")
    path = write_idx(tmp_path, "train", *digits(2, 28))
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="expected its labels beside it, train-labels-idx1-ubyte or"):
        read_digits(path)


def test_digits_fill_the_image_at_any_size_and_are_never_flipped(tmp_path: Path) -> None:
    images, labels = digits(3, 28)
    path = write_npz(tmp_path / "m.npz", x_train=images, y_train=labels)
    assert np.array_equal(to_bytes(DigitSet(path, 28).tensor([2]))[0].numpy(), np.stack([images[2]] * 3))
    for size in (32, 56):
        enlarged = to_bytes(DigitSet(path, size).tensor([2]))[0]
        assert enlarged[..., 0].any() and enlarged[..., -1].any()  # noise to the border, no rim
    assert DigitSet(path, 14).tensor([0, 1]).shape == (2, 3, 14, 14)
    drawn = OneDomain(DigitSet(path, 32)).batch(0, 0, 20)[0]
    known = {image.numpy().tobytes() for image in DigitSet(path, 32).tensor(range(3))}
    assert {image.numpy().tobytes() for image in drawn} == known


def test_digits_depend_on_seed_and_step_alone_and_keep_their_labels(tmp_path: Path) -> None:
    images, labels = digits(12, 16)
    path = write_npz(tmp_path / "u.npz", train_images=images, train_labels=labels)
    domain = open_domain(path, (286, 286), 32)
    assert isinstance(domain, DigitSet) and len(domain) == 12
    assert domain.labels.tolist() == labels.tolist()
    data = OneDomain(domain)
    assert torch.equal(data.batch(1, 4, 4)[0], torch.cat([data.batch(1, 4, 2)[0], data.batch(1, 4, 2, first=2)[0]]))
    assert torch.equal(fixed_set(path, 4, 32), domain.tensor([0, 4, 7, 11]))


def test_the_real_files_are_mnist_and_usps() -> None:
    folder = shared("data/digits")
    cases: list[tuple[str, Split, int, int]] = [
        ("mnist.npz", "train", 60000, 28),
        ("mnist.npz", "test", 10000, 28),
        ("usps.npz", "train", 7291, 16),
        ("usps.npz", "test", 2007, 16),
        ("t10k-images-idx3-ubyte.gz", "train", 10000, 28),
        ("t10k-images-idx3-ubyte.gz", "test", 10000, 28),
    ]
    for name, split, count, side in cases:
        images, labels = read_digits(folder / name, split)
        assert images.shape == (count, side, side) and labels.shape == (count,)
        assert set(labels.tolist()) == set(range(10))
        assert images.max() >= 254
        assert 0.05 < images.mean() / 255 < 0.4  # white on black
    assert np.array_equal(read_digits(folder / "mnist.npz", "test")[1], read_digits(folder / "t10k-images-idx3-ubyte.gz")[1])


def test_tight_digits_are_cropped_to_the_ink_of_their_set(tmp_path: Path) -> None:
    images = np.zeros((4, 28, 28), np.uint8)
    images[:, 6:22, 8:20] = 200
    images[0, 1, 1] = 1  # a speck in a corner is no reason to keep the border
    path = write_npz(tmp_path / "m.npz", x_train=images, y_train=np.arange(4))
    assert DigitSet(path, 16).images.shape == (4, 28, 28)
    assert DigitSet(path, 16, tight=True).images.shape == (4, 16, 16)
    full = write_npz(tmp_path / "u.npz", x_train=np.full((2, 16, 16), 9, np.uint8), y_train=np.arange(2))
    assert DigitSet(full, 16, tight=True).images.shape == (2, 16, 16)


def test_tight_digits_of_the_real_sets_have_the_expected_sizes() -> None:
    splits: tuple[Split, Split] = ("train", "test")  # the test digits by the border of the training ones
    for split in splits:
        assert DigitSet(shared("data/digits/mnist.npz"), 32, split, tight=True).images.shape[1:] == (24, 24)
        assert DigitSet(shared("data/digits/usps.npz"), 32, split, tight=True).images.shape[1:] == (16, 16)


def test_a_folder_with_one_file_of_digits_is_digits(tmp_path: Path) -> None:
    images, labels = digits(4, 28)
    path = write_npz(tmp_path / "mnist.npz", x_train=images, y_train=labels)
    domain = open_domain(tmp_path, None, 28)
    assert isinstance(domain, DigitSet) and len(domain) == 4 and find_digits(tmp_path) == path
    usps = write_npz(tmp_path / "usps.npz", train_images=images, train_labels=labels)
    with pytest.raises(InputError, match=f"holds 2 files of digits; name one of them: {path}, {usps}"):
        open_domain(tmp_path, None, 28)


def test_a_folder_of_idx_files_is_its_training_split(tmp_path: Path) -> None:
    write_idx(tmp_path, "t10k", *digits(2, 28))
    train = write_idx(tmp_path, "train", *digits(6, 28))
    train.with_name(f"{train.name}.gz").write_bytes(gzip.compress(train.read_bytes()))
    assert find_digits(tmp_path) == train
    domain = open_domain(tmp_path, None, 28)
    assert isinstance(domain, DigitSet) and len(domain) == 6


def test_a_folder_with_images_stays_a_folder_of_images(domains: Path, tmp_path: Path) -> None:
    write_npz(tmp_path / "features.npz", x=np.zeros(3))
    (tmp_path / "0.png").write_bytes((domains / "trainA" / "0.png").read_bytes())
    assert isinstance(open_domain(tmp_path, (40, 40), 32), ImageFolder) and find_digits(tmp_path) == tmp_path
    assert find_digits(tmp_path / "none") == tmp_path / "none"


def hostile_npz(path: Path, header: tuple[int, ...], zeros: int) -> None:
    """Writes images whose header announces a shape, followed by compressed zeros, with 3 labels."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("x_train.npy", "w") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": header})
            for _ in range(zeros >> 20):
                file.write(bytes(1 << 20))
        with archive.open("y_train.npy", "w") as file:
            np.lib.format.write_array(file, np.zeros(3, np.uint8))


def huge_hdf5(path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.create_dataset("train/data", (4_000_000, 256), np.uint8, chunks=(1, 256), fillvalue=7)
        file["train/target"] = np.zeros(3)


def hdf5_with_a_huge_chunk(path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        data = file.create_dataset("train/data", (3, 256), np.uint8, chunks=(1_000_000, 256), maxshape=(None, 256))
        file["train/target"] = np.zeros(3)
        data.resize(4, axis=0)


def hdf5_with_a_chunk_that_unpacks(path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        data = file.create_dataset("train/data", (3, 256), np.uint8, chunks=(3, 256), compression="gzip")
        data.id.write_direct_chunk((0, 0), zlib.compress(bytes(64 << 20)))
        file["train/target"] = np.zeros(3)


def hdf5_of_another_file(path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.create_dataset("train/data", (3, 256), np.uint8, external=[("/dev/zero", 0, 3 * 256)])
        file["train/target"] = np.zeros(3)


def hostile_gzip(path: Path) -> None:
    images = struct.pack(">HBB3I", 0, 8, 3, 1 << 20, 16, 16) + bytes(64 << 20)
    path.write_bytes(gzip.compress(images, 9))
    path.with_name("train-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))


@pytest.mark.parametrize(
    ("write", "name", "message"),
    [
        (lambda path: hostile_npz(path, (3, 16, 16), 64 << 20), "zeros.npz", "x_train takes 0.07 GB; at most 0.02 GB are read"),
        (lambda path: hostile_npz(path, (4_000_000, 16, 16), 0), "header.npz", "x_train takes 1.02 GB; at most 0.02 GB"),
        (huge_hdf5, "huge.h5", "/train/data takes 1.02 GB; at most 0.02 GB"),
        (hdf5_with_a_huge_chunk, "chunk.h5", "a chunk of /train/data takes 0.26 GB"),
        (hdf5_with_a_chunk_that_unpacks, "unpacks.h5", "a chunk of /train/data unpacks to more than its size"),
        (hdf5_of_another_file, "other.h5", "/train/data is stored in another file"),
        (hostile_gzip, "train-images-idx3-ubyte.gz", "the array of train-images-idx3-ubyte.gz takes 0.27 GB; at most 0.02 GB"),
    ],
    ids=["npz", "npz header", "hdf5 fill value", "hdf5 chunk", "hdf5 gzip", "hdf5 external", "idx gzip"],
)
def test_a_small_file_that_asks_for_much_memory_is_refused(
    write: Callable[[Path], None], name: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    write(path)
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=rf"^{path}: cannot be read as digits \(train\): {message}"):
            read_digits(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
