"""Several processes that train one model, each on its share of the batch: those that `torchrun` starts, or just this one."""

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
    """This process among those that train together."""

    rank: int = 0
    """Number of this process; process 0 writes the files."""
    count: int = 1
    """Number of processes."""

    def average(self, tensors: list[Tensor]) -> None:
        """Replaces each tensor by its mean over all processes, in place, in one exchange."""
        if self.count > 1 and tensors:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            distributed.all_reduce(flat)
            parts = (flat / self.count).split([tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Copies process 0's values to every process, in place."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def gather(self, value: Any) -> list[Any]:
        """Returns the values of all processes, ordered by rank."""
        gathered = [value] * self.count
        if self.count > 1:
            distributed.all_gather_object(gathered, value)
        return gathered


@contextmanager
def process_group(device: torch.device) -> Iterator[Processes]:
    """Joins the process group that `torchrun` describes (NCCL on GPUs, gloo on CPUs); without one, this process is alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(f"WORLD_SIZE is {count}, but not set by torchrun (no {missing[0]}); start with torchrun, or unset it")
    if device.type == "cuda":
        device_before = torch.cuda.current_device()
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
        if device.type == "cuda":
            torch.cuda.set_device(device_before)
