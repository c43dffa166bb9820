"""CycleGAN (Zhu, Park, Isola, Efros 2017): G: A -> B and F: B -> A, held together by cycle consistency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from cyclecast.training import losses
from cyclecast.training.config import require, require_weights
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.recipes.translation import TwoSided, TwoSidedConfig, translate_both

Variant = Literal["full", "cycle_alone", "gan_alone", "gan_forward", "gan_backward"]


@dataclass(frozen=True, kw_only=True)
class CycleGanConfig(TwoSidedConfig):
    """The settings of CycleGAN. The defaults are the paper's, which has none of the losses whose weight is 0 here."""

    variant: Variant = "full"
    """Ablations of the paper's section 5.1.4: no adversarial loss, no cycle loss, only the cycle A -> B -> A or B -> A -> B."""
    cycle_weight: float = 10.0
    """Lambda, the weight of the cycle loss."""
    cycle_scale: int = 1
    """Averages squares of this many pixels before the cycle loss compares them; the paper: 1."""
    cycle_colors: bool = True
    """Whether the cycle loss compares colors, as in the paper, or only brightness: lost colors need not come back."""
    color_weight: float = 0.0
    """Weight of the loss that keeps the mean color of areas of 8x8 pixels near the source's."""
    brightness_weight: float = 0.0
    """Weight of the loss that keeps their mean brightness near the source's and leaves hues free."""
    structure_weight: float = 0.0
    """Weight of the loss that keeps what is lighter than its surroundings, 15 pixels wide, lighter."""
    whiten_weight_a: float = 0.0
    """Weight of the loss that turns green areas white on the way to domain A and keeps all other hues."""
    whiten_weight_b: float = 0.0
    """The same on the way to domain B: summer to winter."""
    smoothness_weight_a: float = 0.0
    """Weight of the total variation of fakes of domain A: flat areas between edges, as in prints."""
    smoothness_weight_b: float = 0.0
    """The same for domain B."""
    identity_weight: float = 5.0
    """Weight of the identity loss: half of lambda (CycleGAN, section 5.2); the ablations have none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        crop_size = self.data.crop_size
        require(self, "cycle_scale", 1 <= self.cycle_scale <= crop_size, f"from 1 to crop_size, {crop_size}")
        require_weights(self)

    def variant_identity_weight(self) -> float:
        """Returns the weight of the identity loss in this variant."""
        return self.identity_weight if self.variant == "full" else 0.0

    def variant_cycles(self) -> tuple[bool, bool]:
        """Returns whether this variant has the cycles A -> B -> A and B -> A -> B."""
        return self.variant in ("full", "cycle_alone", "gan_forward"), self.variant in ("full", "cycle_alone", "gan_backward")


class CycleGan(TwoSided):
    """Two generators, two discriminators, pools of past fakes."""

    Config = CycleGanConfig
    config: CycleGanConfig

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """Runs one step of the generators, then one of the discriminators, unless the variant has no adversarial loss."""
        if self.config.variant == "cycle_alone":
            return learn("generators", self.generator_loss, *batch)[0]
        return super().step(batch, learn, step)

    def generator_loss(self, real_a: Tensor, real_b: Tensor) -> LossTerms:
        """Computes adversarial + lambda cycle + identity loss (CycleGAN, equation 3), and the losses that settings add."""
        config, adversarial = self.config, self.config.adversary.adversarial
        generator_ab, generator_ba = self.networks["generator_ab"], self.networks["generator_ba"]
        identity_weight = config.variant_identity_weight()
        fake_b, same_b = translate_both(generator_ab, real_a, real_b if identity_weight else None)
        fake_a, same_a = translate_both(generator_ba, real_b, real_a if identity_weight else None)
        parts: dict[str, Tensor] = {}
        weights: dict[str, float] = {}
        if config.variant != "cycle_alone":
            parts["adversarial_ab"] = losses.generator_loss(self.discriminate("discriminator_b", fake_b), adversarial)
            parts["adversarial_ba"] = losses.generator_loss(self.discriminate("discriminator_a", fake_a), adversarial)
        has_forward, has_backward = config.variant_cycles()
        if has_forward:
            parts["cycle_a"] = losses.cycle_loss(generator_ba(fake_b), real_a, config.cycle_scale, config.cycle_colors)
        if has_backward:
            parts["cycle_b"] = losses.cycle_loss(generator_ab(fake_a), real_b, config.cycle_scale, config.cycle_colors)
        for name, weight, loss in (
            ("color", config.color_weight, losses.color_loss),
            ("brightness", config.brightness_weight, losses.brightness_loss),
            ("structure", config.structure_weight, losses.structure_loss),
        ):
            if weight:
                parts[f"{name}_a"], parts[f"{name}_b"] = loss(fake_b, real_a), loss(fake_a, real_b)
                weights |= {f"{name}_a": weight, f"{name}_b": weight}
        if config.whiten_weight_a:
            parts["whiten_a"] = losses.snow_loss(fake_a, real_b)
        if config.whiten_weight_b:
            parts["whiten_b"] = losses.snow_loss(fake_b, real_a)
        if config.smoothness_weight_a:
            parts["smoothness_a"] = losses.total_variation(fake_a)
        if config.smoothness_weight_b:
            parts["smoothness_b"] = losses.total_variation(fake_b)
        if identity_weight:
            # Last, so that batch norms see translation, cycle and identity in the order of the authors' code.
            same_b = generator_ab(real_b) if same_b is None else same_b
            same_a = generator_ba(real_a) if same_a is None else same_a
            parts["identity_a"], parts["identity_b"] = losses.l1_loss(same_a, real_a), losses.l1_loss(same_b, real_b)
        weights |= {
            "adversarial_ab": 1.0,
            "adversarial_ba": 1.0,
            "cycle_a": config.cycle_weight,
            "cycle_b": config.cycle_weight,
            "whiten_a": config.whiten_weight_a,
            "whiten_b": config.whiten_weight_b,
            "smoothness_a": config.smoothness_weight_a,
            "smoothness_b": config.smoothness_weight_b,
            "identity_a": identity_weight,
            "identity_b": identity_weight,
        }
        total = sum((weights[name] * part for name, part in parts.items()), real_a.new_zeros(()))
        return LossTerms(total, parts, (fake_a, fake_b))
