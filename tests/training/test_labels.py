"""Label maps: class indices in files, colors in batches."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cyclecast.errors import InputError
from cyclecast.training.data import (
    ImageFolder,
    PairedData,
    Palette,
    colorize,
    find_palette,
    nearest_class,
    read_palette,
    to_bytes,
)
from tests.conftest import shared

TABLE = "index,name,r,g,b\n1,road,128,64,128\n0,sky,0,128,255\n2,tree,10,200,0\n"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A folder of three label maps of three classes, its table beside it."""
    (tmp_path / "classes.csv").write_text(TABLE)
    folder = tmp_path / "train_labels"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), stripes(index))
    return folder


def stripes(shift: int = 0) -> NDArray[np.uint8]:
    """Draws (40, 50) uint8: vertical stripes of the classes 0, 1 and 2."""
    return np.tile(((np.arange(50) + shift) // 5 % 3).astype(np.uint8), (40, 1))


def palette() -> Palette:
    return Palette(("sky", "road", "tree"), np.array([[0, 128, 255], [128, 64, 128], [10, 200, 0]], np.uint8))


def test_a_table_is_read_in_the_order_of_its_indices(labels: Path) -> None:
    read = read_palette(labels.parent / "classes.csv")
    assert read.names == palette().names and len(read) == 3
    assert np.array_equal(read.colors, palette().colors) and read.colors.dtype == np.uint8


def test_only_a_folder_of_labels_with_a_table_has_a_palette(labels: Path, tmp_path: Path) -> None:
    beside = find_palette(labels)
    assert beside is not None and beside.names == ("sky", "road", "tree")
    (labels / "classes.csv").write_text("index,name,r,g,b\n0,all,1,2,3\n")
    inside = find_palette(labels)
    assert inside is not None and inside.names == ("all",)
    (tmp_path / "photos").mkdir()
    assert find_palette(tmp_path / "photos") is None
    (labels / "classes.csv").unlink()
    (tmp_path / "classes.csv").unlink()
    assert find_palette(labels) is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "indices must be 0, 1, 2"),
        ("index,name\n0,sky\n", "line 2: expected the columns index,name,r,g,b"),
        ("index,name,r,g,b\n0,sky,1,2\n", "line 2: expected the columns"),
        ("index,name,r,g,b\n0,sky,1,2,blue\n", "line 2: expected the columns"),
        ("index,name,r,g,b\n0,sky,1,2,3\n1,sea,1,2,256\n", "line 3: r, g and b must be 0 to 255"),
        ("index,name,r,g,b\n0,sky,1,2,3\n2,sea,1,2,3\n", "each once; got 0, 2"),
        ("index,name,r,g,b\n0,sky,1,2,3\n0,sea,1,2,3\n", "each once; got 0, 0"),
        ("index,name,r,g,b\n0,\xff\xfe,1,2,3\n", "cannot be read as CSV"),
    ],
)
def test_a_malformed_table_is_an_error_that_names_the_line(table: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_bytes(table.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        read_palette(tmp_path / "classes.csv")


def test_colors_with_noise_map_to_their_class() -> None:
    indices = stripes()
    image = colorize(indices, palette())
    assert image.shape == (40, 50, 3) and image.dtype == np.uint8
    assert np.array_equal(nearest_class(image, palette()), indices)
    noise = np.random.default_rng(0).integers(-20, 21, image.shape)
    assert np.array_equal(nearest_class((image + noise).clip(0, 255).astype(np.uint8), palette()), indices)


def test_an_index_outside_the_table_is_an_error() -> None:
    with pytest.raises(InputError, match="class index 3 is outside the table, expected 0 to 2"):
        colorize(np.full((4, 4), 3, np.uint8), palette())


def test_label_maps_have_only_the_colors_of_their_table(labels: Path) -> None:
    folder = ImageFolder(labels, (41, 77), 40)
    random = np.random.default_rng(0)
    images = torch.cat([to_bytes(torch.stack([folder.draw(random) for _ in range(8)])), to_bytes(folder.first(3, 40))])
    assert {tuple(color) for color in images.permute(0, 2, 3, 1).reshape(-1, 3).tolist()} == {
        tuple(color) for color in palette().colors.tolist()
    }


def test_an_invalid_label_map_is_skipped_with_one_warning_and_counted(labels: Path, caplog: pytest.LogCaptureFixture) -> None:
    cv2.imwrite(str(labels / "outside.png"), stripes() + 1)
    cv2.imwrite(str(labels / "colors.png"), np.zeros((40, 40, 3), np.uint8))
    folder = ImageFolder(labels, (40, 40), 32)
    random = np.random.default_rng(0)
    with caplog.at_level(logging.WARNING):
        for _ in range(40):
            folder.draw(random)
    assert {path.name for path in folder.skipped} == {"outside.png", "colors.png"}
    messages = sorted(record.getMessage() for record in caplog.records)
    assert len(messages) == 2
    assert "one channel of class indices, got 3 channels" in messages[0]
    assert "class index 3 is outside the table" in messages[1]


def test_camvid_pairs_photos_with_labels() -> None:
    camvid = shared("data/camvid")
    data = PairedData(camvid / "train", camvid / "train_labels", (143, 143), 128)
    photo, label = data.batch(0, 0, 2)
    assert photo.shape == label.shape == (2, 3, 128, 128)
    table = read_palette(camvid / "classes.csv")
    image = to_bytes(label)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(colorize(nearest_class(image, table), table), image)
    assert len(data) == 367 and not data.skipped
