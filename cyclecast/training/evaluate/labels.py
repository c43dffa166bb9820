"""Label maps against the true ones: per-pixel accuracy, per-class accuracy and class IoU, as in CycleGAN's tables 2 to 5."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cyclecast.errors import InputError


@dataclass(frozen=True, kw_only=True)
class LabelScores:
    """Three shares in [0, 1]; nan where not one pixel was counted."""

    per_pixel: float
    """Of the counted pixels, those labelled rightly."""

    per_class: float
    """Of a class's pixels, those labelled rightly; mean over the classes."""

    class_iou: float
    """Of the pixels that truth or prediction gives to a class, those that both give to it; mean over the classes."""


def confusion(predicted: Tensor, truth: Tensor, classes: int, ignore: int | None = None) -> Tensor:
    """(K, K) int64: how many pixels of class [row, the truth] were labelled [column]; of several batches, add them.

    predicted, truth: (...) of any integer type, of one shape, values in [0, classes). Pixels whose truth is `ignore` do
    not count, whatever was predicted. InputError for any other value.
    """
    if predicted.shape != truth.shape:
        raise InputError(f"label maps of one shape are compared, got {tuple(predicted.shape)} and {tuple(truth.shape)}")
    predicted, truth = predicted.flatten().long(), truth.flatten().long()
    if ignore is not None:
        counted = truth != ignore
        predicted, truth = predicted[counted], truth[counted]
    for name, labels in (("predicted", predicted), ("true", truth)):
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise InputError(f"{name} labels run from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")
    return torch.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def label_scores(confusion: Tensor) -> LabelScores:
    """The three scores of a (K, K) confusion, rows the truth (Long et al. 2015, section 5).

    Long et al. average over all K classes. One that the truth never shows has no accuracy, and is left out of that mean;
    one that neither shows has no IoU. One that only the prediction shows has IoU 0, as in their code.
    """
    counts = confusion.double()
    right, true, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    return LabelScores(
        per_pixel=float(right.sum() / counts.sum()),
        per_class=float((right / true).nanmean()),
        class_iou=float((right / (true + predicted - right)).nanmean()),
    )
