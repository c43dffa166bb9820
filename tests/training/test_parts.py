"""Losses, image pool and augmentation compute what their papers define."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cyclecast.training import losses
from cyclecast.training.augment import augment, cut_out, shift
from cyclecast.training.pool import ImagePool


def test_least_squares_equals_a_calculation_by_hand() -> None:
    scores = torch.tensor([0.0, 0.5, 1.0])
    assert losses.least_squares(scores, 1.0).item() == pytest.approx(1.25 / 3)
    assert losses.discriminator_loss(torch.ones(3), scores).item() == pytest.approx(0.5 * 1.25 / 3)


SCORES = torch.tensor([-1.0, 0.0, 2.0])
SOFTPLUS = torch.tensor([1.3132617, 0.6931472, 0.1269280])  # of 1, 0 and -2: log(1 + e^x)


@pytest.mark.parametrize(
    ("variant", "wanted", "unwanted"),
    [
        ("least_squares", (4 + 1 + 1) / 3, (1 + 0 + 4) / 3),
        ("log", SOFTPLUS.mean().item(), (0.3132617 + 0.6931472 + 2.1269280) / 3),
        ("wasserstein", -1 / 3, 1 / 3),
    ],
)
def test_adversarial_losses_equal_a_calculation_by_hand(variant: losses.Adversarial, wanted: float, unwanted: float) -> None:
    assert losses.generator_loss(SCORES, variant).item() == pytest.approx(wanted)
    assert losses.generator_loss(SCORES, variant, real=False).item() == pytest.approx(unwanted)
    half = 1.0 if variant == "wasserstein" else 0.5
    assert losses.discriminator_loss(SCORES, SCORES, variant).item() == pytest.approx(half * (wanted + unwanted))


def test_the_saturating_loss_is_log_1_minus_d() -> None:
    log_1_minus_d = -torch.log1p(SCORES.exp())  # D = sigmoid: log(1 - D(x)) = -log(1 + e^x)
    assert losses.saturating_loss(SCORES).item() == pytest.approx(log_1_minus_d.mean().item())


@pytest.mark.parametrize("variant", ["least_squares", "log", "wasserstein"])
def test_a_better_discriminator_and_a_better_generator_have_a_lower_loss(variant: losses.Adversarial) -> None:
    high, low = torch.ones(4), torch.zeros(4)
    assert losses.discriminator_loss(high, low, variant) < losses.discriminator_loss(low, high, variant)
    assert losses.generator_loss(high, variant) < losses.generator_loss(low, variant)
    assert losses.generator_loss(low, variant, real=False) < losses.generator_loss(high, variant, real=False)


def test_the_wasserstein_critics_loss_is_minus_the_distance() -> None:
    assert losses.discriminator_loss(torch.tensor([3.0, 5.0]), torch.tensor([1.0, 0.0]), "wasserstein").item() == -3.5


def test_losses_are_computed_in_fp32() -> None:
    scores = torch.full((3,), 300.0, dtype=torch.float16)  # its square overflows in fp16
    for variant in ("least_squares", "log", "wasserstein"):
        for loss in (losses.generator_loss(scores, variant), losses.discriminator_loss(scores, scores, variant)):
            assert loss.dtype == torch.float32 and torch.isfinite(loss)


def test_gradient_penalty_of_a_linear_critic_is_known() -> None:
    torch.manual_seed(0)
    slope = torch.zeros(3, 2, 2)
    slope[0, 0, 0], slope[2, 1, 0] = 3.0, 4.0  # of length 5 everywhere
    real, fake = torch.randn(2, 4, 3, 2, 2)
    weight = slope.clone().requires_grad_(True)
    penalty = losses.gradient_penalty(lambda images: (images * weight).flatten(1).sum(1), real, fake)
    assert penalty.item() == pytest.approx(16.0)
    penalty.backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, 8 * slope / 5)  # d/dw (|w| - 1)^2 = 2 (|w| - 1) w / |w|


def test_gradient_penalty_is_computed_between_real_and_fake() -> None:
    real, fake = torch.zeros(64, 1), torch.ones(64, 1)
    seen: list[torch.Tensor] = []

    def critic(images: torch.Tensor) -> torch.Tensor:
        seen.append(images.detach())
        return images.square().sum(1)

    losses.gradient_penalty(critic, real, fake)
    assert 0 <= seen[0].min() < 0.2 and 0.8 < seen[0].max() <= 1


def test_cycle_loss_at_a_scale_ignores_fine_patterns() -> None:
    flat = torch.zeros(1, 3, 8, 8)
    dots = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1.0  # a chequerboard
    assert losses.cycle_loss(dots.expand(1, 3, 8, 8), flat).item() == pytest.approx(1.0)
    assert losses.cycle_loss(dots.expand(1, 3, 8, 8), flat, 2).item() == pytest.approx(0.0)
    assert losses.cycle_loss(flat + 0.5, flat, 4).item() == pytest.approx(0.5)


def test_color_loss_compares_areas_and_ignores_texture() -> None:
    source = torch.zeros(1, 3, 16, 16)
    red = torch.tensor([0.3, 0.0, 0.0]).reshape(1, 3, 1, 1)
    assert losses.color_loss(source - 0.4, source).item() == pytest.approx(0.4)
    assert losses.color_loss(source + red, source).item() == pytest.approx(0.3 / 3)
    speckled = source + red * torch.tensor([1.0, -1.0]).repeat(8)  # averages out within each area
    assert losses.color_loss(speckled, source).item() == pytest.approx(0.0, abs=1e-6)


def test_cycle_loss_without_colors_accepts_any_hue_of_the_same_brightness() -> None:
    green, gray = torch.tensor([-1.0, 1.0, -1.0]).reshape(1, 3, 1, 1), 2 * 0.587 - 1
    source = green.expand(1, 3, 8, 8)
    assert losses.cycle_loss(torch.full((1, 3, 8, 8), gray), source, colors=False).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.cycle_loss(torch.full((1, 3, 8, 8), gray + 0.2), source, colors=False).item() == pytest.approx(0.2)
    assert losses.cycle_loss(torch.full((1, 3, 8, 8), gray), source).item() > 0.5


def test_structure_loss_allows_other_levels_but_no_other_structure() -> None:
    torch.manual_seed(0)
    source = torch.rand(2, 3, 32, 32) - 0.5
    assert losses.structure_loss(source, source).item() == pytest.approx(0.0, abs=1e-3)
    assert losses.structure_loss(0.6 * source + 0.3, source).item() < 0.02  # brighter, and with less contrast
    assert losses.structure_loss(-source, source).item() > 1.8
    assert 0.7 < losses.structure_loss(torch.rand(2, 3, 32, 32), source).item() < 1.3
    made = torch.zeros(2, 3, 32, 32, requires_grad=True)
    losses.structure_loss(made, source).backward()
    assert made.grad is not None and made.grad.isfinite().all()


def test_snow_loss_whitens_what_is_green_and_keeps_the_sky() -> None:
    def area(red: float, green: float, blue: float) -> torch.Tensor:
        return torch.tensor([red, green, blue]).reshape(1, 3, 1, 1).expand(1, 3, 8, 8)

    meadow, sand, sky = area(-0.5, 0.2, -0.6), area(0.6, 0.2, -0.3), area(-0.4, 0.0, 0.6)
    for allowed, of in ((area(0.8, 0.8, 0.8), meadow), (sand, sand), (sand + 0.1, sand), (sky + 0.1, sky)):
        assert losses.snow_loss(allowed, of).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.snow_loss(meadow, meadow).item() > 0.4  # no snow on it
    assert losses.snow_loss(sand - 0.3, sand).item() == pytest.approx(0.3, abs=1e-6)  # darker
    for other, of in (
        (area(1, 0.5, 1), meadow),
        (area(1, 1, 1), meadow),
        (area(0.1, 0.4, -0.5), sand),
        (area(0.1, 0.1, 0.1), sky),
        (sand + 0.6, sand),
    ):  # pink, so white that no form is left, green, gray, bleached
        assert losses.snow_loss(other, of).item() > 0.1
    moved = torch.full((1, 3, 8, 8), 0.1, requires_grad=True)
    losses.snow_loss(moved, meadow).backward()
    assert moved.grad is not None and moved.grad.isfinite().all()


def test_ssim_loss_equals_its_formula_in_every_window() -> None:
    torch.manual_seed(0)
    one, other = torch.rand(2, 1, 2, 20, 16) * 2 - 1
    blended = 0.7 * one + 0.3 * other
    x, y = (np.lib.stride_tricks.sliding_window_view(image.double().numpy(), (11, 11), (2, 3)) for image in (blended, one))
    mean_x, mean_y = x.mean((4, 5)), y.mean((4, 5))
    covariance = (x * y).mean((4, 5)) - mean_x * mean_y
    c1, c2 = 0.02**2, 0.06**2
    ssim = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    ssim /= (mean_x**2 + mean_y**2 + c1) * (x.var((4, 5)) + y.var((4, 5)) + c2)
    assert losses.ssim_loss(blended, one).item() == pytest.approx(1 - ssim.mean(), abs=1e-5)
    assert losses.ssim_loss(one, one).item() == pytest.approx(0.0, abs=1e-5)


def test_total_variation_of_a_ramp_is_its_slope() -> None:
    ramp = torch.arange(8.0).expand(1, 2, 5, 8)
    assert losses.total_variation(3 * ramp).item() == pytest.approx(3.0)


def test_style_loss_ignores_positions() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(2, 4, 6, 6), torch.randn(2, 3, 8, 8)]
    moved = [layer.roll((2, 3), (2, 3)) for layer in maps]
    assert losses.style_loss(moved, maps).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.feature_loss(moved, maps).item() > 0.5
    turned = [layer.roll(1, 1) * torch.linspace(0.5, 2, layer.shape[1])[:, None, None] for layer in maps]
    assert losses.style_loss(turned, maps).item() > 0.1
    assert losses.feature_loss([10 * a for a in maps], [10 * b for b in moved]).item() == pytest.approx(
        losses.feature_loss(maps, moved).item()
    )


def test_a_full_pool_returns_half_new_and_half_old_images() -> None:
    torch.manual_seed(0)
    pool = ImagePool(50)
    for value in range(50):
        image = torch.full((1, 3, 2, 2), float(value))
        assert torch.equal(pool.exchange(image), image)  # filling: everything is new
    returned = [pool.exchange(torch.full((1, 3, 2, 2), float(value)))[0, 0, 0, 0].item() for value in range(50, 450)]
    old = sum(value != expected for value, expected in zip(returned, range(50, 450), strict=True))
    assert 160 < old < 240
    assert len(pool.images) == 50


def test_a_pool_resumes_from_its_state() -> None:
    one, other = ImagePool(4), ImagePool(4)
    one.exchange(torch.randn(4, 3, 2, 2))
    other.load_state_dict(one.state_dict())
    fakes = torch.randn(6, 3, 2, 2)
    torch.manual_seed(3)
    first = one.exchange(fakes)
    torch.manual_seed(3)
    assert torch.equal(first, other.exchange(fakes))


def test_a_pool_of_size_0_returns_its_input() -> None:
    fakes = torch.randn(2, 3, 2, 2)
    assert torch.equal(ImagePool(0).exchange(fakes), fakes)
    assert ImagePool(0).state_dict() == {}


def test_augmentation_keeps_the_shape_and_passes_gradients() -> None:
    images = torch.randn(3, 3, 32, 32, requires_grad=True)
    out = augment(images)
    assert out.shape == images.shape
    out.sum().backward()
    assert images.grad is not None
    assert 0.4 < images.grad.mean().item() < 1.0  # what was shifted out or cut away is gone, the rest counts once


def test_shift_moves_and_cut_out_sets_a_square_to_zero() -> None:
    torch.manual_seed(1)
    ramp = torch.arange(32.0).expand(1, 1, 32, 32) / 32
    moved = shift(ramp)
    assert not torch.equal(moved, ramp)
    holes = (cut_out(torch.ones(1, 1, 32, 32)) == 0).sum().item()
    assert holes == int(32 * 0.35) ** 2
