"""What the recipes from noise share: one set of images, a latent generator, the fixed latents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cyclecast.training.config import TrainConfig, require
from cyclecast.training.data import OneDomain, open_domain
from cyclecast.training.losses import luma
from cyclecast.training.networks import build_latent_generator
from cyclecast.training.networks.latent import is_dcgan_size
from cyclecast.training.networks.layers import Upsample
from cyclecast.training.pool import ImagePool
from cyclecast.training.processes import Processes
from cyclecast.training.recipes.base import RecipeBase, copy_for_average, count_steps

EPOCHS = 50  # of the data, unless `steps` is set
FIXED_LATENTS = 16  # sampled again and again through training


@dataclass(frozen=True, kw_only=True)
class LatentConfig(TrainConfig):
    """The settings of every recipe whose generator starts from noise."""

    defaults: ClassVar[Mapping[str, Any]] = {"batch_size": 64, "schedule": "constant"}

    domain: Path
    """Images to learn from: a folder, or a file of digits (MNIST idx or npz, USPS npz or h5)."""
    image_size: int = 28
    """Side of the images, pixels."""
    channels: Literal[1, 3] = 1
    """1: gray, 3: RGB."""
    latent: int = 100
    """Dimensions of the noise, drawn from N(0, 1)."""
    flip: bool = False
    """Mirrors half of the images; never digits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "image_size", 8 <= self.image_size <= 1024, "from 8 to 1024")
        require(self, "latent", self.latent >= 1, "at least 1")
        enough = self.optim.batch_size >= 2 * self.optim.accumulate
        require(self.optim, "batch_size", enough, "at least 2 for each part, as batch norm needs")

    def shape(self) -> dict[str, Any]:
        """Returns image_size and channels, as arguments of the networks."""
        return {"image_size": self.image_size, "channels": self.channels}


@dataclass(frozen=True, kw_only=True)
class ConvConfig:
    """DCGAN's convolutional networks."""

    ngf: int = 64
    """Generator's channels at full resolution."""
    ndf: int = 64
    """Discriminator's channels after its first layer."""
    upsample: Upsample = "resize"
    """resize (bilinear, then convolution), nearest (likewise), deconvolution (the papers), pixelshuffle or antialias (a
    low-pass filter)."""

    def __post_init__(self) -> None:
        require(self, "ngf", self.ngf >= 1, "at least 1")
        require(self, "ndf", self.ndf >= 1, "at least 1")

    def architecture(self, config: LatentConfig) -> dict[str, Any]:
        """Returns the arguments of `build_latent_generator`.

        Raises ConfigError for an image size that the network does not support.
        """
        require(config, "image_size", is_dcgan_size(config.image_size), "4 to 7, doubled: 8, 16, 28, 32, 64, …")
        shape = config.shape()
        return {"generator": "conv", "latent": config.latent, **shape, "ngf": self.ngf, "upsample": self.upsample}


class Latent(RecipeBase):
    """One generator, one discriminator, an optimizer for each; a recipe adds the networks and one step."""

    def __init__(
        self,
        config: LatentConfig,
        architecture: dict[str, Any],
        discriminator: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
    ) -> None:
        self.config: LatentConfig = config
        self.data = OneDomain(open_domain(config.domain, (config.image_size,) * 2, config.image_size, flip=config.flip))
        self.steps = count_steps(config, self.data, EPOCHS)
        self.generator, self.discriminator = build_latent_generator(**architecture), discriminator
        self.networks: dict[str, nn.Module] = {"generator": self.generator, "discriminator": discriminator}
        self.averages = {"generator": copy_for_average(self.generator)}
        self.decays = {"generator": (config.optim.ema_decay, 0)}
        self.exports = {"sample": {"network": "generator", "architecture": architecture}}
        self.optimizers = {name: optimizer(network.parameters()) for name, network in self.networks.items()}
        self.rates = dict.fromkeys(self.networks, config.optim.learning_rate)
        self.pools: dict[str, ImagePool] = {}

    def discriminator_steps(self, step: int) -> int:
        """Returns the number of discriminator steps before this step of the generator."""
        return 1

    def batch(self, step: int, processes: Processes) -> tuple[Tensor, ...]:
        """Returns real images for each of the discriminator's steps: (k N, C, S, S) float32 in [-1, 1]."""
        size = self.config.optim.batch_size * self.discriminator_steps(step)
        (real,) = self.data.batch(self.config.seed, step, size, first=processes.rank * size)
        return (real if self.config.channels == 3 else luma(real),)

    def noise(self, like: Tensor) -> Tensor:
        """Draws latents (N, Z) from N(0, 1) for N images, with torch's generator."""
        return torch.randn(len(like), self.config.latent).to(like.device)

    def fixed_set(self) -> dict[str, Tensor]:
        """Returns latents that are sampled throughout training: (n, Z)."""
        return {
            "sample": torch.randn(FIXED_LATENTS, self.config.latent, generator=torch.Generator().manual_seed(self.config.seed))
        }

    def data_facts(self) -> dict[str, Any]:
        """Returns the facts of the data for the run's page."""
        return {"domain": self.config.domain.name, **self.data.facts()}

    @torch.no_grad()
    def sample(self, name: str, inputs: Tensor) -> Tensor:
        """Decodes latents (n, Z) to (n, 3, S, S) in [-1, 1] by the averaged generator, in fp32."""
        images: Tensor = self.averages["generator"](inputs)
        return images.expand(-1, 3, -1, -1)
