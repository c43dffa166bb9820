"""BiGAN / ALI (Donahue et al. 2017; Dumoulin et al. 2017), as CycleGAN compares itself with it (section 5.1.1).

The papers pair a latent with an image. Here both are images: one discriminator tells the pairs (a, G(a)) from (F(b), b).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cyclecast.training import losses
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.recipes.settings import DiscriminatorConfig, TranslationConfig
from cyclecast.training.recipes.translation import Translation, has_batch_norm


@dataclass(frozen=True, kw_only=True)
class BiGanConfig(TranslationConfig):
    """The settings of BiGAN."""

    discriminator: DiscriminatorConfig = DiscriminatorConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.discriminator.check_side(self.data)


class BiGan(Translation):
    """Two generators, one joint discriminator of six channels: the image of A, then the image of B."""

    Config = BiGanConfig

    def __init__(self, config: BiGanConfig) -> None:
        super().__init__(config, ("a2b", "b2a"), {"discriminator": config.discriminator.build(in_channels=6)})

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """Runs one step of both generators, then one of the discriminator."""
        real_a, real_b = batch
        terms, (fake_a, fake_b) = learn("generators", self._generator_loss, real_a, real_b)
        discriminator_terms, _ = learn("discriminators", self._discriminator_loss, real_a, real_b, fake_a, fake_b)
        return terms | discriminator_terms

    def _generator_loss(self, real_a: Tensor, real_b: Tensor) -> LossTerms:
        """Rewards G if its pair is classified as F's, and F if its pair is classified as G's (BiGAN, equation 3)."""
        fake_b, fake_a = self.networks["generator_ab"](real_a), self.networks["generator_ba"](real_b)
        adversarial = self.config.adversary.adversarial
        pairs_ab, pairs_ba = _pairs(real_a, fake_b, fake_a, real_b)
        if has_batch_norm(self.networks["discriminator"]):
            scores_ab, scores_ba = self.discriminate("discriminator", pairs_ab), self.discriminate("discriminator", pairs_ba)
        else:
            scores_ab, scores_ba = self.discriminate("discriminator", torch.cat([pairs_ab, pairs_ba])).chunk(2)
        parts = {
            "adversarial_ab": losses.generator_loss(scores_ab, adversarial),
            "adversarial_ba": losses.generator_loss(scores_ba, adversarial, real=False),
        }
        return LossTerms(parts["adversarial_ab"] + parts["adversarial_ba"], parts, (fake_a, fake_b))

    def _discriminator_loss(self, real_a: Tensor, real_b: Tensor, fake_a: Tensor, fake_b: Tensor) -> LossTerms:
        pairs_ab, pairs_ba = _pairs(real_a, fake_b, fake_a, real_b)
        total, loss = self.discriminator_loss("discriminator", pairs_ba, pairs_ab)
        return LossTerms(total, {"discriminator": loss})


def _pairs(real_a: Tensor, fake_b: Tensor, fake_a: Tensor, real_b: Tensor) -> tuple[Tensor, Tensor]:
    """Concatenates the pairs (a, G(a)), scored as fake, and (F(b), b), scored as real: (N, 6, H, W) each."""
    return torch.cat([real_a, fake_b], 1), torch.cat([fake_a, real_b], 1)
