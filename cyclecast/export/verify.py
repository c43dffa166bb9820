"""The exported file against PyTorch, on real frames: numbers, a tolerance, a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from cyclecast.errors import ConfigError
from cyclecast.export.agreement import SIZES, Agreement, Image, compare, fit
from cyclecast.export.frame_graph import LatentGraph, reference
from cyclecast.runtime.engine import Engine
from cyclecast.training.networks import ImageGenerator, LatentGenerator


def verify(
    engine: Engine,
    network: ImageGenerator,
    frames: Sequence[Image],
    sizes: Sequence[tuple[int, int]] = SIZES,
    keep_colours: float = 0.0,
) -> list[Agreement]:
    """`engine`'s frames against `network`'s in PyTorch fp32, at each size (width, height) that the model takes.

    frames: real images, (H, W, 3) uint8 BGR, any size: cropped to the size's shape and resized to it. ConfigError without any.
    """
    if not frames:
        raise ConfigError("no frame to compare the model on: give real ones, or leave the check out")
    report = []
    for width, height in [engine.size] if engine.size else sizes:
        fitted = [fit(frame, width, height) for frame in frames]
        pairs = ((engine.run(frame), reference(network, torch.from_numpy(frame), keep_colours).numpy()) for frame in fitted)
        report.append(compare((width, height), pairs, engine.precision))
    return report


@torch.no_grad()
def verify_latent(path: Path, network: LatentGenerator, precision: str = "fp32", count: int = 16) -> Agreement:
    """A latent model's file in ONNX Runtime against PyTorch fp32, on `count` latents from N(0, 1), one seed."""
    latents = torch.randn(count, network.latent, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    made = np.asarray(session.run(None, {"latent": latents.numpy()})[0], np.uint8)  # (N, H, W, 3)
    expected = LatentGraph(network)(latents).numpy()
    return compare((made.shape[2], made.shape[1]), zip(made, expected, strict=True), precision)
