"""Losses: pure functions from tensors to a scalar, the mean over all values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from cyclecast.training.ssim import WINDOW, square_window, ssim, structure_similarity

Adversarial = Literal["least_squares", "log", "wasserstein"]


def least_squares(scores: Tensor, target: float) -> Tensor:
    """Computes E[(D(x) - target)^2]; target 1 stands for real, 0 for fake (Mao et al. 2017; CycleGAN, section 4)."""
    return (scores.float() - target).square().mean()


def generator_loss(fake_scores: Tensor, loss_type: Adversarial, real: bool = True) -> Tensor:
    """Computes the generator's adversarial loss from the discriminator's raw scores of its fakes.

    It rewards scores of real images; with real=False, scores of fake ones (BiGAN's second network). least_squares: scores
    near 1. log: maximizes log D, the non-saturating loss (GAN, section 3). wasserstein: scores as high as possible.
    """
    if loss_type == "least_squares":
        return least_squares(fake_scores, 1.0 if real else 0.0)
    scores = fake_scores.float() if real else -fake_scores.float()
    return functional.softplus(-scores).mean() if loss_type == "log" else -scores.mean()


def saturating_loss(fake_scores: Tensor) -> Tensor:
    """Computes E[log(1 - D(G(z)))], the minimax loss (GAN, equation 1): its gradient vanishes where D rejects the fakes."""
    return -functional.softplus(fake_scores.float()).mean()


def discriminator_loss(real_scores: Tensor, fake_scores: Tensor, loss_type: Adversarial = "least_squares") -> Tensor:
    """Computes the discriminator's loss, which falls with high scores for real images and low ones for fakes.

    The mean of both halves, so that D learns more slowly than G (CycleGAN, appendix 7.1). wasserstein: not halved, minus the
    estimate of the distance (WGAN, equation 2).
    """
    if loss_type == "least_squares":
        return 0.5 * (least_squares(real_scores, 1.0) + least_squares(fake_scores, 0.0))
    if loss_type == "log":
        return 0.5 * (functional.softplus(-real_scores.float()).mean() + functional.softplus(fake_scores.float()).mean())
    return fake_scores.float().mean() - real_scores.float().mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Computes E[(|gradient of the critic|_2 - 1)^2] between real and fake (Gulrajani et al. 2017, equation 3).

    real, fake: (N, …). For a critic of patches, the gradient is that of its mean score, as the loss is. Always in fp32, because
    second-order gradients are small. The interpolation points are drawn from torch's generator.
    """
    share = torch.rand(len(real), *[1] * (real.ndim - 1)).to(real)
    between = (share * real.detach() + (1 - share) * fake.detach()).float().requires_grad_(True)
    with torch.autocast(real.device.type, enabled=False):
        total = critic(between).reshape(len(between), -1).mean(1).sum()
        (gradient,) = torch.autograd.grad(total, between, create_graph=True)
    lengths: Tensor = gradient.float().flatten(1).norm(dim=1)
    return (lengths - 1).square().mean()


def cycle_loss(reconstructed: Tensor, real: Tensor, scale: int = 1, colors: bool = True) -> Tensor:
    """Computes |F(G(x)) - x|_1, per value (CycleGAN, equation 2); both are averaged over scale x scale pixels first.

    At scale 1, as in the paper, G hides in fine patterns what F needs to reconstruct x (Chu et al. 2017); a larger scale lets
    paint replace detail. colors=False compares luma alone, so that F need not recover lost colors.
    """
    reconstructed = reconstructed.float()
    if not colors:
        reconstructed, real = luma(reconstructed), luma(real)
    return functional.l1_loss(functional.avg_pool2d(reconstructed, scale), functional.avg_pool2d(real, scale))


def color_loss(translated: Tensor, source: Tensor, scale: int = 8) -> Tensor:
    """Computes the mean absolute change of the colors of areas of scale x scale pixels, per value.

    Not in the paper: cycle consistency accepts any change of colors that the other generator can undo, so grass may turn to
    earth, and day to night. Texture within an area stays free.
    """
    return functional.avg_pool2d(translated.float() - source, scale).abs().mean()


def brightness_loss(translated: Tensor, source: Tensor, scale: int = 8) -> Tensor:
    """Computes the mean absolute change of the areas' luma, from (N, 3, H, W) RGB: brightness stays, hues are free."""
    return functional.avg_pool2d(luma(translated.float() - source), scale).abs().mean()


def structure_loss(translated: Tensor, source: Tensor, window: int = 15) -> Tensor:
    """Computes 1 - the correlation of both lumas within square windows: levels may shift, but forms neither fade nor invert.

    (N, 3, H, W), RGB, in [-1, 1], sides of `window` or more. 0: every form is kept; 1: no relation; 2: a negative. The structure
    term of SSIM (Wang et al. 2004).
    """
    return 1.0 - structure_similarity(luma(translated.float()), luma(source), 2.0, square_window(window))


def snow_loss(translated: Tensor, source: Tensor, scale: int = 8) -> Tensor:
    """Computes the distance of the areas' mean colors from the source's colors under snow; (N, 3, H, W), RGB in [-1, 1].

    Green moves three quarters of the way to white, so that forms stay visible; other hues (skies, earth, skin) stay. Every
    area may brighten by up to 0.15 more; none may darken.
    """
    output, target = functional.avg_pool2d(translated.float(), scale), functional.avg_pool2d(source, scale)
    output_luma, target_luma = luma(output), luma(target)
    output_chroma, target_chroma = output - output_luma, target - target_luma
    saturation_squared = target_chroma.square().sum(1, keepdim=True).clamp_min(1e-6)
    r, g, b = torch.split(target_chroma / saturation_squared.sqrt(), 1, dim=1)
    # 1 from yellow grass on, 0 for earth and skies
    green: Tensor = (-4.0 * b).clamp(0.0, 1.0) * (1.0 + 6.0 * (g - r)).clamp(0.0, 1.0)
    snow_cover = 0.75 * green * (4.0 * saturation_squared.sqrt()).clamp_max(1.0)
    wanted_luma = target_luma + snow_cover * (1.0 - target_luma)
    luma_error = (wanted_luma - output_luma).clamp_min(0.0) + (output_luma - wanted_luma - 0.15).clamp_min(0.0)
    return (output_chroma - (1.0 - green) * target_chroma).abs().mean() + luma_error.mean()


def luma(images: Tensor) -> Tensor:
    """Computes the luma (ITU-R BT.601): (N, 3, H, W) RGB -> (N, 1, H, W)."""
    return (images * images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def scale_saturation(images: Tensor, shares: Tensor) -> Tensor:
    """Moves the colors of (N, 3, H, W) RGB towards gray. shares: (N,), of the saturation that stays, 0 (gray) to 1."""
    gray = luma(images)
    return gray + shares.view(-1, 1, 1, 1) * (images - gray)


def l1_loss(generated: Tensor, real: Tensor) -> Tensor:
    """Computes |generated - real|_1, per value: identity (CycleGAN, 5.2), paired (pix2pix), self-regularization (SimGAN)."""
    return functional.l1_loss(generated.float(), real)


def ssim_loss(generated: Tensor, real: Tensor, window: int = WINDOW) -> Tensor:
    """Computes 1 - SSIM (Wang et al. 2004), in square windows, of two (N, C, H, W) in [-1, 1] with sides of `window` or more."""
    return 1.0 - ssim(generated.float(), real.float(), 2.0, square_window(window))


def total_variation(images: Tensor) -> Tensor:
    """Adds the mean absolute differences of vertical and of horizontal neighbors; (N, C, H, W)."""
    images = images.float()
    return images.diff(dim=2).abs().mean() + images.diff(dim=3).abs().mean()


def feature_loss(generated: list[Tensor], real: list[Tensor]) -> Tensor:
    """Averages |generated - real|_1 over layers, relative to the layer's mean magnitude (Johnson et al. 2016, section 3.2)."""
    pairs = [(a.float(), b.float()) for a, b in zip(generated, real, strict=True)]
    return torch.stack([(a - b).abs().mean() / _scale(a.abs(), b.abs()) for a, b in pairs]).mean()


def style_loss(generated: list[Tensor], real: list[Tensor]) -> Tensor:
    """Averages the squared distance of Gram matrices over layers, relative to their mean square (Gatys et al. 2016)."""
    return gram_loss([gram_matrix(maps) for maps in generated], [gram_matrix(maps) for maps in real])


def gram_loss(generated: list[Tensor], real: list[Tensor]) -> Tensor:
    """Computes `style_loss` from Gram matrices, (N, C, C) per layer."""
    pairs = list(zip(generated, real, strict=True))
    return torch.stack([(a - b).square().mean() / _scale(a.square(), b.square()) for a, b in pairs]).mean()


def gram_matrix(maps: Tensor) -> Tensor:
    """Computes the correlations of channels over all positions: (N, C, H, W) -> (N, C, C) fp32."""
    flat = maps.float().flatten(2)
    with torch.autocast(maps.device.type, enabled=False):
        return flat @ flat.transpose(1, 2) / flat.shape[2]


def content_loss(generated: list[Tensor], source: list[Tensor]) -> Tensor:
    """Returns the mean over layers of 1 - the correlation of features over all positions, for each channel of (N, C, H, W).

    Features are normalized first (as in AdaIN, Huang and Belongie 2017), because their levels and contrasts belong to the style:
    only their places count. 0: the same forms; 1: no relation.
    """
    pairs = [(_normalize(a.float()), _normalize(b.float())) for a, b in zip(generated, source, strict=True)]
    return torch.stack([(a - b).square().mean() / 2 for a, b in pairs]).mean()


def patch_nce_loss(queries: list[Tensor], keys: list[Tensor], temperature: float = 0.07) -> Tensor:
    """Measures how poorly patches of an output recognize their own patches of the source among the others (CUT, equations 3, 4).

    queries, keys: (N, P, K) per layer, of length 1; position p of both is the same patch. The mean over layers, images and
    patches of the cross entropy of P classes, whose logits are q_p k / temperature for all keys k of the same image. The keys
    are constants: only the queries get gradients.
    """
    layers = []
    for query, key in zip(queries, keys, strict=True):
        with torch.autocast(query.device.type, enabled=False):
            logits = query.float() @ key.detach().float().transpose(1, 2) / temperature  # (N, P, P): of each query, all keys
        own = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
        layers.append(functional.cross_entropy(logits.flatten(0, 1), own.flatten()))
    return torch.stack(layers).mean()


def _normalize(maps: Tensor) -> Tensor:
    """Scales each channel to mean 0 and variance 1 over its positions."""
    return functional.instance_norm(maps, eps=1e-4)


def _scale(a: Tensor, b: Tensor) -> Tensor:
    """Returns the mean of both, as a constant without gradient; never 0, so that it can be divided by."""
    return ((a.mean() + b.mean()) / 2).clamp_min(1e-12).detach()
