"""Small data sets for experiments and evaluations: digits, label maps, photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

COLORS = np.array([[40, 90, 200], [128, 64, 128], [220, 60, 60], [60, 160, 60], [0, 0, 0]], np.uint8)  # RGB
CLASSES = ("sky", "road", "building", "tree", "unlabelled")


def draw_digits(count: int, side: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draws as many of each digit, thin or bold, large or small, anywhere: (N, S, S) uint8, white on black, and the labels."""
    random = np.random.default_rng(seed)
    images, labels = np.zeros((count, 112, 112), np.uint8), np.arange(count) % 10
    for image, label in zip(images, labels, strict=True):
        at = int(random.integers(12, 32)), int(random.integers(84, 104))
        cv2.putText(image, str(label), at, cv2.FONT_HERSHEY_SIMPLEX, random.uniform(2.6, 3.4), 255, int(random.integers(5, 15)))
    return np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images]), labels


@pytest.fixture(scope="session")
def teacher(small_config: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of cyclegan after two steps: its output is arbitrary, but not its input."""
    from cyclecast.training.loop import train

    run = tmp_path_factory.mktemp("teacher") / "run"
    train("cyclegan", small_config("cyclegan", run, steps=2, norm="none", upsample="resize"))
    return run


@pytest.fixture(scope="session")
def drawn_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mnist.npz of 28x28 pixels and usps.npz of 16x16, each in its own layout: 60 digits for training, 40 for testing."""
    folder = tmp_path_factory.mktemp("drawn")
    (train, of_train), (test, of_test) = draw_digits(60, 28, 0), draw_digits(40, 28, 1)
    np.savez(folder / "mnist.npz", x_train=train, y_train=of_train, x_test=test, y_test=of_test)
    (train, of_train), (test, of_test) = draw_digits(60, 16, 2), draw_digits(40, 16, 3)
    units = [images / 255 for images in (train, test)]
    np.savez(folder / "usps.npz", train_images=units[0], train_labels=of_train, test_images=units[1], test_labels=of_test)
    return folder


@pytest.fixture(scope="session")
def drawn_streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """camvid: 8 label maps for training, 8 for validation, and photos, which are the negatives of their colors; facades."""
    folder = tmp_path_factory.mktemp("streets")
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in (f"camvid/{part}", f"camvid/{part}_labels", f"facades/{part}"):
            (folder / name).mkdir(parents=True)
        for index in range(8):
            labels = street(random)
            photo = 255 - COLORS[labels][..., ::-1]
            cv2.imwrite(str(folder / f"camvid/{part}_labels/{index}.png"), labels)
            cv2.imwrite(str(folder / f"camvid/{part}/{index}.png"), photo)
            pair = np.concatenate([photo, 255 - photo], 1)[:, 16:176]
            cv2.imwrite(str(folder / f"facades/{part}/{index}.png"), pair)
    rows = [f"{index},{name},{','.join(map(str, COLORS[index]))}" for index, name in enumerate(CLASSES)]
    (folder / "camvid" / "classes.csv").write_text("\n".join(["index,name,r,g,b", *rows]))
    return folder


def street(random: np.random.Generator) -> NDArray[np.uint8]:
    """Draws (64, 96) uint8 class indices: sky over a road, a house and a tree, and a strip that nobody labeled."""
    labels = np.zeros((64, 96), np.uint8)
    horizon, house, tree = random.integers(24, 44), random.integers(18, 40), random.integers(50, 68)
    labels[horizon:] = 1
    labels[horizon - 16 : horizon + 4, house : house + 14] = 2
    labels[horizon - 12 : horizon + 8, tree : tree + 8] = 3
    labels[60:] = 4
    return labels
