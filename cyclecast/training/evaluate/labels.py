"""Predicted label maps against the true ones: per-pixel accuracy, per-class accuracy, class IoU (CycleGAN, tables 2 to 5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cyclecast.errors import InputError
from cyclecast.training.data.labels import Palette, nearest_class


@dataclass(frozen=True, kw_only=True)
class LabelScores:
    """Three shares in [0, 1]; nan if no pixel was counted."""

    per_pixel: float
    """Share of the counted pixels with the right label."""

    per_class: float
    """Share of a class's pixels with the right label; mean over the classes."""

    class_iou: float
    """Intersection over union of a class's true and predicted pixels; mean over the classes."""


def confusion(predicted: Tensor, truth: Tensor, classes: int, ignore: int | None = None) -> Tensor:
    """Counts how many pixels of true class [row] have the predicted class [column]: the confusion matrix, (K, K) int64.

    predicted, truth: (...) of any integer type, of one shape, values in [0, classes). Pixels whose true class is `ignore` do
    not count. Add the matrices of several batches. Raises InputError for any other value.
    """
    if predicted.shape != truth.shape:
        raise InputError(
            f"predicted and true label maps must have one shape, got {tuple(predicted.shape)} and {tuple(truth.shape)}"
        )
    predicted, truth = predicted.flatten().long(), truth.flatten().long()
    if ignore is not None:
        counted = truth != ignore
        predicted, truth = predicted[counted], truth[counted]
    for name, labels in (("predicted", predicted), ("true", truth)):
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise InputError(f"{name} labels run from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")
    return torch.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def label_scores(confusion: Tensor) -> LabelScores:
    """Computes the three scores of a (K, K) confusion matrix, rows the truth (Long et al. 2015, section 5).

    Long et al. average over all K classes. A class without true pixels has no accuracy and is left out of that mean. A
    class without true or predicted pixels has no IoU. A class with predicted pixels alone has IoU 0, as in their code.
    """
    counts = confusion.double()
    right, true, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    return LabelScores(
        per_pixel=float(right.sum() / counts.sum()),
        per_class=float((right / true).nanmean()),
        class_iou=float((right / (true + predicted - right)).nanmean()),
    )


def classes_from_colors(images: Tensor, palette: Palette) -> Tensor:
    """Returns the class whose label color is nearest (CycleGAN, section 5.1.3): (N, 3, H, W) uint8 -> (N, H, W) int64."""
    return torch.from_numpy(nearest_class(images.permute(0, 2, 3, 1).numpy(), palette).astype(np.int64))
