"""Several processes that train one model, each on its share of the batch: what `torchrun` starts, or just this one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from cyclecast.errors import ConfigError


@dataclass(frozen=True)
class Processes:
    """This process among the others."""

    rank: int = 0
    """Its number; 0 writes the files."""
    count: int = 1
    """How many there are."""

    def average(self, tensors: list[Tensor]) -> None:
        """Replaces each tensor by its mean over all processes, in place, in one exchange."""
        if self.count > 1 and tensors:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            distributed.all_reduce(flat)
            parts = (flat / self.count).split([tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Gives everyone process 0's values, in place."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def gather(self, value: Any) -> list[Any]:
        """Everyone's value, in the order of the ranks."""
        gathered = [value] * self.count
        if self.count > 1:
            distributed.all_gather_object(gathered, value)
        return gathered


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The group that the environment of `torchrun` describes (NCCL on GPUs, gloo on CPUs); without one, this process alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(f"WORLD_SIZE is {count}, but not set by torchrun (no {missing[0]}); start with torchrun, or unset it")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
