"""The latent behind a picture, and what another generator draws of it: how CoGAN translates (CycleGAN, section 5.1.1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Adam

from cyclecast.training.networks import LatentGenerator

STEPS, RATE = 100, 0.1  # of Adam


def translate(source: LatentGenerator, target: LatentGenerator, images: Tensor) -> Tensor:
    """Finds the latents from which `source` draws the images best (L2, by gradient), and lets `target` draw them.

    images: (N, 3, S, S) in [-1, 1]; networks in evaluation mode, their weights left alone.
    """
    with torch.enable_grad():
        latents = torch.zeros(len(images), source.latent, device=images.device, requires_grad=True)
        optimizer = Adam([latents], RATE)
        for _ in range(STEPS):
            optimizer.zero_grad()
            functional.mse_loss(source(latents), images, reduction="sum").backward()
            optimizer.step()
    with torch.no_grad():
        drawn: Tensor = target(latents)
    return drawn
