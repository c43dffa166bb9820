"""Groups of settings that the recipes between two domains share: data, generator, discriminator, adversarial loss, pool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from cyclecast.training import losses
from cyclecast.training.config import TrainConfig, require, require_weights
from cyclecast.training.data import PairedData, UnpairedData, fixed_set, open_domain
from cyclecast.training.networks.frame import PRESETS, Preset
from cyclecast.training.networks.layers import Norm, Upsample
from cyclecast.training.networks.patch import AnyDiscriminator, Discriminator, build_discriminator, side_requirement

Generator = Literal["resnet6", "resnet9", "unet32", "unet128", "unet256", "frame"]
FIXED_IMAGES = 6  # of each domain, translated again and again through training


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The images of both domains and how they are cropped."""

    domain_a: Path
    """Images of domain A: a folder, or a file of digits (MNIST idx or npz, USPS npz or h5)."""
    domain_b: Path
    """Images of domain B, in the same forms."""
    layout: Literal["folders", "halves"] = "folders"
    """halves: each image holds a pair side by side, A left and B right; domain_a and domain_b are the same folder."""
    samples_a: Path | None = None
    """Folder of the fixed set of domain A, which is translated through training. None: domain_a."""
    samples_b: Path | None = None
    """Folder of the fixed set of domain B. None: domain_b."""
    load_size: int = 286
    """Length of the shorter side before the crop, pixels."""
    load_size_max: int | None = None
    """Draws the length of the shorter side uniformly from load_size to this: more scales from few images."""
    native_size: bool = False
    """Crops images at their own size, not resized to load_size: texture keeps its size. Smaller ones are enlarged to a crop."""
    crop_size: int = 256
    """Side of the square crop, pixels; a multiple of the generator's stride."""
    flip: bool = True
    """Mirrors half of the images; never digits."""
    tight: bool = False
    """Crops digits to the square that holds 99 % of their set's ink: MNIST has a border, USPS has none."""

    def __post_init__(self) -> None:
        require(self, "load_size", self.load_size >= self.crop_size, f"at least crop_size, {self.crop_size}")
        require(self, "load_size_max", (self.load_size_max or self.load_size) >= self.load_size, "at least load_size")
        one_folder = self.domain_a.is_dir() and self.domain_a == self.domain_b
        require(self, "layout", self.layout == "halves" or not one_folder, "halves where both domains are one folder")

    def open(self, paired: bool = False) -> UnpairedData | PairedData:
        """Opens the two domains. Raises InputError for an empty folder."""
        load = None if self.native_size else (self.load_size, self.load_size_max or self.load_size)
        halves = self.layout == "halves"
        if paired:
            return PairedData(self.domain_a, self.domain_b, load, self.crop_size, flip=self.flip)
        return UnpairedData(
            open_domain(self.domain_a, load, self.crop_size, half="left" if halves else None, flip=self.flip, tight=self.tight),
            open_domain(self.domain_b, load, self.crop_size, half="right" if halves else None, flip=self.flip, tight=self.tight),
        )

    def fixed_sets(self, side: int) -> dict[str, Tensor]:
        """Reads the images that are sampled, A's under `a2b` and B's under `b2a`: (n, 3, side, side) each."""
        halves = self.layout == "halves"
        return {
            "a2b": fixed_set(self.samples_a or self.domain_a, FIXED_IMAGES, side, "left" if halves else None, self.tight),
            "b2a": fixed_set(self.samples_b or self.domain_b, FIXED_IMAGES, side, "right" if halves else None, self.tight),
        }

    def names(self) -> dict[str, str]:
        """Returns the names of both domains, for the run's page."""
        return {"domain A": self.domain_a.name, "domain B": self.domain_b.name}


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """The generator's architecture."""

    generator: Generator = "resnet9"
    """ResNet with 6 blocks (128x128) or 9 blocks (256x256 and above); U-Net for this side in pixels; frame: for video."""
    preset: Preset = "base"
    """Size of the generator `frame`: nano, small or base. It ignores ngf, upsample and norm."""
    width: int | None = None
    """Channels of the generator `frame`. None: as the preset."""
    blocks: int | None = None
    """Residual blocks of the generator `frame`. None: as the preset."""
    factor: int = 4
    """The generator `frame` works at 1/factor of the resolution: 4 or 8."""
    margin: int = 20
    """Pixels by which exports of the generator `frame` pad each side of a frame: its own padding shows as a line there."""
    ngf: int = 64
    """Generator's channels at full resolution."""
    upsample: Upsample = "deconvolution"
    """deconvolution (the paper), resize (bilinear, then convolution: no checkerboard), nearest (likewise), pixelshuffle or
    antialias (a low-pass filter, then convolution: CUT)."""
    norm: Norm = "instance"
    """Norm layers of a ResNet: instance (the paper), batch or none. Instance norm forgets the colors of a close crop."""
    skip: bool = False
    """Adds the input to the generator's output, so that the generator learns the difference."""
    dropout: float = 0.0
    """Dropout of a U-Net's inner levels while it trains; pix2pix uses 0.5 as its noise."""

    def __post_init__(self) -> None:
        require(self, "factor", self.factor in (4, 8), "4 or 8")
        require(self, "margin", self.margin >= 0 and 2 * self.margin % self.factor == 0, "a multiple of factor / 2, at least 0")
        require(self, "ngf", self.ngf >= 1, "at least 1")
        require(self, "width", self.width is None or self.width >= 1, "at least 1")
        require(self, "blocks", self.blocks is None or self.blocks >= 3, "at least 3")
        require(self, "dropout", 0 <= self.dropout < 1, "from 0 to below 1")
        require(self, "dropout", not self.dropout or self.generator.startswith("unet"), "0 except in a U-Net")

    def check_side(self, data: DataConfig) -> None:
        """Raises ConfigError if the generator cannot process crops of this size."""
        least = {"unet32": 32, "unet128": 128, "unet256": 256, "frame": self.factor}.get(self.generator, 4)
        expected = f"a multiple of {'factor, ' if self.generator == 'frame' else ''}{least}, from 16 up"
        require(data, "crop_size", data.crop_size % least == 0 and data.crop_size >= 16, expected)

    def architecture(self) -> dict[str, Any]:
        """Returns the arguments of `build_generator`."""
        if self.generator == "frame":
            width, blocks = PRESETS[self.preset]
            shape = {
                "width": self.width or width,
                "blocks": self.blocks or blocks,
                "factor": self.factor,
                "skip": self.skip,
                "margin": self.margin,
            }
            return {"generator": "frame", **shape}
        common = {"generator": self.generator, "ngf": self.ngf, "upsample": self.upsample, "skip": self.skip}
        return common | ({"dropout": self.dropout} if self.generator.startswith("unet") else {"norm": self.norm})


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """The discriminators' architecture."""

    discriminator: Discriminator = "basic"
    """basic: the 70x70 PatchGAN; n_layers: with discriminator_layers of them; pixel: 1x1; projected: on ImageNet features."""
    discriminator_layers: int = 3
    """Layers of `n_layers`; its patches are 10x10 pixels at 0, 16x16 at 1, 34x34 at 2, 70x70 at 3, 142x142 at 4."""
    ndf: int = 64
    """Discriminator's channels after its first layer."""

    def __post_init__(self) -> None:
        require(self, "ndf", self.ndf >= 1, "at least 1")
        require(self, "discriminator_layers", 0 <= self.discriminator_layers <= 6, "from 0 to 6")

    def check_side(self, data: DataConfig) -> None:
        """Raises ConfigError if the discriminator cannot classify crops of this size."""
        expected = side_requirement(self.discriminator, self.discriminator_layers, data.crop_size)
        layers = f" with discriminator_layers {self.discriminator_layers}" if self.discriminator == "n_layers" else ""
        require(data, "crop_size", expected is None, f"{expected} for the discriminator `{self.discriminator}`{layers}")

    def build(self, in_channels: int = 3) -> AnyDiscriminator:
        """Builds a discriminator with fresh weights."""
        return build_discriminator(self.discriminator, self.ndf, self.discriminator_layers, in_channels)


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """The adversarial loss."""

    adversarial: losses.Adversarial = "least_squares"
    """least_squares (CycleGAN), log (with the log D trick) or wasserstein (with a gradient penalty)."""
    penalty_weight: float = 10.0
    """Weight of the gradient penalty of `wasserstein`."""
    discriminator_rate: float = 1.0
    """The discriminators' learning rate as a factor of learning_rate."""
    augment: bool = False
    """Shifts and cuts what the discriminators see, real and fake images alike; for small data sets."""

    def __post_init__(self) -> None:
        require_weights(self, "discriminator_rate", "penalty_weight")


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """The history of fakes that a discriminator sees."""

    pool_size: int = 50
    """Number of past fakes in the pool. 0: no pool."""

    def __post_init__(self) -> None:
        require(self, "pool_size", self.pool_size >= 0, "at least 0")


@dataclass(frozen=True, kw_only=True)
class TranslationConfig(TrainConfig):
    """The settings of every recipe between two domains. The defaults are CycleGAN's."""

    data: DataConfig
    generator: GeneratorConfig = GeneratorConfig()
    adversary: AdversarialConfig = AdversarialConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.generator.check_side(self.data)
        wasserstein = self.adversary.adversarial == "wasserstein"
        require(self.compute, "compile", not (self.compute.compile and wasserstein), "false with a gradient penalty")
