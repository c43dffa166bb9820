"""BiGAN / ALI (Donahue et al. 2017; Dumoulin et al. 2017), as CycleGAN compares with it (section 5.1.1).

Made for a latent and a picture, it holds for two pictures too: one discriminator tells the pairs (a, G(a)) from (F(b), b).
"""

from __future__ import annotations

import torch
from torch import Tensor

from cyclecast.training import losses
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.recipes.translation import AdversarialConfig, Translation


class BiGan(Translation):
    """Two generators, one joint discriminator of six channels: A's picture, then B's."""

    Config = AdversarialConfig

    def __init__(self, config: AdversarialConfig) -> None:
        super().__init__(config, ("a2b", "b2a"), {"discriminator": config.build_discriminator(in_channels=6)})

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """One step of both generators, then one of the discriminator."""
        real_a, real_b = batch
        parts, (fake_a, fake_b) = learn("generators", self._generator_loss, real_a, real_b)
        judged, _ = learn("discriminators", self._discriminator_loss, real_a, real_b, fake_a, fake_b)
        return parts | judged

    def _generator_loss(self, real_a: Tensor, real_b: Tensor) -> LossTerms:
        """G wants its pair to pass for F's, F for G's (BiGAN, equation 3)."""
        fake_b, fake_a = self.networks["generator_ab"](real_a), self.networks["generator_ba"](real_b)
        kind = self.config.adversarial
        scores = self.judge("discriminator", torch.cat(_pairs(real_a, fake_b, fake_a, real_b)))
        scores_ab, scores_ba = scores.chunk(2)
        parts = {
            "adversarial_ab": losses.generator_loss(scores_ab, kind),
            "adversarial_ba": losses.generator_loss(scores_ba, kind, real=False),
        }
        return LossTerms(parts["adversarial_ab"] + parts["adversarial_ba"], parts, (fake_a, fake_b))

    def _discriminator_loss(self, real_a: Tensor, real_b: Tensor, fake_a: Tensor, fake_b: Tensor) -> LossTerms:
        pairs_ab, pairs_ba = _pairs(real_a, fake_b, fake_a, real_b)
        total, loss = self.discriminate("discriminator", pairs_ba, pairs_ab)
        return LossTerms(total, {"discriminator": loss})


def _pairs(real_a: Tensor, fake_b: Tensor, fake_a: Tensor, real_b: Tensor) -> tuple[Tensor, Tensor]:
    """(a, G(a)), scored as fake, and (F(b), b), scored as real: (N, 6, H, W) each."""
    return torch.cat([real_a, fake_b], 1), torch.cat([fake_a, real_b], 1)
