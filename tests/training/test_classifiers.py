"""Label scores equal a calculation by hand; classifiers and segmentation networks learn, reproducibly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cyclecast.errors import InputError
from cyclecast.training.evaluate.classifier import SmallClassifier, accuracy, classify, random_shift, train_classifier
from cyclecast.training.evaluate.labels import confusion, label_scores
from cyclecast.training.evaluate.segmentation import SegmentationNet, class_weights, predict, train_segmentation
from tests.conftest import shared


def test_label_scores_of_four_pixels_equal_a_calculation_by_hand() -> None:
    truth = torch.tensor([[0, 0], [0, 1]])
    predicted = torch.tensor([[0, 0], [1, 1]])
    counts = confusion(predicted, truth, 2)
    assert counts.tolist() == [[2, 1], [0, 1]]
    scores = label_scores(counts)
    assert scores.per_pixel == pytest.approx(3 / 4)
    assert scores.per_class == pytest.approx((2 / 3 + 1) / 2)
    assert scores.class_iou == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_a_class_that_is_only_predicted_lowers_iou_and_an_absent_one_does_not() -> None:
    truth = torch.tensor([0, 0, 0, 0])
    predicted = torch.tensor([0, 0, 0, 2])
    scores = label_scores(confusion(predicted, truth, 4))
    assert scores.per_class == pytest.approx(3 / 4)  # of class 0 alone
    assert scores.class_iou == pytest.approx((3 / 4 + 0) / 2)  # classes 0 and 2; 1 and 3 are nowhere


def test_ignored_pixels_do_not_count_and_other_unknown_labels_are_errors() -> None:
    truth = torch.tensor([0, 1, 11], dtype=torch.uint8)
    assert confusion(torch.tensor([0, 1, 99]), truth, 2, ignore=11).tolist() == [[1, 0], [0, 1]]
    assert math.isnan(label_scores(confusion(truth[2:], truth[2:], 2, ignore=11)).per_pixel)
    with pytest.raises(InputError, match="true labels run from 0 to 11, expected 0 to 1"):
        confusion(torch.tensor([0, 1, 1]), truth, 2)
    with pytest.raises(InputError, match="predicted labels"):
        confusion(torch.tensor([0, 2, 1]), truth, 2, ignore=11)
    with pytest.raises(InputError, match="must have one shape"):
        confusion(torch.zeros(2, 2, dtype=torch.long), truth, 2)


def stripes(count: int, size: int = 16) -> tuple[Tensor, Tensor]:
    """Draws noisy stripes, vertical (0) or horizontal (1), at any place, with any contrast; as many of each."""
    random = torch.Generator().manual_seed(count)
    wave = torch.sin(torch.arange(size) * 1.2 + 6.3 * torch.rand(count, 1, generator=random))[:, None, None, :]
    labels = torch.arange(count) % 2
    images = torch.where(labels[:, None, None, None] == 0, wave.expand(-1, 3, size, -1), wave.mT.expand(-1, 3, -1, size))
    noise = 40 * torch.randn(count, 3, size, size, generator=random)
    return (127 + 60 * images + noise).clamp(0, 255).byte(), labels


def test_a_classifier_learns_and_keeps_the_random_state() -> None:
    images, labels = stripes(256)
    progress: list[tuple[int, int]] = []
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    classifier = train_classifier(
        images, labels, classes=2, steps=40, batch_size=32, width=8, on_progress=lambda *p: progress.append(p)
    )
    assert torch.equal(torch.rand(3), expected)
    assert progress[0] == (1, 40) and progress[-1] == (40, 40)
    assert not classifier.training
    assert accuracy(classifier, *stripes(200)) > 0.95
    assert accuracy(classifier, images, 1 - labels) < 0.05


def test_a_classifier_depends_on_the_seed_alone() -> None:
    images, labels = stripes(64)
    first, again, other = (
        train_classifier(images, labels, classes=2, steps=5, seed=seed, width=8, shift=2, flip=True) for seed in (1, 1, 2)
    )
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.head.weight, other.head.weight)
    assert torch.equal(classify(first, images), classify(first, images, batch_size=7))


def test_shifting_moves_whole_images_and_fills_with_black() -> None:
    image = torch.full((1, 3, 9, 9), -1.0)
    image[:, :, 4, 4] = 1.0
    moved = random_shift(image.repeat(200, 1, 1, 1), 2, torch.Generator().manual_seed(0))
    assert moved.shape == (200, 3, 9, 9)
    assert ((moved > 0).sum((1, 2, 3)) == 3).all()  # one pixel, three channels
    assert {tuple(place) for place in (moved[:, 0] > 0).nonzero()[:, 1:].tolist()} == {
        (y, x) for y in range(2, 7) for x in range(2, 7)
    }


def test_a_classifier_rejects_images_and_labels_that_do_not_match() -> None:
    images, labels = stripes(4)
    with pytest.raises(InputError, match="uint8"):
        train_classifier(images.float(), labels, classes=2, steps=1)
    with pytest.raises(InputError, match="as many labels"):
        train_classifier(images, labels[:3], classes=2, steps=1)
    with pytest.raises(InputError, match="labels run from 0 to 1, expected 0 to 0"):
        train_classifier(images, labels, classes=1, steps=1)
    assert SmallClassifier(2, 8).features(torch.zeros(5, 3, 20, 24)).shape == (5, 32)


def test_a_classifier_reads_real_digits_after_seconds_of_training() -> None:
    digits = np.load(shared("data/digits/usps.npz"))

    def read(part: str, count: int) -> tuple[Tensor, Tensor]:
        gray = torch.from_numpy(digits[f"{part}_images"][:count]).float().reshape(-1, 1, 16, 16)
        large = functional.interpolate(gray, size=32, mode="bilinear")
        return (255 * large).round().byte().expand(-1, 3, -1, -1), torch.from_numpy(digits[f"{part}_labels"][:count]).long()

    classifier = train_classifier(*read("train", 4000), classes=10, steps=100, batch_size=64, width=16, shift=2)
    assert accuracy(classifier, *read("test", 1000)) > 0.85


def scenes(count: int) -> tuple[Tensor, Tensor]:
    """Draws sky over ground (0, 1) with a box (2) on it, 32x40, dim or bright; a column that nobody labeled (9)."""
    random = np.random.default_rng(count)
    labels = np.zeros((count, 32, 40), np.uint8)
    for label in labels:
        horizon, x = random.integers(10, 22), random.integers(2, 28)
        label[horizon:] = 1
        label[horizon - 4 : horizon + 6, x : x + 10] = 2
    colors = np.array([[150, 180, 220], [90, 110, 60], [170, 60, 60]])
    photos = colors[labels] * random.uniform(0.7, 1.1, (count, 1, 1, 1)) + random.normal(0, 12, (count, 32, 40, 3))
    labels[:, :, 39] = 9
    return torch.from_numpy(photos.clip(0, 255).astype(np.uint8)).permute(0, 3, 1, 2), torch.from_numpy(labels)


def test_a_segmentation_net_labels_scenes_it_has_not_seen() -> None:
    photos, labels = scenes(40)
    net = train_segmentation(photos, labels, classes=3, ignore=9, steps=30, crop=32, batch_size=8, width=8)
    unseen, truth = scenes(12)
    found = predict(net, unseen[..., :32])
    assert found.shape == (12, 32, 32) and not net.training
    scores = label_scores(confusion(found, truth[..., :32], 3, ignore=9))
    assert scores.per_pixel > 0.85 and scores.class_iou > 0.65


def test_a_segmentation_net_is_the_same_for_the_same_seed() -> None:
    photos, labels = scenes(6)
    first, again, other = (
        train_segmentation(photos, labels, classes=3, ignore=9, steps=2, crop=32, batch_size=4, width=4, seed=seed)
        for seed in (3, 3, 4)
    )
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.head.weight, other.head.weight)


def test_rare_classes_have_higher_weights_and_absent_ones_none() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 9], dtype=torch.uint8)
    weights = class_weights(labels, 3, power=1.0)
    assert weights.tolist() == pytest.approx([0.625, 2.5, 0.0])  # each class seen has half of the 5 pixels' weight
    assert class_weights(labels, 3, power=0.0).tolist() == pytest.approx([1.0, 1.0, 0.0])


def test_segmentation_rejects_labels_and_sizes_that_do_not_match() -> None:
    photos, labels = scenes(2)
    with pytest.raises(InputError, match="0 to 2, or None to ignore"):
        train_segmentation(photos, labels, classes=3, ignore=None, steps=1, crop=32)
    with pytest.raises(InputError, match="multiple of 32 within"):
        train_segmentation(photos, labels, classes=3, ignore=9, steps=1, crop=64)
    with pytest.raises(InputError, match="one per pixel"):
        train_segmentation(photos, labels[:, :31], classes=3, ignore=9, steps=1, crop=32)
    assert SegmentationNet(5, 4)(torch.zeros(2, 3, 64, 96)).shape == (2, 5, 64, 96)
