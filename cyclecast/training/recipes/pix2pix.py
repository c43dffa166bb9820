"""pix2pix (Isola et al. 2017): pairs are known, so the picture is compared with its own counterpart: CycleGAN's upper bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cyclecast.training import losses
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.recipes.translation import AdversarialConfig, Translation


@dataclass(frozen=True, kw_only=True)
class Pix2PixConfig(AdversarialConfig):
    """Of the paper, on CycleGAN's networks, so that the two can be compared."""

    direction: Literal["a2b", "b2a"] = "a2b"
    """Which of a pair is made from the other."""
    paired_weight: float = 100.0
    """Lambda of the L1 loss (pix2pix, section 3.1)."""
    adversarial: losses.Adversarial = "log"
    """The paper's; least_squares does as well."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_weights("paired_weight")


class Pix2Pix(Translation):
    """One generator; its discriminator sees the source beside the picture (pix2pix, equation 1)."""

    Config = Pix2PixConfig
    config: Pix2PixConfig
    paired = True

    def __init__(self, config: Pix2PixConfig) -> None:
        super().__init__(config, (config.direction,), {"discriminator": config.build_discriminator(in_channels=6)})

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """One step of the generator, then one of the discriminator."""
        source, target = batch if self.config.direction == "a2b" else reversed(batch)
        parts, (fake,) = learn("generators", self._generator_loss, source, target)
        judged, _ = learn("discriminators", self._discriminator_loss, source, target, fake)
        return parts | judged

    def _generator_loss(self, source: Tensor, target: Tensor) -> LossTerms:
        direction = self.config.direction
        fake = self.networks[f"generator_{direction[0]}{direction[2]}"](source)
        scores = self.judge("discriminator", torch.cat([source, fake], 1))
        parts = {"adversarial": losses.generator_loss(scores, self.config.adversarial), "paired": losses.l1_loss(fake, target)}
        return LossTerms(parts["adversarial"] + self.config.paired_weight * parts["paired"], parts, (fake,))

    def _discriminator_loss(self, source: Tensor, target: Tensor, fake: Tensor) -> LossTerms:
        total, loss = self.discriminate("discriminator", torch.cat([source, target], 1), torch.cat([source, fake], 1))
        return LossTerms(total, {"discriminator": loss})
