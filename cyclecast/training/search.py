"""CoGAN's translation: finds an image's latent and passes it to another generator (CycleGAN, section 5.1.1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Adam

from cyclecast.training.networks import LatentGenerator

STEPS, RATE = 100, 0.1  # of Adam


def translate(source: LatentGenerator, target: LatentGenerator, images: Tensor) -> Tensor:
    """Fits latents so that `source` reproduces the images (L2, gradient descent), and returns `target`'s images of them.

    images: (N, 3, S, S) in [-1, 1]; both networks in evaluation mode; their weights do not change.
    """
    with torch.enable_grad():
        latents = torch.zeros(len(images), source.latent, device=images.device, requires_grad=True)
        optimizer = Adam([latents], RATE)
        for _ in range(STEPS):
            optimizer.zero_grad()
            functional.mse_loss(source(latents), images, reduction="sum").backward()
            optimizer.step()
    with torch.no_grad():
        translated: Tensor = target(latents)
    return translated
