"""CycleGAN (Zhu, Park, Isola, Efros 2017): G: A -> B and F: B -> A, held together by cycle consistency."""

from __future__ import annotations

import copy
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam

from cyclecast.training import losses
from cyclecast.training.augment import augment
from cyclecast.training.config import TrainConfig
from cyclecast.training.data import ImageFolder, UnpairedData, fixed_set
from cyclecast.training.networks import (
    Upsample,
    build_discriminator,
    build_generator,
)
from cyclecast.training.pool import ImagePool

EPOCHS = 200  # of the larger domain: 100 at a constant rate and 100 of decay (CycleGAN, appendix 7.1)


@dataclass(frozen=True, kw_only=True)
class CycleGanConfig(TrainConfig):
    """The paper's defaults; each departure is a setting."""

    domain_a: Path
    """Folder of images of domain A."""
    domain_b: Path
    """Folder of images of domain B."""
    samples_a: Path | None = None
    """Folder that the fixed set is taken from; None: domain_a."""
    samples_b: Path | None = None
    """The same for domain B."""
    load_size: int = 286
    """Shorter side before the crop, pixels."""
    load_size_max: int | None = None
    """Given, the shorter side is drawn evenly from load_size to this: more scales from few images."""
    crop_size: int = 256
    """Side of the square that is trained on, pixels; a multiple of 4."""
    generator: Literal["resnet6", "resnet9"] = "resnet9"
    """Residual blocks: 6 for 128x128, 9 for 256x256 and above."""
    ngf: int = 64
    """Generator's channels at full resolution."""
    upsample: Upsample = "deconvolution"
    """deconvolution (the paper) or resize (nearest neighbour, then convolution: no checkerboard)."""
    skip: bool = False
    """The generator makes what is added to its input; the paper's makes the whole picture."""
    ndf: int = 64
    """Discriminator's channels after its first layer."""
    discriminator_rate: float = 1.0
    """The discriminators' learning rate, as a factor of learning_rate."""
    cycle_weight: float = 10.0
    """Lambda of the cycle loss."""
    cycle_scale: int = 1
    """Pixels, each way, that the cycle loss averages before it compares; the paper: 1."""
    colour_weight: float = 0.0
    """Of the loss that keeps the colours of an area, whatever its brightness; the paper has none."""
    identity_weight: float = 5.0
    """Of the identity loss: half of lambda (CycleGAN, section 5.2)."""
    pool_size: int = 50
    """Past fakes that a discriminator is shown; 0 switches the pool off."""
    augment: bool = False
    """Shift and cut what the discriminators see, real and fake alike; for small sets."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("crop_size", self.crop_size % 4 == 0 and self.crop_size >= 32, "a multiple of 4 from 32 up")
        self._require("cycle_scale", 1 <= self.cycle_scale <= self.crop_size, "from 1 to crop_size")
        self._require("load_size", self.load_size >= self.crop_size, f"at least crop_size, {self.crop_size}")
        self._require("load_size_max", (self.load_size_max or self.load_size) >= self.load_size, "at least load_size")
        for name in ("ngf", "ndf"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("pool_size", self.pool_size >= 0, "at least 0")
        for name in ("cycle_weight", "colour_weight", "identity_weight", "discriminator_rate"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "0 or more")


class CycleGan:
    """Networks, optimisers, pools, one step and one sheet; the loop owns devices, schedule and files."""

    Config = CycleGanConfig

    def __init__(self, config: CycleGanConfig, device: torch.device) -> None:
        self.config = config
        load = (config.load_size, config.load_size_max or config.load_size)
        self.data = UnpairedData(
            ImageFolder(config.domain_a, load, config.crop_size),
            ImageFolder(config.domain_b, load, config.crop_size),
        )
        self.steps = config.steps or EPOCHS * max(len(self.data.domain_a), len(self.data.domain_b))

        def generator() -> nn.Module:
            return build_generator(config.generator, config.ngf, config.upsample, config.skip).to(device)

        self.generator_ab, self.generator_ba = generator(), generator()
        self.discriminator_a = build_discriminator(config.ndf).to(device)
        self.discriminator_b = build_discriminator(config.ndf).to(device)
        self.networks: dict[str, nn.Module] = {
            "generator_ab": self.generator_ab,
            "generator_ba": self.generator_ba,
            "discriminator_a": self.discriminator_a,
            "discriminator_b": self.discriminator_b,
        }
        # What is sampled and exported: averages of the generators' weights.
        self.averages: dict[str, nn.Module] = {
            name: copy.deepcopy(self.networks[name]).eval().requires_grad_(False) for name in ("generator_ab", "generator_ba")
        }
        betas = (config.beta1, 0.999)
        self._generators = [*self.generator_ab.parameters(), *self.generator_ba.parameters()]
        self._discriminators = [*self.discriminator_a.parameters(), *self.discriminator_b.parameters()]
        self.optimizers = {
            "generators": Adam(self._generators, betas=betas),
            "discriminators": Adam(self._discriminators, betas=betas),
        }
        self.rates = {  # at the start; the loop lowers them
            "generators": config.learning_rate,
            "discriminators": config.learning_rate * config.discriminator_rate,
        }
        self.pools = {"fake_a": ImagePool(config.pool_size), "fake_b": ImagePool(config.pool_size)}

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """(real_a, real_b) of this step, on the CPU."""
        return self.data.batch(self.config.seed, step, self.config.batch_size)

    def step(self, batch: tuple[Tensor, Tensor], precision: AbstractContextManager[object]) -> dict[str, Tensor]:
        """One step of both generators, then one of both discriminators (the seed's algorithm 3). `precision`: autocast.

        batch: two of (N, 3, H, W) float32 in [-1, 1], RGB, on the networks' device. Returns detached scalars.
        """
        real_a, real_b = batch
        fake_a, fake_b, generator_losses = self._generator_step(real_a, real_b, precision)
        return generator_losses | self._discriminator_step(real_a, real_b, fake_a, fake_b, precision)

    def _generator_step(
        self, real_a: Tensor, real_b: Tensor, precision: AbstractContextManager[object]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        config = self.config
        _freeze(self._discriminators, True)
        with precision:
            # Translation and identity in one call: instance norm looks at each sample alone, so nothing changes but the speed.
            if config.identity_weight:
                fake_b, same_b = self.generator_ab(torch.cat([real_a, real_b])).chunk(2)
                fake_a, same_a = self.generator_ba(torch.cat([real_b, real_a])).chunk(2)
            else:
                fake_b, fake_a = self.generator_ab(real_a), self.generator_ba(real_b)
            cycle_a, cycle_b = self.generator_ba(fake_b), self.generator_ab(fake_a)
            scores_a = self.discriminator_a(self._seen(fake_a))
            scores_b = self.discriminator_b(self._seen(fake_b))
        parts = {
            "adversarial_ab": losses.least_squares(scores_b, 1.0),
            "adversarial_ba": losses.least_squares(scores_a, 1.0),
            "cycle_a": losses.cycle_loss(cycle_a, real_a, config.cycle_scale),
            "cycle_b": losses.cycle_loss(cycle_b, real_b, config.cycle_scale),
        }
        total = parts["adversarial_ab"] + parts["adversarial_ba"]
        total = total + config.cycle_weight * (parts["cycle_a"] + parts["cycle_b"])
        if config.colour_weight:
            parts["colour_a"] = losses.colour_loss(fake_b, real_a)
            parts["colour_b"] = losses.colour_loss(fake_a, real_b)
            total = total + config.colour_weight * (parts["colour_a"] + parts["colour_b"])
        if config.identity_weight:
            parts["identity_a"] = losses.identity_loss(same_a, real_a)
            parts["identity_b"] = losses.identity_loss(same_b, real_b)
            total = total + config.identity_weight * (parts["identity_a"] + parts["identity_b"])
        self.optimizers["generators"].zero_grad(set_to_none=True)
        total.backward()
        self.optimizers["generators"].step()
        _freeze(self._discriminators, False)
        return fake_a.detach().float(), fake_b.detach().float(), {k: v.detach() for k, v in parts.items()}

    def _discriminator_step(
        self, real_a: Tensor, real_b: Tensor, fake_a: Tensor, fake_b: Tensor, precision: AbstractContextManager[object]
    ) -> dict[str, Tensor]:
        old_a, old_b = self.pools["fake_a"].exchange(fake_a), self.pools["fake_b"].exchange(fake_b)
        with precision:
            real_scores_a, fake_scores_a = self.discriminator_a(self._seen(torch.cat([real_a, old_a]))).chunk(2)
            real_scores_b, fake_scores_b = self.discriminator_b(self._seen(torch.cat([real_b, old_b]))).chunk(2)
        loss_a = losses.discriminator_loss(real_scores_a, fake_scores_a)
        loss_b = losses.discriminator_loss(real_scores_b, fake_scores_b)
        self.optimizers["discriminators"].zero_grad(set_to_none=True)
        (loss_a + loss_b).backward()
        self.optimizers["discriminators"].step()
        return {"discriminator_a": loss_a.detach(), "discriminator_b": loss_b.detach()}

    def _seen(self, images: Tensor) -> Tensor:
        return augment(images) if self.config.augment else images

    def fixed_set(self) -> dict[str, Tensor]:
        """Images that are translated again and again through training: name of the direction -> (n, 3, S, S)."""
        side = max(self.config.load_size // 4 * 4, 128)
        return {
            "a2b": fixed_set(self.config.samples_a or self.config.domain_a, 6, side),
            "b2a": fixed_set(self.config.samples_b or self.config.domain_b, 6, side),
        }

    @torch.no_grad()
    def translate(self, images: Tensor, direction: str) -> Tensor:
        """(n, 3, H, W) in [-1, 1] through the averaged generator of `direction` ("a2b" or "b2a"), in fp32."""
        network = self.averages[f"generator_{direction[0]}{direction[2]}"]
        return torch.cat([network(image[None]) for image in images])


def _freeze(parameters: list[nn.Parameter], frozen: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(not frozen)
