"""GAN (Goodfellow et al. 2014): an MLP makes pictures of noise, another tells them from real ones (the seed's algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from cyclecast.training import losses
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.networks.latent import MlpDiscriminator
from cyclecast.training.recipes.latent import Latent, LatentConfig


@dataclass(frozen=True, kw_only=True)
class GanConfig(LatentConfig):
    """Settings of the minimax game."""

    discriminator_steps: int = 1
    """k: of the discriminator for each of the generator."""
    saturating: bool = False
    """Minimize log(1 - D(G(z))) as the game has it, instead of maximizing log D(G(z)) (the log D trick)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("discriminator_steps", self.discriminator_steps >= 1, "at least 1")


class Gan(Latent):
    """Two MLPs."""

    Config = GanConfig
    config: GanConfig

    def __init__(self, config: GanConfig) -> None:
        shape: dict[str, Any] = {"image_size": config.image_size, "channels": config.channels}
        self._build(config, {"generator": "mlp", "latent": config.latent, **shape}, MlpDiscriminator(**shape))

    def _build(self, config: GanConfig, architecture: dict[str, Any], discriminator: nn.Module) -> None:
        super().__init__(
            config, architecture, discriminator, lambda weights: Adam(weights, config.learning_rate, (config.beta1, 0.999))
        )

    def adversary_steps(self, step: int) -> int:
        """k, always."""
        return self.config.discriminator_steps

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """k steps of the discriminator, each on its own images and noise, then one of the generator."""
        judged: dict[str, Tensor] = {}
        for real in batch[0].chunk(self.adversary_steps(step)):
            judged, _ = learn("discriminator", self._discriminator_loss, real, self.noise(real))
        parts, _ = learn("generator", self._generator_loss, self.noise(real))
        return parts | judged

    def _discriminator_loss(self, real: Tensor, noise: Tensor) -> LossTerms:
        with torch.no_grad():
            fake = self.generator(noise)
        # Real and fake apart: batch norm takes its statistics from what comes together.
        loss = losses.discriminator_loss(self.discriminator(real), self.discriminator(fake), "log")
        return LossTerms(loss, {"discriminator": loss})

    def _generator_loss(self, noise: Tensor) -> LossTerms:
        scores = self.discriminator(self.generator(noise))
        loss = losses.saturating_loss(scores) if self.config.saturating else losses.generator_loss(scores, "log")
        return LossTerms(loss, {"generator": loss})
