"""Fast style transfer (Johnson et al. 2016): a generator learns the statistics of one style image, or of the nearest of many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cyclecast.training import losses
from cyclecast.training.config import require, require_weights
from cyclecast.training.data import OneDomain, list_images, open_domain, read_image, resize_short_side, to_tensor
from cyclecast.training.data.images import spaced_indices
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.networks.features import EfficientNetFeatures
from cyclecast.training.networks.patch import side_requirement
from cyclecast.training.recipes.settings import DiscriminatorConfig, TranslationConfig
from cyclecast.training.recipes.translation import Translation
from cyclecast.training.steadiness_loss import steadiness_loss
from cyclecast.training.style_targets import BLOCKS, UNIT, StyleTargets, crop_to_unit, halved

BORDER = 16  # pixels of a crop's edge that no loss sees: an export pads frames by as much, so that footage never shows them
MOST_STYLES = 200  # style images whose statistics are kept: each takes 2 MB
CONTENTS = 48  # images whose colors and descriptors stand for all that will be styled


@dataclass(frozen=True, kw_only=True)
class StyleTransferConfig(TranslationConfig):
    """The settings of style transfer. Domain A: what will be styled; domain B: the style images, one or many."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "generator": "frame",
        "batch_size": 4,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "beta1": 0.9,
        "ema_decay": 0.99,
        "load_size": 256,
        "load_size_max": 480,
        "crop_size": 224,
        "steps": 2500,
        "discriminator": "projected",
        "discriminator_rate": 0.2,
        "augment": True,
    }

    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    style_size: int = 512
    """Length of a style image's shorter side, pixels: strokes of the style image at this size are painted into footage."""
    style_weight: float = 25.0
    """Weight of the distance of Gram matrices, half at full scale and half at half scale."""
    content_weight: float = 1.0
    """Weight of the relative distance of features of the output and the source."""
    brightness_weight: float = 1.0
    """Weight of the change of brightness of areas of 8x8 pixels."""
    palette_weight: float = 0.0
    """Weight of the distance of the output's colors from the source's in the style's palette, of areas of 16x16 pixels."""
    smoothness_weight: float = 0.05
    """Weight of the total variation of the output."""
    steadiness_weight: float = 1.0
    """Weight of the steadiness loss: output motion that differs from the input motion, and visible noise. Reduces flicker."""
    adversarial_weight: float = 0.0
    """Weight of a discriminator of the style images; for collections of 20 and more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("style", "content", "brightness", "palette", "smoothness", "steadiness", "adversarial")
        require_weights(self, *(f"{name}_weight" for name in names))
        require(self, "style_size", self.style_size >= 2 * UNIT, f"at least {2 * UNIT}")
        least = 2 * UNIT + 2 * BORDER
        require(self.data, "crop_size", self.data.crop_size >= least, f"at least {least}")
        if self.adversarial_weight:
            expected = side_requirement(self.discriminator.discriminator, self.discriminator.discriminator_layers, self.side())
            require(self.data, "crop_size", expected is None, f"{expected} and {2 * BORDER} more, for the discriminator")

    def side(self) -> int:
        """Side of the part of a crop that the losses see, pixels."""
        return (self.data.crop_size - 2 * BORDER) // UNIT * UNIT


class StyleTransfer(Translation):
    """One generator, a2b; with adversarial_weight, a discriminator of the style images."""

    Config = StyleTransferConfig
    config: StyleTransferConfig

    def __init__(self, config: StyleTransferConfig) -> None:
        discriminators = {"discriminator": config.discriminator.build()} if config.adversarial_weight else {}
        super().__init__(config, ("a2b",), discriminators)
        data = config.data
        contents = open_domain(data.domain_a, (data.load_size, data.load_size), data.crop_size)
        if not config.adversarial_weight:  # real style images are of no use without a discriminator
            load = (data.load_size, data.load_size_max or data.load_size)
            self.data = OneDomain(open_domain(data.domain_a, load, data.crop_size, flip=data.flip))
        self.features = EfficientNetFeatures(levels=4).eval()
        self.styles = style_images(config)
        self.targets = StyleTargets(self.features, self.styles, list(contents.first(CONTENTS, data.crop_size)))
        self.networks |= {"features": self.features, "targets": self.targets}

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """One step of the generator, then one of the discriminator if there is one."""
        terms, (fake,) = learn("generators", self._generator_loss, batch[0])
        if self.config.adversarial_weight:
            discriminator_terms, _ = learn("discriminators", self._discriminator_loss, batch[1], fake)
            terms |= discriminator_terms
        return terms

    def data_facts(self) -> dict[str, Any]:
        """Facts of the data for the run's page."""
        return self.config.data.names() | {"style images": len(self.styles)} | self.data.facts()

    def _generator_loss(self, source: Tensor) -> LossTerms:
        config = self.config
        generator = self.networks["generator_ab"]
        output = generator(source).float()
        real, fake = self._inner(source), self._inner(output)
        with torch.no_grad():
            real_maps = self.features(real)
            index = self.targets.nearest(real, real_maps)
            full_grams, half_grams = self.targets.grams(index)
        maps, depthwise = self.features.with_depthwise(fake, BLOCKS)
        half_depthwise = self.features.with_depthwise(halved(fake), BLOCKS)[1]
        full = losses.gram_loss([losses.gram_matrix(each) for each in depthwise], full_grams)
        half = losses.gram_loss([losses.gram_matrix(each) for each in half_depthwise], half_grams)
        parts = {
            "style": (full + half) / 2,
            "content": losses.content_loss(maps[1:3], real_maps[1:3]),
            "brightness": losses.brightness_loss(fake, real),
            "smoothness": losses.total_variation(fake),
        }
        if config.palette_weight:
            parts["palette"] = losses.color_loss(fake, self.targets.recolor(real), 16)
        if config.steadiness_weight:
            parts["steadiness"] = steadiness_loss(generator, source, output)
        if config.adversarial_weight:
            scores = self.discriminate("discriminator", fake)
            parts["adversarial"] = losses.generator_loss(scores, config.adversary.adversarial)
        total = sum((getattr(config, f"{name}_weight") * value for name, value in parts.items()), output.new_zeros(()))
        return LossTerms(total, parts, (fake,))

    def _discriminator_loss(self, real: Tensor, fake: Tensor) -> LossTerms:
        total, loss = self.discriminator_loss("discriminator", self._inner(real), fake)
        return LossTerms(total, {"discriminator": loss})

    def _inner(self, images: Tensor) -> Tensor:
        """The part of crops that the losses see."""
        return crop_to_unit(images[:, :, BORDER:-BORDER, BORDER:-BORDER])


def style_images(config: StyleTransferConfig) -> list[Tensor]:
    """Up to MOST_STYLES readable style images, evenly spread, (3, H, W) in [-1, 1], the shorter side style_size.

    Only the middle of a panorama is used, twice as long as it is high.
    """
    paths = list_images(config.data.domain_b)
    images = []
    for index in spaced_indices(len(paths), MOST_STYLES):
        image = read_image(paths[index])
        if image is not None:
            image = resize_short_side(image, config.style_size)
            top, left = (max(0, side - 2 * config.style_size) // 2 for side in image.shape[:2])
            images.append(to_tensor(image[top : top + 2 * config.style_size, left : left + 2 * config.style_size]))
    return images
