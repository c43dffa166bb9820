"""CoGAN (Liu and Tuzel 2016), as CycleGAN compares with it: one latent, two pictures, what they share in shared layers."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from cyclecast.training import losses, search
from cyclecast.training.augment import augment
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.networks import build_latent_generator
from cyclecast.training.networks.latent import ConvDiscriminator, is_dcgan_size
from cyclecast.training.networks.layers import initialize
from cyclecast.training.pool import ImagePool
from cyclecast.training.processes import Processes
from cyclecast.training.recipes.translation import EPOCHS, FIXED, AdversarialConfig


@dataclass(frozen=True, kw_only=True)
class CoGanConfig(AdversarialConfig):
    """Convolutional generators from noise, of side crop_size. Settings of image generators and patches have no meaning here."""

    latent: int = 100
    """Dimensions of the noise, drawn from N(0, 1)."""
    adversarial: losses.Adversarial = "log"
    """The paper's."""
    load_size: int = 72
    crop_size: int = 64
    batch_size: int = 16
    ngf: int = 32
    ndf: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("crop_size", is_dcgan_size(self.crop_size), "4 to 7, doubled: 8, 16, 28, 32, 64, …")
        self._require("batch_size", self.batch_size >= 2 * self.accumulate, "at least 2 for each part, which batch norm compares")
        self._require("latent", self.latent >= 1, "at least 1")
        self._require("adversarial", self.adversarial != "wasserstein", "least_squares or log")

    def architecture(self) -> dict[str, Any]:
        """Of a latent generator of this size."""
        shape = {"latent": self.latent, "image_size": self.crop_size, "channels": 3}
        return {"generator": "conv", **shape, "ngf": self.ngf, "upsample": self.upsample}


class CoGan:
    """Two generators tied in their first layers, two discriminators tied in their last (CoGAN, section 3)."""

    Config = CoGanConfig

    def __init__(self, config: CoGanConfig) -> None:
        self.config = config
        self.data = config.open_data()
        self.steps = config.steps or EPOCHS * max(1, len(self.data) // config.batch_size)
        generators = {key: build_latent_generator(**config.architecture()) for key in ("generator_a", "generator_b")}
        discriminators = {
            key: initialize(ConvDiscriminator(config.crop_size, 3, config.ndf)) for key in ("discriminator_a", "discriminator_b")
        }
        # What means something comes first in a generator and last in a discriminator: that half is one and the same.
        tie(generators["generator_a"].model, generators["generator_b"].model, first=True)
        tie(discriminators["discriminator_a"].model, discriminators["discriminator_b"].model, first=False)
        self.networks: dict[str, nn.Module] = {**generators, **discriminators}
        self.averages = {name: copy.deepcopy(net).eval().requires_grad_(False) for name, net in generators.items()}
        self.decays = dict.fromkeys(self.averages, (config.ema_decay, 0))
        self.exports = {d: {"network": f"generator_{d}", "architecture": config.architecture()} for d in "ab"}
        betas = (config.beta1, 0.999)
        self.optimizers: dict[str, Optimizer] = {
            name: Adam({id(p): p for net in nets.values() for p in net.parameters()}.values(), config.learning_rate, betas)
            for name, nets in (("generators", generators), ("discriminators", discriminators))
        }
        self.rates = {
            "generators": config.learning_rate,
            "discriminators": config.learning_rate * config.discriminator_rate,
        }
        self.pools: dict[str, ImagePool] = {}

    def batch(self, step: int, processes: Processes) -> tuple[Tensor, ...]:
        """(real_a, real_b) of this step and process, on the CPU."""
        size = self.config.batch_size
        return self.data.batch(self.config.seed, step, size, first=processes.rank * size)

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """One step of both generators, then one of both discriminators; both pictures come from one latent."""
        noise = torch.randn(len(batch[0]), self.config.latent).to(batch[0].device)
        parts, (fake_a, fake_b) = learn("generators", self._generator_loss, noise)
        judged, _ = learn("discriminators", self._discriminator_loss, *batch, fake_a, fake_b)
        return parts | judged

    def _generator_loss(self, noise: Tensor) -> LossTerms:
        fakes = {d: self.networks[f"generator_{d}"](noise) for d in "ab"}
        parts = {
            f"adversarial_{d}": losses.generator_loss(self._judge(d, fake), self.config.adversarial) for d, fake in fakes.items()
        }
        return LossTerms(parts["adversarial_a"] + parts["adversarial_b"], parts, (fakes["a"], fakes["b"]))

    def _discriminator_loss(self, real_a: Tensor, real_b: Tensor, fake_a: Tensor, fake_b: Tensor) -> LossTerms:
        parts = {
            f"discriminator_{d}": losses.discriminator_loss(self._judge(d, real), self._judge(d, fake), self.config.adversarial)
            for d, real, fake in (("a", real_a, fake_a), ("b", real_b, fake_b))
        }
        return LossTerms(parts["discriminator_a"] + parts["discriminator_b"], parts)

    def _judge(self, domain: str, images: Tensor) -> Tensor:
        scores: Tensor = self.networks[f"discriminator_{domain}"](augment(images) if self.config.augment else images)
        return scores

    def fixed_set(self) -> dict[str, Tensor]:
        """Latents that both generators draw, and images that are translated by the latent found for them."""
        latents = torch.randn(FIXED, self.config.latent, generator=torch.Generator().manual_seed(self.config.seed))
        return {"a": latents, "b": latents, **self.config.watched(self.config.crop_size)}

    def data_facts(self) -> dict[str, Any]:
        """For the run's page."""
        return self.config.domain_names() | self.data.facts()

    def sample(self, name: str, inputs: Tensor) -> Tensor:
        """`a` or `b`: latents (n, Z) -> (n, 3, S, S). `a2b` or `b2a`: images of side crop_size -> the same shape."""
        if name in ("a", "b"):
            with torch.no_grad():
                images: Tensor = self.averages[f"generator_{name}"](inputs)
            return images
        source, target = self.averages[f"generator_{name[0]}"], self.averages[f"generator_{name[2]}"]
        return search.translate(source, target, inputs)


def tie(one: nn.Sequential, other: nn.Sequential, *, first: bool) -> None:
    """Makes half of the layers the same objects in both: the first half, or the last."""
    half = len(one) // 2
    for index in range(half) if first else range(half, len(one)):
        other[index] = one[index]
