"""What the recipes share: resuming from config and weights alone, the length of a run, averages of weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sized
from typing import Any, TypeVar

from torch import nn

from cyclecast.training.config import TrainConfig

Network = TypeVar("Network", bound=nn.Module)


class RecipeBase:
    """A recipe without state of its own: config and weights are enough to resume its run."""

    @classmethod
    def from_checkpoint(cls, config: Any, state: Mapping[str, Any]) -> Any:
        """Builds the recipe of a run that is resumed; its weights are loaded later."""
        recipe: Any = cls
        return recipe(config)

    def extra_state(self) -> dict[str, Any]:
        """Returns what `from_checkpoint` needs besides config and weights: nothing."""
        return {}


def count_steps(config: TrainConfig, data: Sized, epochs: int) -> int:
    """Returns the setting `steps` or, without it, the steps of this many passes over the data in one process."""
    return config.steps or epochs * max(1, len(data) // config.optim.batch_size)


def copy_for_average(network: Network) -> Network:
    """Copies a network to hold the running average of its weights: in evaluation mode, without gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)
