"""What the latent recipes share: one set of images, a generator from noise, the fixed latents."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cyclecast.training.config import TrainConfig
from cyclecast.training.data import OneDomain, open_domain
from cyclecast.training.losses import luma
from cyclecast.training.networks import build_latent_generator
from cyclecast.training.pool import ImagePool
from cyclecast.training.processes import Processes

EPOCHS = 50  # of the data, unless `steps` says otherwise
FIXED = 16  # latents that are watched through training


@dataclass(frozen=True, kw_only=True)
class LatentConfig(TrainConfig):
    """Settings of every generator that starts from noise."""

    domain: Path
    """Images to learn: a folder, or a file of digits (MNIST idx or npz, USPS npz or h5)."""
    image_size: int = 28
    """Side of the pictures, pixels."""
    channels: Literal[1, 3] = 1
    """1: gray, 3: RGB."""
    latent: int = 100
    """Dimensions of the noise, drawn from N(0, 1)."""
    batch_size: int = 64
    schedule: Literal["linear", "cosine", "step", "constant"] = "constant"
    flip: bool = False
    """Half of the images mirrored; never digits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("image_size", 8 <= self.image_size <= 1024, "from 8 to 1024")
        self._require("latent", self.latent >= 1, "at least 1")
        self._require("batch_size", self.batch_size >= 2 * self.accumulate, "at least 2 for each part, which batch norm compares")


class Latent:
    """One generator, one adversary, an optimizer for each; a recipe adds the networks and one step."""

    def __init__(
        self,
        config: LatentConfig,
        architecture: dict[str, Any],
        discriminator: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
    ) -> None:
        self.config: LatentConfig = config
        self.data = OneDomain(open_domain(config.domain, (config.image_size,) * 2, config.image_size, flip=config.flip))
        self.steps = config.steps or EPOCHS * max(1, len(self.data) // config.batch_size)
        self.generator, self.discriminator = build_latent_generator(**architecture), discriminator
        self.networks: dict[str, nn.Module] = {"generator": self.generator, "discriminator": discriminator}
        self.averages = {"generator": copy.deepcopy(self.generator).eval().requires_grad_(False)}
        self.decays = {"generator": (config.ema_decay, 0)}
        self.exports = {"sample": {"network": "generator", "architecture": architecture}}
        self.optimizers = {name: optimizer(network.parameters()) for name, network in self.networks.items()}
        self.rates = dict.fromkeys(self.networks, config.learning_rate)
        self.pools: dict[str, ImagePool] = {}

    def adversary_steps(self, step: int) -> int:
        """Of the discriminator, before this step of the generator."""
        return 1

    def batch(self, step: int, processes: Processes) -> tuple[Tensor, ...]:
        """Real images for each of the adversary's steps: (k N, C, S, S) float32 in [-1, 1]."""
        size = self.config.batch_size * self.adversary_steps(step)
        (real,) = self.data.batch(self.config.seed, step, size, first=processes.rank * size)
        return (real if self.config.channels == 3 else luma(real),)

    def noise(self, like: Tensor) -> Tensor:
        """(N, Z) from N(0, 1) for N images, from torch's generator."""
        return torch.randn(len(like), self.config.latent).to(like.device)

    def fixed_set(self) -> dict[str, Tensor]:
        """Latents that are looked at again and again through training: (n, Z)."""
        return {"sample": torch.randn(FIXED, self.config.latent, generator=torch.Generator().manual_seed(self.config.seed))}

    def data_facts(self) -> dict[str, Any]:
        """For the run's page."""
        return {"domain": self.config.domain.name, **self.data.facts()}

    @torch.no_grad()
    def sample(self, name: str, inputs: Tensor) -> Tensor:
        """Latents (n, Z) -> (n, 3, S, S) in [-1, 1] through the averaged generator, in fp32."""
        images: Tensor = self.averages["generator"](inputs)
        return images.expand(-1, 3, -1, -1)
