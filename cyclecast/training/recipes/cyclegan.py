"""CycleGAN (Zhu, Park, Isola, Efros 2017): G: A -> B and F: B -> A, held together by cycle consistency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cyclecast.training import losses
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.recipes.translation import TwoSided, TwoSidedConfig

Variant = Literal["full", "cycle_alone", "gan_alone", "gan_forward", "gan_backward"]


@dataclass(frozen=True, kw_only=True)
class CycleGanConfig(TwoSidedConfig):
    """The paper's defaults."""

    variant: Variant = "full"
    """Ablations of the paper's section 5.1.4: no adversarial loss, no cycle loss, the cycle A -> B -> A or B -> A -> B alone."""
    cycle_weight: float = 10.0
    """Lambda of the cycle loss."""
    cycle_scale: int = 1
    """Pixels, each way, that the cycle loss averages before it compares; the paper: 1."""
    cycle_colors: bool = True
    """Whether the cycle loss compares colors, as in the paper, or brightness alone: a meadow that snow covers was any green."""
    color_weight: float = 0.0
    """Of the loss that keeps the mean color of an area, 8 pixels wide, near the source's; the paper has none."""
    brightness_weight: float = 0.0
    """The same of its mean brightness, which leaves hues free: a print has a palette of its own; the paper has none."""
    structure_weight: float = 0.0
    """Of the loss that keeps what is lighter than its surroundings, 15 pixels wide, lighter; the paper has none."""
    snow_weight_b: float = 0.0
    """Of the loss that whitens what is green on the way to domain B, and keeps skies: summer to winter; the paper has none."""
    smoothness_weight_a: float = 0.0
    """Of the total variation of what is made for domain A: flat areas between edges, as prints have them; the paper has none."""
    smoothness_weight_b: float = 0.0
    """The same for domain B."""
    identity_weight: float = 5.0
    """Of the identity loss: half of lambda (CycleGAN, section 5.2); the ablations have none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("cycle_scale", 1 <= self.cycle_scale <= self.crop_size, "from 1 to crop_size")
        self._require_weights("cycle_weight", "color_weight", "brightness_weight", "structure_weight")
        self._require_weights("snow_weight_b", "smoothness_weight_a", "smoothness_weight_b", "identity_weight")

    def identity(self) -> float:
        """The weight of the identity loss in this variant."""
        return self.identity_weight if self.variant == "full" else 0.0

    def cycles(self) -> tuple[bool, bool]:
        """Whether A -> B -> A and B -> A -> B are asked to come back."""
        return self.variant in ("full", "cycle_alone", "gan_forward"), self.variant in ("full", "cycle_alone", "gan_backward")


class CycleGan(TwoSided):
    """Two generators, two discriminators, pools of past fakes (the seed's algorithm 3)."""

    Config = CycleGanConfig
    config: CycleGanConfig

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """As everywhere; without an adversarial loss, of the generators alone."""
        if self.config.variant == "cycle_alone":
            return learn("generators", self.generator_loss, *batch)[0]
        return super().step(batch, learn, step)

    def generator_loss(self, real_a: Tensor, real_b: Tensor) -> LossTerms:
        """Adversarial + lambda cycle + identity (CycleGAN, equation 3)."""
        config, identity = self.config, self.config.identity()
        generator_ab, generator_ba = self.networks["generator_ab"], self.networks["generator_ba"]
        # Translation and identity in one call: instance norm looks at each sample alone, so nothing changes but the speed.
        if identity:
            fake_b, same_b = generator_ab(torch.cat([real_a, real_b])).chunk(2)
            fake_a, same_a = generator_ba(torch.cat([real_b, real_a])).chunk(2)
        else:
            fake_b, fake_a = generator_ab(real_a), generator_ba(real_b)
        parts: dict[str, Tensor] = {}
        total = real_a.new_zeros(())
        if config.variant != "cycle_alone":
            parts["adversarial_ab"] = losses.generator_loss(self.judge("discriminator_b", fake_b), config.adversarial)
            parts["adversarial_ba"] = losses.generator_loss(self.judge("discriminator_a", fake_a), config.adversarial)
            total = total + parts["adversarial_ab"] + parts["adversarial_ba"]
        forward, backward = config.cycles()
        if forward:
            parts["cycle_a"] = losses.cycle_loss(generator_ba(fake_b), real_a, config.cycle_scale, config.cycle_colors)
            total = total + config.cycle_weight * parts["cycle_a"]
        if backward:
            parts["cycle_b"] = losses.cycle_loss(generator_ab(fake_a), real_b, config.cycle_scale, config.cycle_colors)
            total = total + config.cycle_weight * parts["cycle_b"]
        for name, weight, kept in (
            ("color", config.color_weight, losses.color_loss),
            ("brightness", config.brightness_weight, losses.brightness_loss),
            ("structure", config.structure_weight, losses.structure_loss),
        ):
            if weight:
                parts[f"{name}_a"], parts[f"{name}_b"] = kept(fake_b, real_a), kept(fake_a, real_b)
                total = total + weight * (parts[f"{name}_a"] + parts[f"{name}_b"])
        if config.snow_weight_b:
            parts["snow_b"] = losses.snow_loss(fake_b, real_a)
            total = total + config.snow_weight_b * parts["snow_b"]
        for domain, fake, weight in (("a", fake_a, config.smoothness_weight_a), ("b", fake_b, config.smoothness_weight_b)):
            if weight:
                parts[f"smoothness_{domain}"] = losses.total_variation(fake)
                total = total + weight * parts[f"smoothness_{domain}"]
        if identity:
            parts["identity_a"] = losses.l1_loss(same_a, real_a)
            parts["identity_b"] = losses.l1_loss(same_b, real_b)
            total = total + identity * (parts["identity_a"] + parts["identity_b"])
        return LossTerms(total, parts, (fake_a, fake_b))
