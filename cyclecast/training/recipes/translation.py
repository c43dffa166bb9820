"""What the recipes that translate between two domains of images share: settings, data, generators, the fixed set."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from cyclecast.training import losses
from cyclecast.training.augment import augment
from cyclecast.training.config import TrainConfig
from cyclecast.training.data import PairedData, UnpairedData, fixed_set, open_domain
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.networks import build_generator
from cyclecast.training.networks.frame import PRESETS, Preset
from cyclecast.training.networks.layers import Norm, Upsample
from cyclecast.training.networks.patch import AnyDiscriminator, Discriminator, build_discriminator, side_requirement
from cyclecast.training.pool import ImagePool
from cyclecast.training.processes import Processes

Generator = Literal["resnet6", "resnet9", "unet32", "unet128", "unet256", "frame"]
EPOCHS = 200  # of the larger domain: 100 at a constant rate and 100 of decay (CycleGAN, appendix 7.1)
FIXED = 6  # images of each domain that are watched through training


@dataclass(frozen=True, kw_only=True)
class TranslationConfig(TrainConfig):
    """CycleGAN's defaults; each departure is a setting."""

    domain_a: Path
    """Images of domain A: a folder, or a file of digits (MNIST idx or npz, USPS npz or h5)."""
    domain_b: Path
    """The same for domain B."""
    layout: Literal["folders", "halves"] = "folders"
    """halves: each image shows a pair side by side, A on the left, B on the right; domain_a and domain_b are one folder."""
    samples_a: Path | None = None
    """Folder that the fixed set is taken from; None: domain_a."""
    samples_b: Path | None = None
    """The same for domain B."""
    load_size: int = 286
    """Shorter side before the crop, pixels."""
    load_size_max: int | None = None
    """Given, the shorter side is drawn evenly from load_size to this: more scales from few images."""
    crop_size: int = 256
    """Side of the square that is trained on, pixels; a multiple of 4 (a U-Net: of its own)."""
    flip: bool = True
    """Half of the images mirrored; never digits."""
    tight: bool = False
    """Digits cut to the square that holds 99 % of their set's ink: MNIST's have a border about them, USPS's have none."""
    generator: Generator = "resnet9"
    """Residual blocks: 6 for 128x128, 9 for 256x256 and above; U-Net: the side it takes down to one pixel; frame: for video."""
    preset: Preset = "base"
    """Of the generator `frame`: nano, small or base; the settings ngf, upsample and norm are the others'."""
    width: int | None = None
    """Of the generator `frame`, channels; None: the preset's."""
    blocks: int | None = None
    """Of the generator `frame`, residual blocks; None: the preset's."""
    factor: int = 4
    """Of the generator `frame`: it works at 1/factor of the resolution, 4 or 8."""
    ngf: int = 64
    """Generator's channels at full resolution."""
    upsample: Upsample = "deconvolution"
    """deconvolution (the paper), resize (bilinear, then convolution: no checkerboard), nearest (likewise) or pixelshuffle."""
    norm: Norm = "instance"
    """Of a ResNet: instance (the paper), batch or none: instance norm forgets the colors of a close crop, none keeps them."""
    skip: bool = False
    """The generator makes what is added to its input; the paper's makes the whole picture."""
    dropout: float = 0.0
    """Of a U-Net's inner levels, while it trains; pix2pix draws its noise from 0.5."""
    discriminator_rate: float = 1.0
    """The discriminators' learning rate, as a factor of learning_rate."""
    adversarial: losses.Adversarial = "least_squares"
    """least_squares (the paper), log (with the log D trick) or wasserstein (with a gradient penalty)."""
    penalty_weight: float = 10.0
    """Of the gradient penalty of `wasserstein`."""
    augment: bool = False
    """Shift and cut what the discriminators see, real and fake alike; for small sets."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("factor", self.factor in (4, 8), "4 or 8")
        least = {"unet32": 32, "unet128": 128, "unet256": 256, "frame": self.factor}.get(self.generator, 4)
        multiple = f"a multiple of {'factor, ' if self.generator == 'frame' else ''}{least}, from 16 up"
        self._require("crop_size", self.crop_size % least == 0 and self.crop_size >= 16, multiple)
        self._require("load_size", self.load_size >= self.crop_size, f"at least crop_size, {self.crop_size}")
        self._require("load_size_max", (self.load_size_max or self.load_size) >= self.load_size, "at least load_size")
        self._require("ngf", self.ngf >= 1, "at least 1")
        self._require("width", self.width is None or self.width >= 1, "at least 1")
        self._require("blocks", self.blocks is None or self.blocks >= 3, "at least 3")
        self._require("dropout", 0 <= self.dropout < 1, "from 0 to below 1")
        self._require("dropout", not self.dropout or self.generator.startswith("unet"), "0 but in a U-Net")
        one_folder = self.domain_a.is_dir() and self.domain_a == self.domain_b
        self._require("layout", self.layout == "halves" or not one_folder, "halves where both domains are one folder")
        self._require_weights("discriminator_rate", "penalty_weight")
        self._require("compile", not (self.compile and self.adversarial == "wasserstein"), "false with a gradient penalty")

    def _require_weights(self, *names: str) -> None:
        for name in names:
            self._require(name, 0 <= getattr(self, name) < math.inf, "0 or more")

    def architecture(self) -> dict[str, Any]:
        """Of a generator, as `build_generator` takes it."""
        if self.generator == "frame":
            width, blocks = PRESETS[self.preset]
            shape = {
                "width": self.width or width,
                "blocks": self.blocks or blocks,
                "factor": self.factor,
                "skip": self.skip,
            }
            return {"generator": "frame", **shape}
        common = {"generator": self.generator, "ngf": self.ngf, "upsample": self.upsample, "skip": self.skip}
        return common | ({"dropout": self.dropout} if self.generator.startswith("unet") else {"norm": self.norm})

    def open_data(self, paired: bool = False) -> UnpairedData | PairedData:
        """The two domains; InputError for an empty folder."""
        load, halves = (self.load_size, self.load_size_max or self.load_size), self.layout == "halves"
        if paired:
            return PairedData(self.domain_a, self.domain_b, load, self.crop_size, flip=self.flip)
        return UnpairedData(
            open_domain(self.domain_a, load, self.crop_size, half="left" if halves else None, flip=self.flip, tight=self.tight),
            open_domain(self.domain_b, load, self.crop_size, half="right" if halves else None, flip=self.flip, tight=self.tight),
        )

    def watched(self, side: int) -> dict[str, Tensor]:
        """Images of A, named a2b, and of B, named b2a, to be looked at through training: (n, 3, side, side) each."""
        halves = self.layout == "halves"
        return {
            "a2b": fixed_set(self.samples_a or self.domain_a, FIXED, side, "left" if halves else None, self.tight),
            "b2a": fixed_set(self.samples_b or self.domain_b, FIXED, side, "right" if halves else None, self.tight),
        }

    def domain_names(self) -> dict[str, str]:
        """For people."""
        return {"domain A": self.domain_a.name, "domain B": self.domain_b.name}


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig(TranslationConfig):
    """Of a recipe that builds its discriminators."""

    discriminator: Discriminator = "basic"
    """basic: the 70x70 PatchGAN; n_layers: with discriminator_layers of them; pixel: 1x1; projected: on ImageNet features."""
    discriminator_layers: int = 3
    """Of n_layers: 0 judges 10x10 pixels, 1 16x16, 2 34x34, 3 70x70, 4 142x142."""
    ndf: int = 64
    """Discriminator's channels after its first layer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("ndf", self.ndf >= 1, "at least 1")
        self._require("discriminator_layers", 0 <= self.discriminator_layers <= 6, "from 0 to 6")
        wanted = side_requirement(self.discriminator, self.discriminator_layers, self.crop_size)
        layers = f" with discriminator_layers {self.discriminator_layers}" if self.discriminator == "n_layers" else ""
        self._require("crop_size", wanted is None, f"{wanted} for the discriminator `{self.discriminator}`{layers}")

    def build_discriminator(self, in_channels: int = 3) -> AnyDiscriminator:
        """A fresh discriminator as the settings ask for."""
        return build_discriminator(self.discriminator, self.ndf, self.discriminator_layers, in_channels)


@dataclass(frozen=True, kw_only=True)
class PoolConfig(TranslationConfig):
    """Of a recipe whose discriminators are shown past fakes."""

    pool_size: int = 50
    """Past fakes that a discriminator is shown; 0 switches the pool off."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("pool_size", self.pool_size >= 0, "at least 0")


class Translation:
    """Generators between two domains, whatever holds them together: a recipe adds its losses and one step.

    directions: of the generators that are trained, `a2b` or `b2a`.
    """

    def __init__(self, config: TranslationConfig, directions: tuple[str, ...], discriminators: Mapping[str, nn.Module]) -> None:
        self.config: TranslationConfig = config
        self.data = config.open_data(paired=self.paired)
        self.steps = config.steps or EPOCHS * max(1, len(self.data) // config.batch_size)
        generators = {f"generator_{d[0]}{d[2]}": build_generator(**config.architecture()) for d in directions}
        self.networks: dict[str, nn.Module] = {**generators, **discriminators}
        # What is sampled and exported: averages of the generators' weights.
        self.averages = {name: copy.deepcopy(net).eval().requires_grad_(False) for name, net in generators.items()}
        self.decays = dict.fromkeys(self.averages, (config.ema_decay, 0))
        self.exports = {d: {"network": f"generator_{d[0]}{d[2]}", "architecture": config.architecture()} for d in directions}
        betas = (config.beta1, 0.999)
        self.optimizers: dict[str, Optimizer] = {
            "generators": Adam([p for net in generators.values() for p in net.parameters()], config.learning_rate, betas),
        }
        if discriminators:
            judges = [p for net in discriminators.values() for p in net.parameters()]
            self.optimizers["discriminators"] = Adam(judges, config.learning_rate, betas)
        self.rates = {  # at the start; the loop lowers them
            "generators": config.learning_rate,
            "discriminators": config.learning_rate * config.discriminator_rate,
        }
        self.pools: dict[str, ImagePool] = {}

    paired = False  # whether real_a and real_b of a batch show the same scene

    def batch(self, step: int, processes: Processes) -> tuple[Tensor, ...]:
        """(real_a, real_b) of this step and process, on the CPU: (N, 3, S, S) float32 in [-1, 1], RGB."""
        size = self.config.batch_size
        return self.data.batch(self.config.seed, step, size, first=processes.rank * size)

    def judge(self, name: str, images: Tensor) -> Tensor:
        """Raw scores of discriminator `name`."""
        scores: Tensor = self.networks[name](augment(images) if self.config.augment else images)
        return scores

    def discriminate(self, name: str, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """What discriminator `name` minimizes, and its loss without the gradient penalty that `wasserstein` adds."""
        real_scores, fake_scores = self.judge(name, torch.cat([real, fake])).chunk(2)
        loss = losses.discriminator_loss(real_scores, fake_scores, self.config.adversarial)
        if self.config.adversarial != "wasserstein":
            return loss, loss
        return loss + self.config.penalty_weight * losses.gradient_penalty(partial(self.judge, name), real, fake), loss

    def fixed_set(self) -> dict[str, Tensor]:
        """Images that are translated again and again through training: name of the direction -> (n, 3, S, S)."""
        least = max(int(getattr(network, "stride", 4)) for network in self.averages.values())
        watched = self.config.watched(max(self.config.load_size // least * least, least))
        return {direction: watched[direction] for direction in self.exports}

    def data_facts(self) -> dict[str, Any]:
        """For the run's page."""
        return self.config.domain_names() | self.data.facts()

    @torch.no_grad()
    def sample(self, name: str, inputs: Tensor) -> Tensor:
        """(n, 3, H, W) in [-1, 1] through the averaged generator of direction `name` ("a2b" or "b2a"), in fp32."""
        network = self.averages[f"generator_{name[0]}{name[2]}"]
        return torch.cat([network(image[None]) for image in inputs])


@dataclass(frozen=True, kw_only=True)
class TwoSidedConfig(AdversarialConfig, PoolConfig):
    """Of a recipe with a discriminator for each domain."""


class TwoSided(Translation, ABC):
    """Both directions, each with its own discriminator and its own pool of past fakes; a recipe adds the generators' loss."""

    def __init__(self, config: TwoSidedConfig) -> None:
        adversaries = {"discriminator_a": config.build_discriminator(), "discriminator_b": config.build_discriminator()}
        super().__init__(config, ("a2b", "b2a"), adversaries)
        self.pools = {"fake_a": ImagePool(config.pool_size), "fake_b": ImagePool(config.pool_size)}

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """One step of both generators, then one of both discriminators."""
        real_a, real_b = batch
        parts, (fake_a, fake_b) = learn("generators", self.generator_loss, real_a, real_b)
        old_a, old_b = self.pools["fake_a"].exchange(fake_a), self.pools["fake_b"].exchange(fake_b)
        judged, _ = learn("discriminators", self._discriminator_loss, real_a, real_b, old_a, old_b)
        return parts | judged

    @abstractmethod
    def generator_loss(self, real_a: Tensor, real_b: Tensor) -> LossTerms:
        """The recipe's; outputs (fake_a, fake_b)."""

    def _discriminator_loss(self, real_a: Tensor, real_b: Tensor, fake_a: Tensor, fake_b: Tensor) -> LossTerms:
        total_a, loss_a = self.discriminate("discriminator_a", real_a, fake_a)
        total_b, loss_b = self.discriminate("discriminator_b", real_b, fake_b)
        return LossTerms(total_a + total_b, {"discriminator_a": loss_a, "discriminator_b": loss_b})
