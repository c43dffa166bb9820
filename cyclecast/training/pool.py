"""A history of generated images to train a discriminator on (Shrivastava et al. 2017; CycleGAN, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor


class ImagePool:
    """Keeps `size` fakes. Once full, it returns about half new and half earlier ones. Uses torch's random generator."""

    def __init__(self, size: int = 50) -> None:
        self.size = size
        self.images: list[Tensor] = []  # each (3, H, W)

    def exchange(self, fakes: Tensor) -> Tensor:
        """Returns (N, 3, H, W) new or stored fakes: once the pool is full, it swaps each new one with a chance of 50 %."""
        if self.size == 0:
            return fakes
        out = []
        for fake in fakes.detach():
            if len(self.images) < self.size:
                self.images.append(fake.clone())
                out.append(fake)
            elif torch.rand(()).item() < 0.5:
                slot = int(torch.randint(self.size, ()).item())
                out.append(self.images[slot].to(fake.device))
                self.images[slot] = fake.clone()
            else:
                out.append(fake)
        return torch.stack(out)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the stored images as one (K, 3, H, W) tensor; an empty dict without images."""
        return {"images": torch.stack(self.images).cpu()} if self.images else {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores the images of `state_dict`."""
        self.images = list(state["images"].unbind()) if state else []
