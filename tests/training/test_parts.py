"""Losses, pool and augmentation do what their papers say."""

from __future__ import annotations

import pytest
import torch

from cyclecast.training import losses
from cyclecast.training.augment import augment, cut_out, shift
from cyclecast.training.pool import ImagePool


def test_least_squares_against_numbers_worked_by_hand() -> None:
    scores = torch.tensor([0.0, 0.5, 1.0])
    assert losses.least_squares(scores, 1.0).item() == pytest.approx(1.25 / 3)
    assert losses.discriminator_loss(torch.ones(3), scores).item() == pytest.approx(0.5 * 1.25 / 3)


def test_cycle_loss_at_a_scale_looks_past_fine_patterns() -> None:
    flat = torch.zeros(1, 3, 8, 8)
    dots = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1.0  # a chequerboard
    assert losses.cycle_loss(dots.expand(1, 3, 8, 8), flat).item() == pytest.approx(1.0)
    assert losses.cycle_loss(dots.expand(1, 3, 8, 8), flat, 2).item() == pytest.approx(0.0)
    assert losses.cycle_loss(flat + 0.5, flat, 4).item() == pytest.approx(0.5)


def test_colour_loss_sees_hue_and_not_brightness() -> None:
    source = torch.zeros(1, 3, 16, 16)
    red = torch.tensor([0.3, 0.0, 0.0]).reshape(1, 3, 1, 1)
    assert losses.colour_loss(source + 0.4, source).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.colour_loss(source + red, source).item() == pytest.approx((0.2 + 0.1 + 0.1) / 3)
    speckled = source + red * torch.tensor([1.0, -1.0]).repeat(8)  # averages out within each area
    assert losses.colour_loss(speckled, source).item() == pytest.approx(0.0, abs=1e-6)


def test_pool_gives_half_new_and_half_old_once_full() -> None:
    torch.manual_seed(0)
    pool = ImagePool(50)
    for value in range(50):
        image = torch.full((1, 3, 2, 2), float(value))
        assert torch.equal(pool.exchange(image), image)  # filling: everything is new
    given = [pool.exchange(torch.full((1, 3, 2, 2), float(value)))[0, 0, 0, 0].item() for value in range(50, 450)]
    old = sum(value != expected for value, expected in zip(given, range(50, 450), strict=True))
    assert 160 < old < 240
    assert len(pool.images) == 50


def test_pool_state_goes_on_where_it_was() -> None:
    one, other = ImagePool(4), ImagePool(4)
    one.exchange(torch.randn(4, 3, 2, 2))
    other.load_state_dict(one.state_dict())
    fakes = torch.randn(6, 3, 2, 2)
    torch.manual_seed(3)
    first = one.exchange(fakes)
    torch.manual_seed(3)
    assert torch.equal(first, other.exchange(fakes))


def test_a_pool_of_0_is_no_pool() -> None:
    fakes = torch.randn(2, 3, 2, 2)
    assert torch.equal(ImagePool(0).exchange(fakes), fakes)
    assert ImagePool(0).state_dict() == {}


def test_augmentation_keeps_shape_and_lets_gradients_through() -> None:
    images = torch.randn(3, 3, 32, 32, requires_grad=True)
    out = augment(images)
    assert out.shape == images.shape
    out.sum().backward()
    assert images.grad is not None
    assert 0.4 < images.grad.mean().item() < 1.0  # what was shifted out or cut away is gone, the rest counts once


def test_shift_moves_and_cut_out_cuts() -> None:
    torch.manual_seed(1)
    ramp = torch.arange(32.0).expand(1, 1, 32, 32) / 32
    moved = shift(ramp)
    assert not torch.equal(moved, ramp)
    holes = (cut_out(torch.ones(1, 1, 32, 32)) == 0).sum().item()
    assert holes == int(32 * 0.35) ** 2
