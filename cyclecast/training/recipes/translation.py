"""What the recipes between two domains share: generators, discriminators, optimizers, the fixed set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from cyclecast.training import losses
from cyclecast.training.augment import augment
from cyclecast.training.data import OneDomain, PairedData, UnpairedData
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.networks import build_generator
from cyclecast.training.pool import ImagePool
from cyclecast.training.processes import Processes
from cyclecast.training.recipes.base import RecipeBase, copy_for_average, count_steps
from cyclecast.training.recipes.settings import DiscriminatorConfig, PoolConfig, TranslationConfig

EPOCHS = 200  # of the larger domain: 100 at a constant rate and 100 of decay (CycleGAN, appendix 7.1)


def has_batch_norm(network: nn.Module) -> bool:
    """Returns whether the network normalizes by statistics of the whole batch, so that images in one call affect each other."""
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    return any(isinstance(module, norms) for module in network.modules())


def translate_both(generator: nn.Module, source: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Translates `source` and, in the same call, runs the generator on its own target domain, for an identity loss.

    Instance norm processes each image by itself, so one call computes the same images in less time. Batch norm would mix the
    statistics of both domains: such a generator translates `source` alone, and the second result is None.
    """
    if target is None or has_batch_norm(generator):
        return generator(source), None
    translated, same = generator(torch.cat([source, target])).chunk(2)
    return translated, same


class Translation(RecipeBase):
    """Generators between two domains; a recipe adds its losses and one step.

    directions: of the generators that are trained, `a2b` or `b2a`.
    """

    paired = False  # whether real_a and real_b of a batch show the same scene

    def __init__(self, config: TranslationConfig, directions: tuple[str, ...], discriminators: Mapping[str, nn.Module]) -> None:
        self.config: TranslationConfig = config
        optim, architecture = config.optim, config.generator.architecture()
        self.data: OneDomain | PairedData | UnpairedData = config.data.open(paired=self.paired)
        self.steps = count_steps(config, self.data, EPOCHS)
        generators = {f"generator_{d[0]}{d[2]}": build_generator(**architecture) for d in directions}
        self.networks: dict[str, nn.Module] = {**generators, **discriminators}
        # Averages of the generators' weights: these are sampled and exported.
        self.averages = {name: copy_for_average(net) for name, net in generators.items()}
        self.decays = dict.fromkeys(self.averages, (optim.ema_decay, 0))
        self.exports = {d: {"network": f"generator_{d[0]}{d[2]}", "architecture": architecture} for d in directions}
        betas = (optim.beta1, 0.999)
        self.optimizers: dict[str, Optimizer] = {
            "generators": Adam([p for net in generators.values() for p in net.parameters()], optim.learning_rate, betas),
        }
        if discriminators:
            weights = [p for net in discriminators.values() for p in net.parameters()]
            self.optimizers["discriminators"] = Adam(weights, optim.learning_rate, betas)
        self.rates = {  # at the first step; the loop lowers them
            "generators": optim.learning_rate,
            "discriminators": optim.learning_rate * config.adversary.discriminator_rate,
        }
        self.pools: dict[str, ImagePool] = {}

    def batch(self, step: int, processes: Processes) -> tuple[Tensor, ...]:
        """Returns (real_a, real_b) of this step and process, on the CPU: (N, 3, S, S) float32 in [-1, 1], RGB."""
        size = self.config.optim.batch_size
        return self.data.batch(self.config.seed, step, size, first=processes.rank * size)

    def discriminate(self, name: str, images: Tensor) -> Tensor:
        """Returns the raw scores of discriminator `name`."""
        scores: Tensor = self.networks[name](augment(images) if self.config.adversary.augment else images)
        return scores

    def discriminator_loss(self, name: str, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what discriminator `name` minimizes, and its loss without the gradient penalty that `wasserstein` adds."""
        if has_batch_norm(self.networks[name]):  # real and fake images have statistics of their own
            real_scores, fake_scores = self.discriminate(name, real), self.discriminate(name, fake)
        else:
            real_scores, fake_scores = self.discriminate(name, torch.cat([real, fake])).chunk(2)
        loss = losses.discriminator_loss(real_scores, fake_scores, self.config.adversary.adversarial)
        if self.config.adversary.adversarial != "wasserstein":
            return loss, loss
        penalty = losses.gradient_penalty(partial(self.discriminate, name), real, fake)
        return loss + self.config.adversary.penalty_weight * penalty, loss

    def fixed_set(self) -> dict[str, Tensor]:
        """Returns images that are translated throughout training: direction -> (n, 3, S, S)."""
        least = max(int(getattr(network, "stride", 4)) for network in self.averages.values())
        fixed = self.config.data.fixed_sets(max(self.config.data.load_size // least * least, least))
        return {direction: fixed[direction] for direction in self.exports}

    def data_facts(self) -> dict[str, Any]:
        """Returns the facts of the data for the run's page."""
        return self.config.data.names() | self.data.facts()

    @torch.no_grad()
    def sample(self, name: str, inputs: Tensor) -> Tensor:
        """Translates (n, 3, H, W) in [-1, 1] by the averaged generator of direction `name` ("a2b" or "b2a"), in fp32."""
        network = self.averages[f"generator_{name[0]}{name[2]}"]
        return torch.cat([network(image[None]) for image in inputs])


@dataclass(frozen=True, kw_only=True)
class TwoSidedConfig(TranslationConfig):
    """The settings of a recipe with a discriminator and a pool of past fakes for each domain."""

    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    pool: PoolConfig = PoolConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.discriminator.check_side(self.data)


class TwoSided(Translation, ABC):
    """Both directions, each with its own discriminator and its own pool of past fakes; a recipe adds the generators' loss."""

    def __init__(self, config: TwoSidedConfig) -> None:
        discriminators = {"discriminator_a": config.discriminator.build(), "discriminator_b": config.discriminator.build()}
        super().__init__(config, ("a2b", "b2a"), discriminators)
        self.pools = {"fake_a": ImagePool(config.pool.pool_size), "fake_b": ImagePool(config.pool.pool_size)}

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """Runs one step of both generators, then one of both discriminators."""
        real_a, real_b = batch
        terms, (fake_a, fake_b) = learn("generators", self.generator_loss, real_a, real_b)
        past_a, past_b = self.pools["fake_a"].exchange(fake_a), self.pools["fake_b"].exchange(fake_b)
        discriminator_terms, _ = learn("discriminators", self._discriminator_loss, real_a, real_b, past_a, past_b)
        return terms | discriminator_terms

    @abstractmethod
    def generator_loss(self, real_a: Tensor, real_b: Tensor) -> LossTerms:
        """Computes the recipe's loss; its outputs are (fake_a, fake_b)."""

    def _discriminator_loss(self, real_a: Tensor, real_b: Tensor, fake_a: Tensor, fake_b: Tensor) -> LossTerms:
        total_a, loss_a = self.discriminator_loss("discriminator_a", real_a, fake_a)
        total_b, loss_b = self.discriminator_loss("discriminator_b", real_b, fake_b)
        return LossTerms(total_a + total_b, {"discriminator_a": loss_a, "discriminator_b": loss_b})
