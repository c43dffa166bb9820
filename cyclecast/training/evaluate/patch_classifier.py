"""Trains, in seconds, a classifier of patches of a target style and of photos; measures the chroma of patches.

All patches are (N, 3, 128, 128) uint8 RGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.errors import InputError
from cyclecast.training.evaluate.classifier import to_unit
from cyclecast.training.networks.features import EfficientNetFeatures

PATCH = 128
"""Pixels across a patch."""

LEVELS = 4  # maps at 1/2, 1/4, 1/8 and 1/16 describe texture and color; the deepest one would describe what a patch shows
INVERSE_PENALTY = 0.003  # C of scikit-learn: smaller regularizes more; there are hundreds of features, but few images
BATCH = 8  # small maps stay in the cache


class PatchFeatures(nn.Module):
    """(N, 3, 128, 128) uint8 -> (N, D) float64: mean and standard deviation of each channel of EfficientNet-Lite2's maps.

    Generators are trained with Lite0, so they cannot have adapted to this network. Raises MissingExtraError if the weights are
    not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = EfficientNetFeatures("lite2", LEVELS).eval()

    @torch.no_grad()
    def forward(self, patches: Tensor) -> Tensor:
        _check(patches)
        return torch.cat([self._describe(batch) for batch in patches.split(BATCH)]).double()

    def _describe(self, batch: Tensor) -> Tensor:
        maps = [level.flatten(2) for level in self.network(to_unit(batch))]  # (N, C, H * W) each
        return torch.cat([part for each in maps for part in (each.mean(2), each.std(2, correction=0))], 1)


@dataclass(frozen=True, eq=False)
class PatchClassifier:
    """A logistic regression on standardized `PatchFeatures`: positive for the target."""

    features: PatchFeatures
    center: Tensor
    """(D,): subtracted from the features."""
    spread: Tensor
    """(D,): divides them."""
    weight: Tensor
    """(D,)."""
    bias: Tensor
    """A scalar."""

    def share(self, patches: Tensor) -> float:
        """Returns the share of patches that are classified as the target.

        Raises InputError if there are no patches, or if they have another shape or type.
        """
        logits = (self.features(patches) - self.center) / self.spread @ self.weight + self.bias
        return float((logits > 0).double().mean())


def train_patch_classifier(target: Tensor, others: Tensor, features: PatchFeatures | None = None) -> PatchClassifier:
    """Trains a classifier of the target's patches against others. Nothing is random: equal patches train equal classifiers.

    Both classes have the same weight, however many patches they have. Raises InputError if a class has no patches, or if they
    have another shape or type.
    """
    features = features or PatchFeatures()
    positive, negative = features(target), features(others)
    both = torch.cat([positive, negative])
    labels = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))]).double()
    center, spread = both.mean(0), both.std(0, correction=0).clamp_min(1e-9)
    weight, bias = fit_logistic_regression((both - center) / spread, labels, INVERSE_PENALTY)
    return PatchClassifier(features, center, spread, weight, bias)


def fit_logistic_regression(features: Tensor, labels: Tensor, inverse_penalty: float) -> tuple[Tensor, Tensor]:
    """Fits weight (D,) and bias, a scalar, to features (N, D) and labels (N,) of 0 and 1, all float64.

    Minimizes |weight|^2 / 2 + C * (the sum of log losses), with class weights N / (2 * count), as scikit-learn's
    LogisticRegression(C=inverse_penalty, class_weight="balanced") does.
    """
    count, positive = len(labels), labels.sum()
    weights = torch.where(labels > 0, count / (2 * positive), count / (2 * (count - positive)))
    parameters = torch.zeros(features.shape[1] + 1, dtype=features.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [parameters], max_iter=1000, tolerance_grad=1e-8, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = features @ parameters[:-1] + parameters[-1]
        losses = functional.binary_cross_entropy_with_logits(logits, labels, weights, reduction="sum")
        objective = (parameters[:-1].square().sum() / 2 + inverse_penalty * losses) / (inverse_penalty * count)
        objective.backward()
        return objective

    optimizer.step(loss)
    found = parameters.detach()
    return found[:-1], found[-1]


def mean_chroma(patches: Tensor) -> float:
    """Returns the mean of sqrt(a^2 + b^2) in CIE Lab (sRGB, D65) of (N, 3, S, S) uint8 RGB: 0 is gray, 100 is vivid."""
    chroma = []
    for patch in patches.permute(0, 2, 3, 1).numpy():
        lab = cv2.cvtColor(np.divide(patch, 255, dtype=np.float32), cv2.COLOR_RGB2LAB)
        chroma.append(float(np.hypot(lab[..., 1], lab[..., 2]).mean()))
    return float(np.mean(chroma))


def _check(patches: Tensor) -> None:
    if patches.dtype != torch.uint8 or patches.shape[1:] != (3, PATCH, PATCH) or not len(patches):
        raise InputError(
            f"patches must be one or more of (N, 3, {PATCH}, {PATCH}) uint8, got {tuple(patches.shape)} {patches.dtype}"
        )
