"""GAN (Goodfellow et al. 2014): one MLP generates images from noise, another tells them from real images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from cyclecast.training import losses
from cyclecast.training.config import require
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.networks.latent import MlpDiscriminator
from cyclecast.training.recipes.latent import Latent, LatentConfig


@dataclass(frozen=True, kw_only=True)
class GanConfig(LatentConfig):
    """The settings of the minimax game."""

    discriminator_steps: int = 1
    """k, the number of discriminator steps for each generator step."""
    saturating: bool = False
    """Minimizes log(1 - D(G(z))), as in the minimax game, instead of maximizing log D(G(z)) (the log D trick)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "discriminator_steps", self.discriminator_steps >= 1, "at least 1")


class Gan(Latent):
    """Two MLPs."""

    Config = GanConfig
    config: GanConfig

    def __init__(self, config: GanConfig) -> None:
        architecture = {"generator": "mlp", "latent": config.latent, **config.shape()}
        self._build(config, architecture, MlpDiscriminator(**config.shape()))

    def _build(self, config: GanConfig, architecture: dict[str, Any], discriminator: nn.Module) -> None:
        rate, betas = config.optim.learning_rate, (config.optim.beta1, 0.999)
        super().__init__(config, architecture, discriminator, lambda weights: Adam(weights, rate, betas))

    def discriminator_steps(self, step: int) -> int:
        """Returns k for every step."""
        return self.config.discriminator_steps

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """Runs k steps of the discriminator, each on its own images and noise, then one of the generator."""
        discriminator_terms: dict[str, Tensor] = {}
        for real in batch[0].chunk(self.discriminator_steps(step)):
            discriminator_terms, _ = learn("discriminator", self._discriminator_loss, real, self.noise(real))
        terms, _ = learn("generator", self._generator_loss, self.noise(real))
        return terms | discriminator_terms

    def _discriminator_loss(self, real: Tensor, noise: Tensor) -> LossTerms:
        with torch.no_grad():
            fake = self.generator(noise)
        # Two calls: batch norm must not mix the statistics of real and fake images.
        loss = losses.discriminator_loss(self.discriminator(real), self.discriminator(fake), "log")
        return LossTerms(loss, {"discriminator": loss})

    def _generator_loss(self, noise: Tensor) -> LossTerms:
        scores = self.discriminator(self.generator(noise))
        loss = losses.saturating_loss(scores) if self.config.saturating else losses.generator_loss(scores, "log")
        return LossTerms(loss, {"generator": loss})
