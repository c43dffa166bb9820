"""CUT (Park, Efros, Zhang, Zhu 2020): one direction without pairs or a way back; patches must recognize where they come from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from cyclecast.training import losses
from cyclecast.training.config import require, require_weights
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.networks.patch_heads import PatchHeads, draw_positions
from cyclecast.training.recipes.base import count_steps
from cyclecast.training.recipes.settings import DiscriminatorConfig, TranslationConfig
from cyclecast.training.recipes.translation import Translation, translate_both

PROBE_SIDE = 32  # side of the image that shows the channels of an encoder's maps: divisible by the stride of every encoder


@dataclass(frozen=True, kw_only=True)
class CutConfig(TranslationConfig):
    """The settings of CUT, on CycleGAN's networks, so that the two can be compared. FastCUT's are the shipped `fastcut`."""

    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    direction: Literal["a2b", "b2a"] = "a2b"
    """The direction that is trained, and the only one that can be exported."""
    epochs: int = 400
    """Passes over the larger domain, if `steps` is not set; FastCUT: 200."""
    nce_weight: float = 1.0
    """Weight of the PatchNCE loss of a translation, lambda_X (CUT, equation 5): it keeps the structure; FastCUT: 10."""
    identity_weight: float = 1.0
    """Weight of the PatchNCE loss of a target image that should stay as it is, lambda_Y (CUT, equation 5); FastCUT: 0."""
    flip_equivariance: bool = False
    """Mirrors half of the sources before they are translated, and their features back before they are compared (FastCUT)."""
    patches: int = 256
    """Positions of each of the five layers that are compared in a step: a patch tells its own from all the others."""
    temperature: float = 0.07
    """Divides the similarities of patches: a lower one weighs the patches that are most alike more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.discriminator.check_side(self.data)
        require_weights(self, "nce_weight", "identity_weight")
        require(self, "epochs", self.epochs >= 1, "at least 1")
        require(self, "patches", self.patches >= 2, "at least 2")
        require(self, "temperature", 0 < self.temperature < math.inf, "above 0")


class Cut(Translation):
    """One generator, whose first half is also the encoder of patches; one discriminator; the heads of the encoder's maps."""

    Config = CutConfig
    config: CutConfig

    def __init__(self, config: CutConfig) -> None:
        source, target = config.direction[0], config.direction[2]
        self.adversary = f"discriminator_{target}"
        super().__init__(config, (config.direction,), {self.adversary: config.discriminator.build()})
        self.steps = count_steps(config, self.data, config.epochs)
        self.generator: Any = self.networks[f"generator_{source}{target}"]
        self.heads = self._build_heads()
        self.networks["heads"] = self.heads
        self.optimizers["generators"].add_param_group({"params": list(self.heads.parameters())})

    @torch.no_grad()
    def _build_heads(self) -> PatchHeads:
        self.generator.eval()  # this call must not reach the statistics of batch norms
        maps = self.generator.encode(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE))
        self.generator.train()
        return PatchHeads([each.shape[1] for each in maps])

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """Runs one step of the generator and the heads, then one of the discriminator."""
        source, target = batch if self.config.direction == "a2b" else reversed(batch)
        terms, (fake,) = learn("generators", self._generator_loss, source, target)
        discriminator_terms, _ = learn("discriminators", self._discriminator_loss, target, fake)
        return terms | discriminator_terms

    def _generator_loss(self, source: Tensor, target: Tensor) -> LossTerms:
        """Computes adversarial + lambda_X PatchNCE(source) + lambda_Y PatchNCE(target) (CUT, equation 5)."""
        config = self.config
        is_mirrored = config.flip_equivariance and torch.rand(()).item() < 0.5
        shown = source.flip(3) if is_mirrored else source
        fake, same = translate_both(self.generator, shown, target if config.identity_weight else None)
        scores = self.discriminate(self.adversary, fake)
        parts = {
            "adversarial": losses.generator_loss(scores, config.adversary.adversarial),
            "nce": self._nce_loss(source, fake, is_mirrored),
        }
        total = parts["adversarial"] + config.nce_weight * parts["nce"]
        if config.identity_weight:
            parts["nce_identity"] = self._nce_loss(target, self.generator(target) if same is None else same)
            total = total + config.identity_weight * parts["nce_identity"]
        return LossTerms(total, parts, (fake,))

    def _nce_loss(self, source: Tensor, output: Tensor, is_mirrored: bool = False) -> Tensor:
        """Computes the PatchNCE loss between images and the generator's outputs for them, or for their mirror images."""
        maps = self.generator.encode(output)
        positions = draw_positions(maps, self.config.patches)
        queries = self.heads([each.flip(3) for each in maps] if is_mirrored else maps, positions)
        with torch.no_grad():
            keys = self.heads(self.generator.encode(source), positions)
        return losses.patch_nce_loss(queries, keys, self.config.temperature)

    def _discriminator_loss(self, real: Tensor, fake: Tensor) -> LossTerms:
        total, loss = self.discriminator_loss(self.adversary, real, fake)
        return LossTerms(total, {"discriminator": loss})
