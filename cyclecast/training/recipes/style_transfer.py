"""Fast style transfer (Johnson et al. 2016): a generator learns the statistics of one style image, or of the nearest of many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from cyclecast.errors import InputError
from cyclecast.training import losses
from cyclecast.training.config import require, require_weights
from cyclecast.training.data import OneDomain, list_images, open_domain, read_image, resize_short_side, to_tensor
from cyclecast.training.data.images import spaced_indices
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.networks.features import EfficientNetFeatures
from cyclecast.training.networks.patch import side_requirement
from cyclecast.training.recipes.settings import DiscriminatorConfig, TranslationConfig
from cyclecast.training.recipes.translation import Translation
from cyclecast.training.steadiness_loss import flatness_loss, steadiness_loss
from cyclecast.training.style_targets import BLOCKS, UNIT, StyleTargets, crop_to_unit, shrink_to_half

BORDER = 16  # pixels of a crop's edge that no loss sees; an export pads frames by more, so that footage never shows them
COPY_WEIGHT = 20.0  # makes gradients as large as those of the style, so that Adam's steps do not jump when the style begins
RANGE_WEIGHT = 10.0  # of the mean excess of the output beyond [-1, 1], which is clamped when it is shown
MOST_STYLES = 200  # style images whose statistics are kept: each takes 2 MB
CONTENTS = 48  # images whose colors and descriptors represent everything that will be styled


@dataclass(frozen=True, kw_only=True)
class StyleTransferConfig(TranslationConfig):
    """The settings of style transfer. Domain A: what will be styled; domain B: the style images, one or many."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "generator": "frame",
        "margin": 12,
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
    least_saturation: float = 0.4
    """Lowers the saturation of each source to a random share from this to 1, because footage is often paler than photos."""
    style_size: int = 640
    """Length of a style image's shorter side, pixels: the strokes in footage are as large as in the style image at this size."""
    copy_steps: int = 150
    """First steps, which learn to copy the source. They are fast, and the generator learns a style sooner from there."""
    style_weight: float = 25.0
    """Weight of the distance of the batch's Gram matrices to the style's, half of them at full and half at half scale."""
    content_weight: float = 0.1
    """Weight of 1 - the correlation of features of output and source: forms stay where they are."""
    palette_weight: float = 3.0
    """Weight of the distance of the output's colors from the source's colors in the style's palette, over 16x16 pixels."""
    smoothness_weight: float = 0.02
    """Weight of the total variation of the output."""
    steadiness_weight: float = 20.0
    """Weight at the end of the steadiness loss: output motion that differs from the input motion, and visible noise. Reduces
    flicker. It rises from 0 in proportion to the steps, so that strokes are learned first."""
    flatness_weight: float = 5.0
    """Weight at the end of patterns that the generator draws on images of one color. It rises as steadiness_weight does."""
    adversarial_weight: float = 0.0
    """Weight of a discriminator of the style images; for collections of 20 and more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weights(self)
        require(self, "least_saturation", 0 <= self.least_saturation <= 1, "from 0 to 1")
        require(self, "copy_steps", self.copy_steps >= 0, "at least 0")
        require(self, "style_size", self.style_size >= 2 * UNIT, f"at least {2 * UNIT}")
        least = 2 * UNIT + 2 * BORDER
        require(self.data, "crop_size", self.data.crop_size >= least, f"at least {least}")
        if self.adversarial_weight:
            expected = side_requirement(self.discriminator.discriminator, self.discriminator.discriminator_layers, self.side())
            require(self.data, "crop_size", expected is None, f"{expected} and {2 * BORDER} more, for the discriminator")

    def side(self) -> int:
        """Returns the side of the part of a crop that the losses see, pixels."""
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
        if not config.adversarial_weight:  # only a discriminator needs batches of style images
            load = (data.load_size, data.load_size_max or data.load_size)
            self.data = OneDomain(open_domain(data.domain_a, load, data.crop_size, flip=data.flip))
        self.features = EfficientNetFeatures(levels=4).eval()
        self.styles = read_style_images(config)
        examples = contents.first(CONTENTS, data.crop_size)
        shares = torch.linspace(config.least_saturation, 1.0, len(examples))
        self.targets = StyleTargets(self.features, self.styles, list(losses.scale_saturation(examples, shares)))
        self.networks |= {"features": self.features, "targets": self.targets}

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """Runs one step of the generator, then one of the discriminator if there is one."""
        least = self.config.least_saturation
        source = losses.scale_saturation(batch[0], least + (1 - least) * torch.rand(len(batch[0]), device=batch[0].device))
        if step < self.config.copy_steps:
            return learn("generators", self._copy_loss, source)[0]
        terms, (fake,) = learn("generators", partial(self._generator_loss, progress=step / self.steps), source)
        if self.config.adversarial_weight:
            discriminator_terms, _ = learn("discriminators", self._discriminator_loss, batch[1], fake)
            terms |= discriminator_terms
        return terms

    def data_facts(self) -> dict[str, Any]:
        """Returns facts of the data for the run's page."""
        return self.config.data.names() | {"style images": len(self.styles)} | self.data.facts()

    def _copy_loss(self, source: Tensor) -> LossTerms:
        loss = losses.l1_loss(self._inner(self.networks["generator_ab"](source)), self._inner(source))
        return LossTerms(COPY_WEIGHT * loss, {"copy": loss})

    def _generator_loss(self, source: Tensor, progress: float) -> LossTerms:
        """Computes the loss of a batch. progress: share of the steps that are done, which scales the weights that rise."""
        config = self.config
        generator = self.networks["generator_ab"]
        output = generator(source).float()
        # The losses see the clamped output, as a user does; gradients pass as if it were not clamped.
        excess = output - output.clamp(-1, 1)
        real, fake = self._inner(source), self._inner(output - excess.detach())
        with torch.no_grad():
            real_maps = self.features(real)
            index = self.targets.nearest(real, real_maps)
            targets = self.targets.grams(index)
        maps, depthwise = self.features.forward_with_depthwise(fake, BLOCKS)
        depthwise += self.features.forward_with_depthwise(shrink_to_half(fake), BLOCKS)[1]
        grams = [losses.gram_matrix(each) for each in depthwise]
        parts = {
            # Over the batch: otherwise every crop would have to show the whole palette, and would lose its contrast.
            "style": losses.gram_loss([each.mean(0) for each in grams], [each.mean(0) for each in targets]),
            "content": losses.content_loss(maps[1:3], real_maps[1:3]),
            "palette": losses.color_loss(fake, self.targets.recolor(real), 16),
            "smoothness": losses.total_variation(fake),
            "range": excess.abs().mean(),
        }
        if config.steadiness_weight:
            parts["steadiness"] = steadiness_loss(generator, source, output)
        if config.flatness_weight:
            parts["flatness"] = flatness_loss(generator, source, config.generator.margin)
        if config.adversarial_weight:
            scores = self.discriminate("discriminator", fake)
            parts["adversarial"] = losses.generator_loss(scores, config.adversary.adversarial)
        weights = {name: getattr(config, f"{name}_weight", RANGE_WEIGHT) for name in parts}
        weights |= {name: progress * weights[name] for name in ("steadiness", "flatness") if name in weights}
        total = sum((weights[name] * value for name, value in parts.items()), output.new_zeros(()))
        return LossTerms(total, parts, (fake,))

    def _discriminator_loss(self, real: Tensor, fake: Tensor) -> LossTerms:
        total, loss = self.discriminator_loss("discriminator", self._inner(real), fake)
        return LossTerms(total, {"discriminator": loss})

    def _inner(self, images: Tensor) -> Tensor:
        """Cuts out the part of crops that the losses see."""
        return crop_to_unit(images[:, :, BORDER:-BORDER, BORDER:-BORDER])


def read_style_images(config: StyleTransferConfig) -> list[Tensor]:
    """Reads up to MOST_STYLES evenly spaced style images: (3, H, W) in [-1, 1], RGB, the shorter side style_size.

    Of a panorama, only the middle is used, twice as long as it is high. Raises InputError if none can be read.
    """
    paths = list_images(config.data.domain_b)
    images = []
    for index in spaced_indices(len(paths), MOST_STYLES):
        image = read_image(paths[index])
        if image is not None:
            image = resize_short_side(image, config.style_size)
            top, left = (max(0, side - 2 * config.style_size) // 2 for side in image.shape[:2])
            images.append(to_tensor(image[top : top + 2 * config.style_size, left : left + 2 * config.style_size]))
    if not images:
        raise InputError(f"{config.data.domain_b}: none of its {len(paths)} image files can be read")
    return images
