"""WGAN (Arjovsky et al. 2017): a critic that estimates the Wasserstein distance (the seed's algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Adam, RMSprop

from cyclecast.training import losses
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.networks.latent import ConvDiscriminator, is_dcgan_size
from cyclecast.training.networks.layers import Upsample, initialize
from cyclecast.training.recipes.latent import Latent, LatentConfig

WARM_UP = 25  # generator steps at the start with a critic trained near its optimum, and every EVERYth after (the authors' code)
EVERY = 500
NEAR_OPTIMUM = 100  # critic steps then


@dataclass(frozen=True, kw_only=True)
class WganConfig(LatentConfig):
    """The paper's defaults on DCGAN's networks."""

    critic_steps: int = 5
    """n_critic: for each step of the generator; 100 in the first 25 and in every 500th."""
    warm_up: bool = True
    """Whether the 100 are done."""
    clip: float = 0.01
    """Bound of the critic's weights, which keeps it Lipschitz; not with `penalty`."""
    penalty: bool = False
    """A gradient penalty in place of clipping, with Adam in place of RMSprop (Gulrajani et al. 2017)."""
    penalty_weight: float = 10.0
    """Of the gradient penalty."""
    learning_rate: float = 5e-5
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """fp32: a critic of clipped weights lives on small differences, which bf16 rounds away."""
    ngf: int = 64
    """Generator's channels at full resolution."""
    ndf: int = 64
    """Critic's channels after its first layer."""
    upsample: Upsample = "resize"
    """As in DCGAN."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("critic_steps", self.critic_steps >= 1, "at least 1")
        self._require("compile", not (self.compile and self.penalty), "false with a gradient penalty")
        self._require("clip", self.clip > 0, "above 0")
        self._require("penalty_weight", self.penalty_weight >= 0, "0 or more")
        self._require("image_size", is_dcgan_size(self.image_size), "4 to 7, doubled: 8, 16, 28, 32, 64, …")


class Wgan(Latent):
    """DCGAN's generator against a critic without an end to its scores."""

    Config = WganConfig
    config: WganConfig

    def __init__(self, config: WganConfig) -> None:
        shape: dict[str, Any] = {"image_size": config.image_size, "channels": config.channels}
        architecture = {"generator": "conv", "latent": config.latent, **shape, "ngf": config.ngf, "upsample": config.upsample}
        critic = initialize(ConvDiscriminator(**shape, ndf=config.ndf, norm="none" if config.penalty else "batch"))
        super().__init__(
            config,
            architecture,
            critic,
            lambda weights: (
                Adam(weights, config.learning_rate, (0.0, 0.9)) if config.penalty else RMSprop(weights, config.learning_rate)
            ),
        )

    def adversary_steps(self, step: int) -> int:
        """n_critic, or 100 where the critic is to be near its optimum."""
        warm = self.config.warm_up and (step < WARM_UP or step % EVERY == 0)
        return max(NEAR_OPTIMUM, self.config.critic_steps) if warm else self.config.critic_steps

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """n_critic steps of the critic, clipped after each, then one of the generator."""
        judged: dict[str, Tensor] = {}
        for real in batch[0].chunk(self.adversary_steps(step)):
            judged, _ = learn("discriminator", self._critic_loss, real, self.noise(real))
            if not self.config.penalty:
                with torch.no_grad():
                    torch._foreach_clamp_min_(list(self.discriminator.parameters()), -self.config.clip)
                    torch._foreach_clamp_max_(list(self.discriminator.parameters()), self.config.clip)
        parts, _ = learn("generator", self._generator_loss, self.noise(real))
        return parts | judged

    def _critic_loss(self, real: Tensor, noise: Tensor) -> LossTerms:
        with torch.no_grad():
            fake = self.generator(noise).float()
        loss = losses.discriminator_loss(self.discriminator(real), self.discriminator(fake), "wasserstein")
        parts = {"wasserstein_distance": -loss}
        if not self.config.penalty:
            return LossTerms(loss, parts)
        parts["penalty"] = losses.gradient_penalty(self.discriminator, real, fake)
        return LossTerms(loss + self.config.penalty_weight * parts["penalty"], parts)

    def _generator_loss(self, noise: Tensor) -> LossTerms:
        loss = losses.generator_loss(self.discriminator(self.generator(noise)), "wasserstein")
        return LossTerms(loss, {"generator": loss})
