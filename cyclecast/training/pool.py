"""The history of generated images that a discriminator is shown (Shrivastava et al. 2017; CycleGAN, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor


class ImagePool:
    """Keeps the last `size` fakes; half of what it returns is new, half from the past. Draws from torch's generator."""

    def __init__(self, size: int = 50) -> None:
        self.size = size
        self.images: list[Tensor] = []  # each (3, H, W)

    def exchange(self, fakes: Tensor) -> Tensor:
        """(N, 3, H, W) -> the same shape: each image is itself or, at even odds once full, an older one it replaces."""
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
        """The images as one (K, 3, H, W) tensor, or none at all."""
        return {"images": torch.stack(self.images).cpu()} if self.images else {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self.images = list(state["images"].unbind()) if state else []
