"""Losses: pure functions from tensors to a scalar, mean over everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Adversarial = Literal["least_squares", "log", "wasserstein"]


def least_squares(scores: Tensor, target: float) -> Tensor:
    """E[(D(x) - target)^2]; target 1 means real, 0 fake (Mao et al. 2017; CycleGAN, section 4)."""
    return (scores.float() - target).square().mean()


def generator_loss(fake_scores: Tensor, kind: Adversarial, real: bool = True) -> Tensor:
    """What G wants of D's raw scores of its fakes: those of real ones (or, not `real`, of the other side: BiGAN's second net).

    least_squares: towards 1. log: maximize log D (the log D trick of GAN, section 3). wasserstein: as high as can be.
    """
    if kind == "least_squares":
        return least_squares(fake_scores, 1.0 if real else 0.0)
    scores = fake_scores.float() if real else -fake_scores.float()
    return functional.softplus(-scores).mean() if kind == "log" else -scores.mean()


def saturating_loss(fake_scores: Tensor) -> Tensor:
    """E[log(1 - D(G(z)))], the minimax game as it stands (GAN, equation 1): flat where D is sure."""
    return -functional.softplus(fake_scores.float()).mean()


def discriminator_loss(real_scores: Tensor, fake_scores: Tensor, kind: Adversarial = "least_squares") -> Tensor:
    """What D wants: real scores high, fake ones low; mean of both, so that D learns slower than G (CycleGAN, appendix 7.1).

    wasserstein: not halved: minus the estimate of the distance (WGAN, equation 2).
    """
    if kind == "least_squares":
        return 0.5 * (least_squares(real_scores, 1.0) + least_squares(fake_scores, 0.0))
    if kind == "log":
        return 0.5 * (functional.softplus(-real_scores.float()).mean() + functional.softplus(fake_scores.float()).mean())
    return fake_scores.float().mean() - real_scores.float().mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """E[(|gradient of the critic|_2 - 1)^2] between real and fake (Gulrajani et al. 2017, equation 3).

    real, fake: (N, …). Of a critic of patches, the mean of whose scores is the loss, it is the gradient of that mean. In fp32
    whatever the rest computes in, as gradients of gradients are small. The points between are drawn from torch's generator.
    """
    share = torch.rand(len(real), *[1] * (real.ndim - 1)).to(real)
    between = (share * real.detach() + (1 - share) * fake.detach()).float().requires_grad_(True)
    with torch.autocast(real.device.type, enabled=False):
        total = critic(between).reshape(len(between), -1).mean(1).sum()
        (gradient,) = torch.autograd.grad(total, between, create_graph=True)
    lengths: Tensor = gradient.float().flatten(1).norm(dim=1)
    return (lengths - 1).square().mean()


def cycle_loss(reconstructed: Tensor, real: Tensor, scale: int = 1, colors: bool = True) -> Tensor:
    """|F(G(x)) - x|_1, per value (CycleGAN, equation 2); both averaged over scale x scale pixels first.

    At scale 1, as in the paper, G hides what it must give back in fine patterns that F can read (Chu et al. 2017); a larger
    scale lets paint replace detail. Without colors, of the brightness alone: what lost its colors need not find them again.
    """
    reconstructed = reconstructed.float()
    if not colors:
        reconstructed, real = _luma(reconstructed), _luma(real)
    return functional.l1_loss(functional.avg_pool2d(reconstructed, scale), functional.avg_pool2d(real, scale))


def color_loss(translated: Tensor, source: Tensor, scale: int = 8) -> Tensor:
    """How far the mean colors of areas of scale x scale pixels have moved; per value.

    Not in the paper: cycle consistency is content with any colors that the way back can undo, so grass may turn to earth,
    and day to night. Texture within an area is left free.
    """
    return functional.avg_pool2d(translated.float() - source, scale).abs().mean()


def brightness_loss(translated: Tensor, source: Tensor, scale: int = 8) -> Tensor:
    """The same of the areas' brightness (luma, ITU-R BT.601) of (N, 3, H, W), RGB: what is light stays light, in any hue."""
    return functional.avg_pool2d(_luma(translated.float() - source), scale).abs().mean()


def structure_loss(translated: Tensor, source: Tensor, window: int = 15) -> Tensor:
    """1 - the correlation of both brightnesses within windows: light and dark may move, but neither fade nor change places.

    (N, 3, H, W), RGB, sides of `window` or more; 0 where all forms are kept, 1 where there is no relation, 2 for a negative. The
    structure term of SSIM (Wang et al. 2004, equation 6).
    """
    made, real = _luma(translated.float()), _luma(source)
    steady = 0.5 * (0.03 * 2.0) ** 2

    def mean(image: Tensor) -> Tensor:
        return functional.avg_pool2d(image, window, 1)

    covariance: Tensor = mean(made * real) - mean(made) * mean(real)
    variances = (mean(made.square()) - mean(made).square()) * (mean(real.square()) - mean(real).square())
    return 1.0 - ((covariance + steady) / (variances.clamp_min(1e-8).sqrt() + steady)).mean()


def snow_loss(translated: Tensor, source: Tensor, scale: int = 8) -> Tensor:
    """How far the areas' mean colors are from what snow makes of them; of (N, 3, H, W), RGB in [-1, 1].

    What is green gets three quarters of the way to white, so that forms stay visible in it; other hues, skies, earth, skin,
    stay as they were. All may brighten by up to 0.15 more; nothing gets darker.
    """
    made, real = functional.avg_pool2d(translated.float(), scale), functional.avg_pool2d(source, scale)
    made_luma, real_luma = _luma(made), _luma(real)
    made, real = made - made_luma, real - real_luma
    strength = real.square().sum(1, keepdim=True).clamp_min(1e-6)
    r, g, b = torch.split(real / strength.sqrt(), 1, dim=1)
    green: Tensor = (-4.0 * b).clamp(0.0, 1.0) * (1.0 + 6.0 * (g - r)).clamp(
        0.0, 1.0
    )  # from yellow grass on, 0 for earth and skies
    covered = 0.75 * green * (4.0 * strength.sqrt()).clamp_max(1.0)
    light = real_luma + covered * (1.0 - real_luma)
    off = (light - made_luma).clamp_min(0.0) + (made_luma - light - 0.15).clamp_min(0.0)
    return (made - (1.0 - green) * real).abs().mean() + off.mean()


def _luma(images: Tensor) -> Tensor:
    """(N, 1, H, W) of (N, 3, H, W), RGB (ITU-R BT.601)."""
    return (images * images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def l1_loss(made: Tensor, real: Tensor) -> Tensor:
    """|made - real|_1, per value: identity (CycleGAN, section 5.2), paired (pix2pix), self-regularization (SimGAN)."""
    return functional.l1_loss(made.float(), real)


def ssim_loss(made: Tensor, real: Tensor, window: int = 11) -> Tensor:
    """1 - SSIM of two batches (N, C, H, W) in [-1, 1], sides of `window` or more (Wang et al. 2004), a square window."""
    made, real = made.float(), real.float()
    steady_mean, steady_variance = (0.01 * 2.0) ** 2, (0.03 * 2.0) ** 2  # the constants, for a range of 2
    mean_made, mean_real = functional.avg_pool2d(made, window, 1), functional.avg_pool2d(real, window, 1)
    variance_made = functional.avg_pool2d(made.square(), window, 1) - mean_made.square()
    variance_real = functional.avg_pool2d(real.square(), window, 1) - mean_real.square()
    covariance = functional.avg_pool2d(made * real, window, 1) - mean_made * mean_real
    brightness = (2 * mean_made * mean_real + steady_mean) / (mean_made.square() + mean_real.square() + steady_mean)
    structure = (2 * covariance + steady_variance) / (variance_made + variance_real + steady_variance)
    return 1.0 - (brightness * structure).mean()


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference of neighbors, down and across; (N, C, H, W)."""
    images = images.float()
    return images.diff(dim=2).abs().mean() + images.diff(dim=3).abs().mean()


def feature_loss(made: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean over layers of |made - real|_1, in units of what both layers' values are on average (Johnson et al. 2016, 3.2)."""
    pairs = [(a.float(), b.float()) for a, b in zip(made, real, strict=True)]
    return torch.stack([(a - b).abs().mean() / _size(a.abs(), b.abs()) for a, b in pairs]).mean()


def style_loss(made: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean over layers of the square distance of Gram matrices, relative to their squares (Gatys et al. 2016)."""
    pairs = [(_gram(a.float()), _gram(b.float())) for a, b in zip(made, real, strict=True)]
    return torch.stack([(a - b).square().mean() / _size(a.square(), b.square()) for a, b in pairs]).mean()


def _size(one: Tensor, other: Tensor) -> Tensor:
    """What to measure a difference by, as a plain number: a picture of nothing on either side must not divide by nothing."""
    return ((one.mean() + other.mean()) / 2).clamp_min(1e-12).detach()


def _gram(maps: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, C): how channels go together, wherever it is."""
    flat = maps.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]
