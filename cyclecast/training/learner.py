"""One update of some of the networks: precision, accumulation, several processes. The recipe supplies the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from cyclecast.training.processes import Processes


class LossTerms(NamedTuple):
    """What a recipe's loss function returns for a batch."""

    total: Tensor
    """The scalar to minimize."""
    parts: dict[str, Tensor]
    """Its terms by name, each a scalar; they are logged."""
    outputs: tuple[Tensor, ...] = ()
    """Tensors (N, …) that a later update of the same step needs."""


class Learner:
    """learner(optimizer, loss, *batch): one step of that optimizer on the batch.

    Only that optimizer's weights get gradients: a generator's step computes no weight gradients of the discriminator.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        device: torch.device,
        precision: str = "fp32",
        accumulate: int = 1,
        processes: Processes | None = None,
    ) -> None:
        self.optimizers = optimizers
        self.device = device
        self.precision = precision
        self.accumulate = accumulate
        self.processes = processes or Processes()
        self.scalers = {name: GradScaler(device.type, enabled=precision == "fp16") for name in optimizers}
        weights = {id(p): p for network in networks.values() for p in network.parameters()}
        self._weights = list(weights.values())
        self._trained = {
            name: {id(p) for group in optimizer.param_groups for p in group["params"]} for name, optimizer in optimizers.items()
        }

    def autocast(self) -> AbstractContextManager[Any]:
        """Returns the autocast context of this run's precision."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.precision == "bf16" else torch.float16)

    def __call__(self, name: str, loss: Callable[..., LossTerms], *batch: Tensor) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Minimizes `loss(*batch)` by one step of optimizer `name`; returns (parts, outputs), detached, outputs in fp32.

        Splits the batch into `accumulate` equal parts and averages their gradients, then averages over the processes.
        """
        optimizer, scaler = self.optimizers[name], self.scalers[name]
        for weight in self._weights:
            weight.requires_grad_(id(weight) in self._trained[name])
        optimizer.zero_grad(set_to_none=True)
        results: list[LossTerms] = []
        for part in zip(*(tensor.chunk(self.accumulate) for tensor in batch), strict=True):
            with self.autocast():
                terms = loss(*part)
            scaler.scale(terms.total / self.accumulate).backward()
            outputs = tuple(output.detach().float() for output in terms.outputs)
            results.append(LossTerms(terms.total.detach(), {k: v.detach().float() for k, v in terms.parts.items()}, outputs))
        # Still scaled: an infinity in one process becomes one in all, so that all skip the step.
        self.processes.average([p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None])
        scaler.step(optimizer)
        scaler.update()
        parts = {key: torch.stack([terms.parts[key] for terms in results]).mean() for key in results[0].parts}
        return parts, tuple(torch.cat(outputs) for outputs in zip(*(terms.outputs for terms in results), strict=True))
