"""Compares a generator's images with the real ones of the target domain, by every measure that the data allow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cyclecast.errors import InputError
from cyclecast.training.checkpoint import CPU, generate
from cyclecast.training.data import DigitSet, find_digits, open_domain, to_bytes
from cyclecast.training.data.labels import Palette
from cyclecast.training.evaluate.classifier import accuracy, train_classifier
from cyclecast.training.evaluate.distribution import ClassifierFeatures, Extractor, ImageNetFeatures, fid_kid, inception_features
from cyclecast.training.evaluate.domains import (
    MAX_IMAGES,
    DomainPaths,
    downscale,
    load_label_splits,
    load_splits,
    require_images,
)
from cyclecast.training.evaluate.flicker import structure_kept
from cyclecast.training.evaluate.labels import classes_from_colors, confusion, label_scores
from cyclecast.training.evaluate.segmentation import SegmentationNet, predict, train_segmentation
from cyclecast.training.networks import LatentGenerator
from cyclecast.training.ssim import WINDOW

Translate = Callable[[Tensor], Tensor]  # (N, 3, S, S) uint8, RGB -> the same
DIRECTIONS = ("a2b", "b2a")
CLASSIFIER_SIDE = 64  # pixels of the images that the classifier of the two domains sees
CLASSIFIER_STEPS, DIGIT_STEPS, SEGMENTATION_STEPS = 300, 1000, 500
UNLABELED_CLASSES = ("unlabelled", "unlabeled", "void")  # names of a palette's last class that mark pixels without a label


def evaluate_translation(
    translate: Translate,
    direction: str,
    paths: DomainPaths,
    *,
    side: int,
    inception: Path | None = None,
    seed: int = 0,
    device: torch.device = CPU,
) -> dict[str, Any]:
    """Returns the figures of one direction (`a2b` or `b2a`) by name.

    Always: structure_kept (SSIM to the source). Digits: digit_accuracy of a classifier trained on the target's digits, with
    digit_accuracy_untranslated beside it. Label maps: per_pixel, per_class and class_iou of the nearest label color or, from
    labels to photos, of a segmentation network trained on the real photos. Folders: classified_as_target by a classifier of
    the two domains. FID and KID to the target's test images, or to all of them where there is no test split: in the features
    of the Inception weights in the file `inception`, else of EfficientNet-Lite2 (digits: of the classifier of digits), under
    names that state which.

    side: pixels of the center crops. device: where the classifiers are trained and the features computed. Raises InputError if
    images are missing or too few, or `side` does not fit.
    """
    if direction not in DIRECTIONS:
        raise InputError(f"expected the direction a2b or b2a, got {direction!r}")
    if side < WINDOW:
        raise InputError(f"evaluate needs images of {WINDOW}x{WINDOW} pixels or more (SSIM's window), got {side}x{side}")
    source, target = direction[0], direction[2]
    source_path, target_path = paths.splits(source)[0], paths.splits(target)[0]
    if not source_path.is_dir():
        return _evaluate_digits(translate, source_path, target_path, side, paths.tight, inception, seed, device)
    labels = paths.label_domain()
    if labels is not None and labels[0] == source and side % SegmentationNet.stride:
        raise InputError(f"evaluate needs crops of a multiple of {SegmentationNet.stride} pixels to label photos, got {side}")
    source_train, source_test = load_splits(paths, source, side)
    target_train, target_test = load_splits(paths, target, side)
    source_split, target_split = paths.splits(source)[1], paths.splits(target)[1]
    require_images(source_split or source_path, len(source_test), held_out=source_split is None)
    real = target_test if target_split else torch.cat([target_train, target_test])
    require_images(target_split or target_path, len(real))

    extractor = (ImageNetFeatures() if inception is None else inception_features(inception)).to(device)
    translated = translate(source_test)
    figures: dict[str, Any] = {
        "images": len(translated),
        "structure_kept": _mean_structure_kept(source_test, translated),
        **_domain_figures(source_train, target_train, source_test, translated, seed, device),
        **fid_kid(real, translated, extractor, seed=seed).named(),
    }
    if labels is not None:
        figures |= label_figures(translate, direction, paths, labels, side, seed, device)
    return figures


def evaluate_samples(
    network: LatentGenerator,
    domain: Path,
    *,
    side: int,
    inception: Path | None = None,
    seed: int = 0,
    device: torch.device = CPU,
) -> dict[str, Any]:
    """Returns FID and KID of a latent generator's images against the real ones of `domain`.

    Digits: in the features of a classifier of them. Other images need the Inception weights in `inception`, else InputError.
    device: where the classifier is trained and the features are computed.
    """
    extractor: Extractor
    domain = find_digits(domain)
    if domain.is_dir():
        if inception is None:
            raise InputError(
                f"{domain}: FID of a single domain needs --inception, a file of Inception weights: "
                "without classes there is no classifier to train"
            )
        real = to_bytes(open_domain(domain, (side, side), side).first(MAX_IMAGES, side))
    else:
        real = DigitSet(domain, side, "test").bytes()[0]
    require_images(domain, len(real))
    if inception is not None:
        extractor = inception_features(inception).to(device)
    else:
        images, labels = DigitSet(domain, side).bytes()
        images = images.to(device)
        extractor = ClassifierFeatures(train_classifier(images, labels, classes=10, steps=DIGIT_STEPS, shift=2, seed=seed))
    latents = torch.randn(len(real), network.latent, generator=torch.Generator().manual_seed(seed))
    generated = to_bytes(generate(network, latents))
    return {"images": len(generated), **fid_kid(real, generated, extractor, seed=seed).named()}


def _mean_structure_kept(source: Tensor, translated: Tensor) -> float:
    """Returns the mean SSIM of the first 100 pairs of (N, 3, S, S) uint8."""
    pairs = zip(source[:100].permute(0, 2, 3, 1).numpy(), translated[:100].permute(0, 2, 3, 1).numpy(), strict=True)
    return float(np.mean([structure_kept(before[..., ::-1], after[..., ::-1]) for before, after in pairs]))


def _domain_figures(
    source_train: Tensor, target_train: Tensor, source_test: Tensor, translated: Tensor, seed: int, device: torch.device
) -> dict[str, float]:
    """Returns the shares of translated and of untranslated images that a classifier of both domains assigns to the target."""
    small_source, small_target = downscale(source_train, CLASSIFIER_SIDE), downscale(target_train, CLASSIFIER_SIDE)
    labels = torch.cat([torch.zeros(len(small_source)), torch.ones(len(small_target))])
    classifier = train_classifier(
        torch.cat([small_source, small_target]).to(device),
        labels,
        classes=2,
        steps=CLASSIFIER_STEPS,
        batch_size=64,
        shift=4,
        flip=True,
        seed=seed,
    )
    return {
        "classified_as_target": accuracy(classifier, downscale(translated, CLASSIFIER_SIDE), torch.ones(len(translated))),
        "source_classified_as_target": accuracy(
            classifier, downscale(source_test, CLASSIFIER_SIDE), torch.ones(len(source_test))
        ),
    }


def _evaluate_digits(
    translate: Translate,
    source: Path,
    target: Path,
    side: int,
    tight: bool,
    inception: Path | None,
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    target_train, target_test = (DigitSet(target, side, split, tight) for split in ("train", "test"))
    source_images, source_labels = DigitSet(source, side, "test", tight).bytes()
    require_images(source, len(source_images))
    require_images(target, len(target_test))
    images, labels = target_train.bytes()
    real, real_labels = target_test.bytes()
    classifier = train_classifier(images.to(device), labels, classes=10, steps=DIGIT_STEPS, shift=3, seed=seed)
    translated = translate(source_images)
    count = min(len(translated), len(real))
    extractor = ClassifierFeatures(classifier) if inception is None else inception_features(inception).to(device)
    return {
        "images": len(translated),
        "structure_kept": _mean_structure_kept(source_images, translated),
        "digit_accuracy": accuracy(classifier, translated, source_labels),
        "digit_accuracy_untranslated": accuracy(classifier, source_images, source_labels),
        "digit_accuracy_of_real_targets": accuracy(classifier, real, real_labels),
        **fid_kid(real[:count], translated[:count], extractor, seed=seed).named(),
    }


def label_figures(
    translate: Translate,
    direction: str,
    paths: DomainPaths,
    labels: tuple[str, Palette],
    side: int,
    seed: int,
    device: torch.device = CPU,
) -> dict[str, float]:
    """Returns the label scores of pairs of label maps and photos. device: where the segmentation network is trained."""
    label_domain, palette = labels
    (_, train_photos, train_classes), (test_maps, test_photos, test_classes) = load_label_splits(paths, side)
    count = len(palette) - (palette.names[-1] in UNLABELED_CLASSES)
    ignore = None if count == len(palette) else count
    if direction[0] == label_domain:
        network = train_segmentation(
            train_photos.to(device),
            train_classes,
            classes=count,
            ignore=ignore,
            steps=SEGMENTATION_STEPS,
            crop=side,
            batch_size=8,
            seed=seed,
        )
        predicted = predict(network, translate(test_maps))
    else:
        predicted = classes_from_colors(translate(test_photos), Palette(palette.names[:count], palette.colors[:count]))
    scores = label_scores(confusion(predicted, test_classes, count, ignore))
    return {"per_pixel": scores.per_pixel, "per_class": scores.per_class, "class_iou": scores.class_iou}
