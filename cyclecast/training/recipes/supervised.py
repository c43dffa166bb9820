"""A generator from pairs that any program made: a slow network, a filter, a painter's keyframes (Texler et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cyclecast.training import losses
from cyclecast.training.config import require, require_weights
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.networks.features import EfficientNetFeatures
from cyclecast.training.recipes.settings import TranslationConfig
from cyclecast.training.recipes.translation import Translation
from cyclecast.training.steadiness_loss import steadiness_loss

UNIT = 16  # pixels: sides that the features accept are multiples of it
BORDER = 8  # pixels of a crop's edge that no loss sees, at least: there the generator sees its padding, footage does not


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(TranslationConfig):
    """The settings of a generator from pairs. Domain A: sources; domain B: targets with the same file names."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "generator": "frame",
        "margin": 12,
        "native_size": True,
        "batch_size": 8,
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "beta1": 0.9,
        "ema_decay": 0.99,
        "crop_size": 144,
        "load_size": 256,
        "steps": 3000,
    }
    unavailable: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("adversarial", "penalty_weight", "discriminator_rate", "augment"), "there is no discriminator; see pix2pix"
    )

    pixel_weight: float = 10.0
    """Weight of the mean absolute difference to the target."""
    ssim_weight: float = 5.0
    """Weight of 1 - SSIM to the target."""
    feature_weight: float = 1.0
    """Weight of the relative difference of deep features of both images (Johnson et al. 2016)."""
    style_weight: float = 1.0
    """Weight of the difference between the Gram matrices of these features: texture where pixels cannot be predicted."""
    steadiness_weight: float = 1.0
    """Weight of the steadiness loss: output motion that differs from the input motion, and visible noise. Reduces flicker."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weights(self, *(f"{name}_weight" for name in ("pixel", "ssim", "feature", "style", "steadiness")))
        least = 2 * UNIT + 2 * BORDER
        require(self.data, "crop_size", self.data.crop_size >= least, f"at least {least}")


class Supervised(Translation):
    """One generator, a2b."""

    Config = SupervisedConfig
    config: SupervisedConfig
    paired = True

    def __init__(self, config: SupervisedConfig) -> None:
        super().__init__(config, ("a2b",), {})
        self.features = EfficientNetFeatures(levels=4).eval()
        self.networks["features"] = self.features

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """Runs one step of the generator."""
        terms, _ = learn("generators", self._loss, *batch)
        return terms

    def _loss(self, source: Tensor, target: Tensor) -> LossTerms:
        generator = self.networks["generator_ab"]
        output = generator(source).float()
        fake, real = _inner(output), _inner(target)
        parts = {"pixel": losses.l1_loss(fake, real), "ssim": losses.ssim_loss(fake, real)}
        if self.config.feature_weight or self.config.style_weight:
            with torch.no_grad():
                real_maps = self.features(real)
            maps = self.features(fake)
            parts |= {"feature": losses.feature_loss(maps, real_maps), "style": losses.style_loss(maps, real_maps)}
        if self.config.steadiness_weight:
            parts["steadiness"] = steadiness_loss(generator, source, output)
        total = sum((getattr(self.config, f"{name}_weight") * value for name, value in parts.items()), output.new_zeros(()))
        return LossTerms(total, parts)


def _inner(images: Tensor) -> Tensor:
    """Cuts out the middle of square crops that the losses see, with sides that the features accept."""
    side = (images.shape[2] - 2 * BORDER) // UNIT * UNIT
    start = (images.shape[2] - side) // 2
    return images[:, :, start : start + side, start : start + side]
