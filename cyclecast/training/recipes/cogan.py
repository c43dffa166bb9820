"""CoGAN (Liu and Tuzel 2016), which CycleGAN compares itself with: one latent, an image in each domain, shared layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from cyclecast.training import losses, search
from cyclecast.training.augment import augment
from cyclecast.training.config import require
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.networks import build_latent_generator
from cyclecast.training.networks.latent import ConvDiscriminator, is_dcgan_size
from cyclecast.training.networks.layers import initialize
from cyclecast.training.pool import ImagePool
from cyclecast.training.processes import Processes
from cyclecast.training.recipes.base import RecipeBase, copy_for_average, count_steps
from cyclecast.training.recipes.settings import FIXED_IMAGES, DiscriminatorConfig, TranslationConfig
from cyclecast.training.recipes.translation import EPOCHS


@dataclass(frozen=True, kw_only=True)
class CoGanConfig(TranslationConfig):
    """The settings of CoGAN: convolutional generators from noise, for images of side crop_size.

    The settings of image generators and of patches have no effect here, except for ngf, ndf and upsample.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        "adversarial": "log",  # the paper's
        "load_size": 72,
        "crop_size": 64,
        "batch_size": 16,
        "ngf": 32,
        "ndf": 32,
    }

    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    latent: int = 100
    """Dimensions of the noise, drawn from N(0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.discriminator.check_side(self.data)
        require(self.data, "crop_size", is_dcgan_size(self.data.crop_size), "4 to 7, doubled: 8, 16, 28, 32, 64, …")
        enough = self.optim.batch_size >= 2 * self.optim.accumulate
        require(self.optim, "batch_size", enough, "at least 2 for each part, as batch norm needs")
        require(self, "latent", self.latent >= 1, "at least 1")
        require(self.adversary, "adversarial", self.adversary.adversarial != "wasserstein", "least_squares or log")

    def architecture(self) -> dict[str, Any]:
        """Returns the arguments of `build_latent_generator` for each generator."""
        shape = {"latent": self.latent, "image_size": self.data.crop_size, "channels": 3}
        return {"generator": "conv", **shape, "ngf": self.generator.ngf, "upsample": self.generator.upsample}


class CoGan(RecipeBase):
    """Two generators tied in their first layers, two discriminators tied in their last (CoGAN, section 3)."""

    Config = CoGanConfig

    def __init__(self, config: CoGanConfig) -> None:
        self.config = config
        self.data = config.data.open()
        self.steps = count_steps(config, self.data, EPOCHS)
        generators = {key: build_latent_generator(**config.architecture()) for key in ("generator_a", "generator_b")}
        discriminators = {
            key: initialize(ConvDiscriminator(config.data.crop_size, 3, config.discriminator.ndf))
            for key in ("discriminator_a", "discriminator_b")
        }
        # The layers that decode the content come first in a generator and last in a discriminator: both networks share them.
        tie(generators["generator_a"].model, generators["generator_b"].model, first=True)
        tie(discriminators["discriminator_a"].model, discriminators["discriminator_b"].model, first=False)
        self.networks: dict[str, nn.Module] = {**generators, **discriminators}
        self.averages = {name: copy_for_average(net) for name, net in generators.items()}
        self.decays = dict.fromkeys(self.averages, (config.optim.ema_decay, 0))
        self.exports = {d: {"network": f"generator_{d}", "architecture": config.architecture()} for d in "ab"}
        betas = (config.optim.beta1, 0.999)
        self.optimizers: dict[str, Optimizer] = {
            name: Adam({id(p): p for net in nets.values() for p in net.parameters()}.values(), config.optim.learning_rate, betas)
            for name, nets in (("generators", generators), ("discriminators", discriminators))
        }
        self.rates = {
            "generators": config.optim.learning_rate,
            "discriminators": config.optim.learning_rate * config.adversary.discriminator_rate,
        }
        self.pools: dict[str, ImagePool] = {}

    def batch(self, step: int, processes: Processes) -> tuple[Tensor, ...]:
        """Returns (real_a, real_b) of this step and process, on the CPU."""
        size = self.config.optim.batch_size
        return self.data.batch(self.config.seed, step, size, first=processes.rank * size)

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """Runs one step of both generators, then one of both discriminators; both images come from one latent."""
        noise = torch.randn(len(batch[0]), self.config.latent).to(batch[0].device)
        terms, (fake_a, fake_b) = learn("generators", self._generator_loss, noise)
        discriminator_terms, _ = learn("discriminators", self._discriminator_loss, *batch, fake_a, fake_b)
        return terms | discriminator_terms

    def _generator_loss(self, noise: Tensor) -> LossTerms:
        fakes = {d: self.networks[f"generator_{d}"](noise) for d in "ab"}
        parts = {
            f"adversarial_{d}": losses.generator_loss(self._discriminate(d, fake), self.config.adversary.adversarial)
            for d, fake in fakes.items()
        }
        return LossTerms(parts["adversarial_a"] + parts["adversarial_b"], parts, (fakes["a"], fakes["b"]))

    def _discriminator_loss(self, real_a: Tensor, real_b: Tensor, fake_a: Tensor, fake_b: Tensor) -> LossTerms:
        parts = {
            f"discriminator_{d}": losses.discriminator_loss(
                self._discriminate(d, real), self._discriminate(d, fake), self.config.adversary.adversarial
            )
            for d, real, fake in (("a", real_a, fake_a), ("b", real_b, fake_b))
        }
        return LossTerms(parts["discriminator_a"] + parts["discriminator_b"], parts)

    def _discriminate(self, domain: str, images: Tensor) -> Tensor:
        scores: Tensor = self.networks[f"discriminator_{domain}"](augment(images) if self.config.adversary.augment else images)
        return scores

    def fixed_set(self) -> dict[str, Tensor]:
        """Returns latents that both generators decode, and images that are translated by a latent found for each."""
        latents = torch.randn(FIXED_IMAGES, self.config.latent, generator=torch.Generator().manual_seed(self.config.seed))
        return {"a": latents, "b": latents, **self.config.data.fixed_sets(self.config.data.crop_size)}

    def data_facts(self) -> dict[str, Any]:
        """Returns the facts of the data for the run's page."""
        return self.config.data.names() | self.data.facts()

    def sample(self, name: str, inputs: Tensor) -> Tensor:
        """Decodes latents (n, Z) to (n, 3, S, S) for `a` and `b`; translates images of side crop_size for `a2b` and `b2a`."""
        if name in ("a", "b"):
            with torch.no_grad():
                images: Tensor = self.averages[f"generator_{name}"](inputs)
            return images
        source, target = self.averages[f"generator_{name[0]}"], self.averages[f"generator_{name[2]}"]
        return search.translate(source, target, inputs)


def tie(one: nn.Sequential, other: nn.Sequential, *, first: bool) -> None:
    """Makes both networks share half of their layers: the first half, or the last."""
    half = len(one) // 2
    for index in range(half) if first else range(half, len(one)):
        other[index] = one[index]
