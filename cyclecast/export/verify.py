"""Compares an exported file with PyTorch on real frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from cyclecast.errors import ConfigError
from cyclecast.export.agreement import SIZES, Agreement, compare, compare_engines
from cyclecast.export.checkpoints import read_generator_of
from cyclecast.export.frame_graph import LatentGraph, reference
from cyclecast.runtime.engine import Engine, Image, SynchronousEngine, dense, spec_from_metadata
from cyclecast.training.networks import ImageGenerator, LatentGenerator


class Reference(SynchronousEngine):
    """A generator as an engine: computes `reference` in fp32 on the CPU. All engines are compared with it."""

    name, device, precision = "pytorch", "cpu", "fp32"
    size: tuple[int, int] | None = None
    metadata: str | None = None

    def __init__(self, network: ImageGenerator, keep_colors: float = 0.0, strength: float = 1.0) -> None:
        self._network, self._keep_colors, self._strength = network, keep_colors, strength

    def prepare(self, width: int, height: int) -> None:
        """Does nothing: there is nothing to compile."""

    def run(self, frame: Image) -> Image:
        return reference(self._network, torch.from_numpy(dense(frame)), self._keep_colors, self._strength).numpy()

    def close(self) -> None:
        """Does nothing: there is nothing to free."""


def reference_from_checkpoint(checkpoint: Path, metadata: str | None, key: str | None = None) -> Reference:
    """Reads a checkpoint's generator as a `Reference`. Direction, keep_colors and strength are those of an exported model.

    metadata: the exported model's. key: the generator of a file with several. Raises ConfigError for a latent model; other
    errors as in `read_generator`.
    """
    spec = spec_from_metadata(checkpoint, metadata)
    network = read_generator_of(checkpoint, spec, key).network
    if isinstance(network, LatentGenerator):
        raise ConfigError(f"{checkpoint}: a latent model (noise in, images out), which has no frames to compare")
    return Reference(network, spec.keep_colors, spec.strength)


def verify(
    engine: Engine,
    network: ImageGenerator,
    frames: Sequence[Image],
    sizes: Sequence[tuple[int, int]] = SIZES,
    keep_colors: float = 0.0,
    strength: float = 1.0,
) -> list[Agreement]:
    """Compares `engine` with `network` in PyTorch fp32. frames, sizes and errors: see `compare_engines`."""
    return compare_engines(engine, Reference(network, keep_colors, strength), frames, sizes)


def random_latents(network: LatentGenerator, count: int = 16) -> Tensor:
    """Draws (count, Z) from N(0, 1) with a fixed seed."""
    return torch.randn(count, network.latent, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def verify_latent(path: Path, network: LatentGenerator, precision: str = "fp32") -> Agreement:
    """Compares a latent model in ONNX Runtime with PyTorch fp32, on `random_latents`."""
    latents = random_latents(network)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = np.asarray(session.run(None, {"latent": latents.numpy()})[0], np.uint8)  # (N, H, W, 3)
    expected = LatentGraph(network)(latents).numpy()
    return compare((images.shape[2], images.shape[1]), zip(images, expected, strict=True), precision)
