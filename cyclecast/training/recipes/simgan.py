"""SimGAN (Shrivastava et al. 2017), which CycleGAN compares itself with: an adversarial loss, and a limit on any change."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cyclecast.training import losses
from cyclecast.training.config import require_weights
from cyclecast.training.learner import LossTerms
from cyclecast.training.recipes.translation import TwoSided, TwoSidedConfig


@dataclass(frozen=True, kw_only=True)
class SimGanConfig(TwoSidedConfig):
    """The settings of SimGAN: a refiner for each direction, on CycleGAN's networks, so that the two can be compared."""

    regularization_weight: float = 10.0
    """Weight of |G(x) - x|_1, the self-regularization (SimGAN, equation 4)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weights(self)


class SimGan(TwoSided):
    """Two independent refiners."""

    Config = SimGanConfig
    config: SimGanConfig

    def generator_loss(self, real_a: Tensor, real_b: Tensor) -> LossTerms:
        """Computes adversarial + lambda |G(x) - x| (SimGAN, equation 1)."""
        fake_b, fake_a = self.networks["generator_ab"](real_a), self.networks["generator_ba"](real_b)
        adversarial = self.config.adversary.adversarial
        parts = {
            "adversarial_ab": losses.generator_loss(self.discriminate("discriminator_b", fake_b), adversarial),
            "adversarial_ba": losses.generator_loss(self.discriminate("discriminator_a", fake_a), adversarial),
            "regularization_a": losses.l1_loss(fake_b, real_a),
            "regularization_b": losses.l1_loss(fake_a, real_b),
        }
        total = parts["adversarial_ab"] + parts["adversarial_ba"]
        total = total + self.config.regularization_weight * (parts["regularization_a"] + parts["regularization_b"])
        return LossTerms(total, parts, (fake_a, fake_b))
