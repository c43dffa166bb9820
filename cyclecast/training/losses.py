"""Losses: pure functions from tensors to a scalar, mean over everything."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def least_squares(scores: Tensor, target: float) -> Tensor:
    """E[(D(x) - target)^2]; target 1 means real, 0 fake (Mao et al. 2017; CycleGAN, section 4)."""
    return (scores.float() - target).square().mean()


def discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Least squares, halved so that D learns slower than G (CycleGAN, appendix 7.1)."""
    return 0.5 * (least_squares(real_scores, 1.0) + least_squares(fake_scores, 0.0))


def cycle_loss(reconstructed: Tensor, real: Tensor, scale: int = 1) -> Tensor:
    """|F(G(x)) - x|_1, per value (CycleGAN, equation 2); both averaged over scale x scale pixels first.

    At scale 1, as in the paper, G hides what it must give back in fine patterns that F can read (Chu et al. 2017); a larger
    scale lets paint replace detail.
    """
    return functional.l1_loss(functional.avg_pool2d(reconstructed.float(), scale), functional.avg_pool2d(real, scale))


def colour_loss(translated: Tensor, source: Tensor, scale: int = 8) -> Tensor:
    """How far the colours of areas of scale x scale pixels have moved, brightness left free; per value.

    Not in the paper: cycle consistency is content with any colours that the way back can undo, so grass may turn to earth.
    """
    moved = functional.avg_pool2d(translated.float() - source, scale)  # (N, 3, H / scale, W / scale)
    return (moved - moved.mean(1, keepdim=True)).abs().mean()


def identity_loss(same: Tensor, real: Tensor) -> Tensor:
    """|G(y) - y|_1 for y already in G's target domain: keeps colours (CycleGAN, section 5.2)."""
    return functional.l1_loss(same.float(), real)
