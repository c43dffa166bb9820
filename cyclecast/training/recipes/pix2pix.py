"""pix2pix (Isola et al. 2017): pairs are known, so a fake is compared with its real counterpart. CycleGAN's upper bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from cyclecast.training import losses
from cyclecast.training.config import require_weights
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.recipes.settings import DiscriminatorConfig, TranslationConfig
from cyclecast.training.recipes.translation import Translation


@dataclass(frozen=True, kw_only=True)
class Pix2PixConfig(TranslationConfig):
    """The settings of pix2pix, on CycleGAN's networks, so that the two can be compared."""

    defaults: ClassVar[Mapping[str, Any]] = {"adversarial": "log"}  # the paper's; least_squares does as well

    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    direction: Literal["a2b", "b2a"] = "a2b"
    """Which side of a pair is generated from the other."""
    paired_weight: float = 100.0
    """Lambda, the weight of the L1 loss (pix2pix, section 3.1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.discriminator.check_side(self.data)
        require_weights(self)


class Pix2Pix(Translation):
    """One generator; its discriminator sees the source beside the image (pix2pix, equation 1)."""

    Config = Pix2PixConfig
    config: Pix2PixConfig
    paired = True

    def __init__(self, config: Pix2PixConfig) -> None:
        super().__init__(config, (config.direction,), {"discriminator": config.discriminator.build(in_channels=6)})

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """Runs one step of the generator, then one of the discriminator."""
        source, target = batch if self.config.direction == "a2b" else reversed(batch)
        terms, (fake,) = learn("generators", self._generator_loss, source, target)
        discriminator_terms, _ = learn("discriminators", self._discriminator_loss, source, target, fake)
        return terms | discriminator_terms

    def _generator_loss(self, source: Tensor, target: Tensor) -> LossTerms:
        direction = self.config.direction
        fake = self.networks[f"generator_{direction[0]}{direction[2]}"](source)
        scores = self.discriminate("discriminator", torch.cat([source, fake], 1))
        parts = {
            "adversarial": losses.generator_loss(scores, self.config.adversary.adversarial),
            "paired": losses.l1_loss(fake, target),
        }
        return LossTerms(parts["adversarial"] + self.config.paired_weight * parts["paired"], parts, (fake,))

    def _discriminator_loss(self, source: Tensor, target: Tensor, fake: Tensor) -> LossTerms:
        real_pair, fake_pair = torch.cat([source, target], 1), torch.cat([source, fake], 1)
        total, loss = self.discriminator_loss("discriminator", real_pair, fake_pair)
        return LossTerms(total, {"discriminator": loss})
