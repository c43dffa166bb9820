"""Folders of images, good and bad."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cyclecast.errors import InputError
from cyclecast.training.data import ImageFolder, UnpairedData, fixed_set
from tests.conftest import shared


def test_a_batch_depends_on_seed_and_step_alone(domains: Path) -> None:
    def data() -> UnpairedData:
        return UnpairedData(ImageFolder(domains / "trainA", (40, 60), 32), ImageFolder(domains / "trainB", (40, 60), 32))

    used = data()
    used.batch(1, 0, 3)
    again, fresh = used.batch(1, 5, 3), data().batch(1, 5, 3)
    assert again[0].shape == (3, 3, 32, 32)
    assert torch.equal(again[0], fresh[0]) and torch.equal(again[1], fresh[1])
    assert not torch.equal(again[0], data().batch(1, 6, 3)[0])
    assert not torch.equal(again[0], data().batch(2, 5, 3)[0])
    assert again[0].abs().max() <= 1


def test_an_unreadable_image_is_skipped_named_once_and_counted(
    domains: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "good.png").write_bytes((domains / "trainA" / "0.png").read_bytes())
    (tmp_path / "text.jpg").write_text("no image")
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((8, 8, 3), np.uint8))
    folder = ImageFolder(tmp_path, (40, 40), 32)
    random = np.random.default_rng(0)
    with caplog.at_level(logging.WARNING):
        for _ in range(40):
            folder.draw(random)
    assert {path.name for path in folder.skipped} == {"text.jpg", "tiny.png"}
    assert len(caplog.records) == 2


def test_no_folder_no_images_and_no_readable_image_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        ImageFolder(tmp_path / "nowhere", (40, 40), 32)
    with pytest.raises(InputError, match="no images in it"):
        ImageFolder(tmp_path, (40, 40), 32)
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(InputError, match="none of its 1 image files can be read"):
        ImageFolder(tmp_path, (40, 40), 32).draw(np.random.default_rng(0))


def test_photos_stand_upright() -> None:
    pictures = fixed_set(shared("media/images"), 3, 64)
    assert pictures.shape == (3, 3, 64, 64)
    folder = shared("media/images")
    upright = [cv2.imread(str(folder / f"Landscape_{turn}.jpg")) for turn in (1, 3, 6, 8)]
    assert len({image.shape for image in upright if image is not None}) == 1  # EXIF is obeyed: all are wide
