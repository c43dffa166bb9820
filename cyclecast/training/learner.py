"""One update of some of the networks: precision, accumulation, several processes. A recipe gives the loss, this does the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from cyclecast.errors import ConfigError, EngineUnavailable
from cyclecast.training.processes import Processes


class LossTerms(NamedTuple):
    """What a recipe's loss function returns for a batch."""

    total: Tensor
    """The scalar that is minimized."""
    parts: dict[str, Tensor]
    """Its terms by name, each a scalar: they are logged."""
    outputs: tuple[Tensor, ...] = ()
    """Tensors (N, …) that a later update of the same step needs."""


class Learner:
    """learner(optimizer, loss, *batch): one step of that optimizer on the batch.

    Only that optimizer's weights take gradients, so a generator's step costs the discriminator no weight gradients.
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
        self._learnt = {
            name: {id(p) for group in optimizer.param_groups for p in group["params"]} for name, optimizer in optimizers.items()
        }

    def autocast(self) -> AbstractContextManager[Any]:
        """The arithmetic of this run."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.precision == "bf16" else torch.float16)

    def __call__(self, name: str, loss: Callable[..., LossTerms], *batch: Tensor) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Minimizes `loss(*batch)` by one step of optimizer `name`; (its parts, its outputs), both detached, outputs in fp32.

        The batch is taken in `accumulate` parts of equal size, whose gradients are averaged, then over the processes.
        """
        optimizer, scaler = self.optimizers[name], self.scalers[name]
        for weight in self._weights:
            weight.requires_grad_(id(weight) in self._learnt[name])
        optimizer.zero_grad(set_to_none=True)
        done: list[LossTerms] = []
        for part in zip(*(tensor.chunk(self.accumulate) for tensor in batch), strict=True):
            with self.autocast():
                terms = loss(*part)
            scaler.scale(terms.total / self.accumulate).backward()
            outputs = tuple(output.detach().float() for output in terms.outputs)
            done.append(LossTerms(terms.total.detach(), {k: v.detach().float() for k, v in terms.parts.items()}, outputs))
        # Still scaled: an infinity in one process becomes one in all, so that all skip the step.
        self.processes.average([p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None])
        scaler.step(optimizer)
        scaler.update()
        parts = {key: torch.stack([terms.parts[key] for terms in done]).mean() for key in done[0].parts}
        return parts, tuple(torch.cat(outputs) for outputs in zip(*(terms.outputs for terms in done), strict=True))


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """The torch device for `--device`; EngineUnavailable if it was asked for and is not there. local_rank: torchrun's."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device({"gpu": "cuda"}.get(name, name))
    except RuntimeError:
        raise ConfigError(f"no device named {name!r}: auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"no device named {name!r}: auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        device = torch.device("cuda", local_rank if device.index is None else device.index)
        if device.index >= torch.cuda.device_count():
            raise EngineUnavailable(
                f"{device} was asked for and is not on this machine; torch sees {torch.cuda.device_count()} GPUs"
            )
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """fp32, bf16 or fp16; `auto` takes bf16 where the hardware has it. ConfigError for fp16 on a CPU."""
    if name == "auto":
        return "bf16" if has_native_bf16(device) else "fp32"
    if name == "fp16" and device.type != "cuda":
        raise ConfigError(f"precision fp16 trains on CUDA alone; on {device.type} take bf16 or fp32")
    return name


def pick_memory_format(name: str, device: torch.device, side: int) -> torch.memory_format:
    """The layout of weights and of images of `side` pixels; `auto`: channels innermost on a CPU, but for small images."""
    innermost = name == "channels_last" or (name == "auto" and device.type == "cpu" and side >= 64)
    return torch.channels_last if innermost else torch.contiguous_format


def has_native_bf16(device: torch.device) -> bool:
    """Whether bf16 is computed rather than emulated: Ampere and later GPUs, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
