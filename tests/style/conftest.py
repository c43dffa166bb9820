"""Photos, and their negatives under the same names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cyclecast.style import plan, result, stages
from cyclecast.style.plan import training_config
from cyclecast.training.config import TrainConfig
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene


def small_training_config(*arguments: Any, **settings: Any) -> TrainConfig:
    """Returns the settings of a run with two images in a batch instead of eight, which would take most of the time."""
    return training_config(*arguments, **settings | {"batch_size": 2})


@pytest.fixture(scope="session", autouse=True)
def small_work() -> Iterator[None]:
    """Trains on small batches, and times a finished style on two frames instead of twelve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result, "TIMED_FRAMES", 2)
        for module in (plan, stages):
            patch.setattr(module, "training_config", small_training_config)
        yield


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes six frames of the demo's scene, 320x192."""
    folder = tmp_path_factory.mktemp("photos")
    for number, frame in enumerate(Scene(320, 192, seconds=3, rate=2)):
        cv2.imwrite(str(folder / f"{number}.png"), frame.image)
    return folder


@pytest.fixture(scope="session")
def negatives(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes the negatives of the photos, under the same names."""
    folder = tmp_path_factory.mktemp("negatives")
    for path in photos.iterdir():
        cv2.imwrite(str(folder / path.name), 255 - read(path))
    return folder


def read(path: Path) -> Image:
    """Reads a (H, W, 3) uint8 BGR image."""
    return np.asarray(cv2.imread(str(path)), np.uint8)
