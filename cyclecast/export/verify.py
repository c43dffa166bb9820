"""The exported file against PyTorch, on real frames: numbers, a tolerance, a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from cyclecast.errors import ConfigError
from cyclecast.export.agreement import SIZES, Agreement, compare, compare_engines
from cyclecast.export.checkpoints import read_generator
from cyclecast.export.frame_graph import LatentGraph, reference
from cyclecast.runtime.engine import Engine, Image, SynchronousEngine, dense, spec_from_metadata
from cyclecast.training.networks import ImageGenerator, LatentGenerator


class Reference(SynchronousEngine):
    """A generator as an engine, by the plain formula (`reference`) in fp32 on the CPU: what all others are held against."""

    name, device, precision = "pytorch", "cpu", "fp32"
    size: tuple[int, int] | None = None
    metadata: str | None = None

    def __init__(self, network: ImageGenerator, keep_colors: float = 0.0) -> None:
        self._network, self._keep_colors = network, keep_colors

    def prepare(self, width: int, height: int) -> None:
        """Nothing is compiled."""

    def run(self, frame: Image) -> Image:
        return reference(self._network, torch.from_numpy(dense(frame)), self._keep_colors).numpy()

    def close(self) -> None:
        """Nothing is held."""


def of_checkpoint(checkpoint: Path, metadata: str | None) -> Reference:
    """The generator of a checkpoint that a model with these metadata was exported of, by its direction and colors kept.

    ConfigError if it makes pictures of noise; else as `read_generator`.
    """
    spec = spec_from_metadata(checkpoint, metadata)
    network = read_generator(checkpoint, spec.direction or None).network
    if isinstance(network, LatentGenerator):
        raise ConfigError(f"{checkpoint}: makes pictures of noise, no frames that could be compared")
    return Reference(network, spec.keep_colors)


def verify(
    engine: Engine,
    network: ImageGenerator,
    frames: Sequence[Image],
    sizes: Sequence[tuple[int, int]] = SIZES,
    keep_colors: float = 0.0,
) -> list[Agreement]:
    """`engine`'s frames against `network`'s in PyTorch fp32; the rest as `compare_engines`."""
    return compare_engines(engine, Reference(network, keep_colors), frames, sizes)


def drawn_latents(network: LatentGenerator, count: int = 16) -> Tensor:
    """(count, Z) from N(0, 1), always the same."""
    return torch.randn(count, network.latent, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def verify_latent(path: Path, network: LatentGenerator, precision: str = "fp32") -> Agreement:
    """A latent model's file in ONNX Runtime against PyTorch fp32, on `drawn_latents`."""
    latents = drawn_latents(network)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    made = np.asarray(session.run(None, {"latent": latents.numpy()})[0], np.uint8)  # (N, H, W, 3)
    expected = LatentGraph(network)(latents).numpy()
    return compare((made.shape[2], made.shape[1]), zip(made, expected, strict=True), precision)
