"""WGAN (Arjovsky et al. 2017): a critic that estimates the Wasserstein distance between real and generated images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer, RMSprop

from cyclecast.training import losses
from cyclecast.training.config import require, require_weights
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.networks.latent import ConvDiscriminator
from cyclecast.training.networks.layers import initialize
from cyclecast.training.recipes.latent import ConvConfig, Latent, LatentConfig

# The authors' code trains the critic near its optimum in the first generator steps and in every 500th.
WARM_UP_STEPS = 25
WARM_UP_EVERY = 500
WARM_UP_CRITIC_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class WganConfig(LatentConfig):
    """The settings of WGAN. The defaults are the paper's, on DCGAN's networks."""

    # fp32: a critic with clipped weights lives on small differences, which bf16 rounds away.
    defaults: ClassVar[Mapping[str, Any]] = {**LatentConfig.defaults, "learning_rate": 5e-5, "precision": "fp32"}

    networks: ConvConfig = ConvConfig()
    critic_steps: int = 5
    """n_critic, the number of critic steps for each generator step; with warm_up 100 in the first 25 and in every 500th."""
    warm_up: bool = True
    """Trains the critic near its optimum in those steps."""
    clip: float = 0.01
    """Bound of the critic's weights, which keeps it Lipschitz; unused with `penalty`."""
    penalty: bool = False
    """Replaces clipping by a gradient penalty and RMSprop by Adam (Gulrajani et al. 2017)."""
    penalty_weight: float = 10.0
    """Weight of the gradient penalty."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.networks.architecture(self)
        require(self, "critic_steps", self.critic_steps >= 1, "at least 1")
        require(self.compute, "compile", not (self.compute.compile and self.penalty), "false with a gradient penalty")
        require(self, "clip", self.clip > 0, "above 0")
        require_weights(self)


class Wgan(Latent):
    """DCGAN's generator against a critic with unbounded scores."""

    Config = WganConfig
    config: WganConfig

    def __init__(self, config: WganConfig) -> None:
        norm: Any = "none" if config.penalty else "batch"
        critic = initialize(ConvDiscriminator(**config.shape(), ndf=config.networks.ndf, norm=norm))
        rate = config.optim.learning_rate

        def optimizer(weights: Iterable[nn.Parameter]) -> Optimizer:
            return Adam(weights, rate, (0.0, 0.9)) if config.penalty else RMSprop(weights, rate)

        super().__init__(config, config.networks.architecture(config), critic, optimizer)

    def discriminator_steps(self, step: int) -> int:
        """Returns n_critic, or 100 in the steps of the warm-up."""
        warm_up = self.config.warm_up and (step < WARM_UP_STEPS or step % WARM_UP_EVERY == 0)
        return max(WARM_UP_CRITIC_STEPS, self.config.critic_steps) if warm_up else self.config.critic_steps

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """Runs n_critic steps of the critic, clipped after each, then one of the generator."""
        critic_terms: dict[str, Tensor] = {}
        for real in batch[0].chunk(self.discriminator_steps(step)):
            critic_terms, _ = learn("discriminator", self._critic_loss, real, self.noise(real))
            if not self.config.penalty:
                with torch.no_grad():
                    for weight in self.discriminator.parameters():
                        weight.clamp_(-self.config.clip, self.config.clip)
        terms, _ = learn("generator", self._generator_loss, self.noise(real))
        return terms | critic_terms

    def _critic_loss(self, real: Tensor, noise: Tensor) -> LossTerms:
        with torch.no_grad():
            fake = self.generator(noise).float()
        # Two calls: batch norm must not mix the statistics of real and fake images.
        loss = losses.discriminator_loss(self.discriminator(real), self.discriminator(fake), "wasserstein")
        parts = {"wasserstein_distance": -loss}
        if not self.config.penalty:
            return LossTerms(loss, parts)
        parts["penalty"] = losses.gradient_penalty(self.discriminator, real, fake)
        return LossTerms(loss + self.config.penalty_weight * parts["penalty"], parts)

    def _generator_loss(self, noise: Tensor) -> LossTerms:
        loss = losses.generator_loss(self.discriminator(self.generator(noise)), "wasserstein")
        return LossTerms(loss, {"generator": loss})
