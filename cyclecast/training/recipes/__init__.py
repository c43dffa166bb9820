"""The recipes, i.e. the systems that can be trained: one file each, one line in `RECIPES`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from cyclecast.training.config import TrainConfig
from cyclecast.training.learner import Learner
from cyclecast.training.pool import ImagePool
from cyclecast.training.processes import Processes
from cyclecast.training.recipes.bigan import BiGan
from cyclecast.training.recipes.cogan import CoGan
from cyclecast.training.recipes.cut import Cut
from cyclecast.training.recipes.cyclegan import CycleGan
from cyclecast.training.recipes.dcgan import Dcgan
from cyclecast.training.recipes.distill import Distill
from cyclecast.training.recipes.gan import Gan
from cyclecast.training.recipes.pix2pix import Pix2Pix
from cyclecast.training.recipes.simgan import SimGan
from cyclecast.training.recipes.style_transfer import StyleTransfer
from cyclecast.training.recipes.supervised import Supervised
from cyclecast.training.recipes.wgan import Wgan


class Recipe(Protocol):
    """What the loop needs of a recipe: networks on the CPU, one step, samples. The loop owns device, schedule and files."""

    Config: ClassVar[type[Any]]
    steps: int
    """Generator steps of the whole run."""
    rates: dict[str, float]
    """Optimizer -> its learning rate at the first step."""

    @classmethod
    def from_checkpoint(cls, config: Any, state: Mapping[str, Any]) -> Any:
        """Builds the recipe of a run that is resumed; its weights are loaded later. state: what its checkpoint holds."""

    def extra_state(self) -> dict[str, Any]:
        """Returns what `from_checkpoint` needs besides config and weights; plain data."""

    @property
    def config(self) -> TrainConfig: ...
    @property
    def networks(self) -> Mapping[str, nn.Module]: ...
    @property
    def averages(self) -> Mapping[str, nn.Module]:
        """Running averages of the weights of the networks of the same names."""

    decays: dict[str, tuple[float, int]]
    """Average -> its decay, and the steps that it averages already when this run starts."""

    @property
    def optimizers(self) -> Mapping[str, Optimizer]: ...
    @property
    def pools(self) -> Mapping[str, ImagePool]: ...
    @property
    def exports(self) -> dict[str, dict[str, Any]]:
        """Returns, for each export, {network: name of its average, architecture: the arguments of `build_generator`}."""

    def batch(self, step: int, processes: Processes) -> tuple[Tensor, ...]:
        """Returns this process's share of the batch of this step, on the CPU: a pure function of the seed and the step."""

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """Updates every network once (or as often as the recipe says); returns the losses as detached scalars."""

    def fixed_set(self) -> dict[str, Tensor]:
        """Returns inputs that are sampled throughout training, by name: images (n, 3, S, S) or latents (n, Z)."""

    def sample(self, name: str, inputs: Tensor) -> Tensor:
        """Returns what the averages generate from inputs of the fixed set: (n, 3, H, W) in [-1, 1]."""

    def data_facts(self) -> dict[str, Any]:
        """Returns facts of the data for the run's page."""


RECIPES: dict[str, Any] = {
    "gan": Gan,
    "dcgan": Dcgan,
    "wgan": Wgan,
    "cyclegan": CycleGan,
    "cut": Cut,
    "pix2pix": Pix2Pix,
    "cogan": CoGan,
    "bigan": BiGan,
    "simgan": SimGan,
    "distill": Distill,
    "style_transfer": StyleTransfer,
    "supervised": Supervised,
}
