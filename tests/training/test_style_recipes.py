"""`style_transfer` and `supervised`: what they learn, and the parts that they learn with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from cyclecast.errors import ConfigError
from cyclecast.training import checkpoint, losses
from cyclecast.training.config import load_config
from cyclecast.training.data import open_domain
from cyclecast.training.learner import Learner
from cyclecast.training.loop import train
from cyclecast.training.networks.features import EfficientNetFeatures
from cyclecast.training.processes import Processes
from cyclecast.training.recipes.style_transfer import StyleTransfer, StyleTransferConfig
from cyclecast.training.recipes.supervised import SupervisedConfig
from cyclecast.training.steadiness_loss import flatness_loss
from cyclecast.training.style_targets import StyleTargets, optimal_transport

TINY = {"width": 8, "blocks": 3, "batch_size": 2, "tensorboard": False}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Smooth images of 80x80 pixels, and their negatives under the same names."""
    root, random = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    (root / "before").mkdir()
    (root / "after").mkdir()
    for number in range(4):
        image = cv2.resize(random.integers(0, 255, (5, 5, 3), np.uint8), (80, 80), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(root / "before" / f"{number}.png"), image)
        cv2.imwrite(str(root / "after" / f"{number}.png"), 255 - image)
    return root / "before", root / "after"


def style_config(folders: tuple[Path, Path], out: Path, **settings: Any) -> StyleTransferConfig:
    small = {"crop_size": 96, "load_size": 96, "load_size_max": 96, "style_size": 64, "steps": 4, "copy_steps": 1}
    paths = {"out": out, "domain_a": folders[0], "domain_b": folders[1]}
    return load_config(StyleTransferConfig, settings={**TINY, **small, **paths, **settings})


def test_supervised_learns_what_was_done_to_the_pairs(folders: tuple[Path, Path], tmp_path: Path) -> None:
    paths = {"domain_a": folders[0], "domain_b": folders[1], "out": tmp_path / "run"}
    config = load_config(SupervisedConfig, settings={**TINY, "crop_size": 48, "steps": 60, "steadiness_weight": 0, **paths})
    pixels: list[float] = []
    train("supervised", config, on_progress=lambda progress: pixels.append(progress.losses["pixel"]))
    assert np.mean(pixels[-5:]) < 0.5 * np.mean(pixels[:5])


def test_style_transfer_copies_first_and_then_approaches_the_style(folders: tuple[Path, Path], tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    train(
        "style_transfer",
        style_config(folders, tmp_path / "run", steps=24, copy_steps=4),
        on_progress=lambda p: seen.append(p.losses),
    )
    assert all(set(losses) == {"copy"} for losses in seen[:4])
    assert np.mean([losses["style"] for losses in seen[-4:]]) < np.mean([losses["style"] for losses in seen[4:8]])


def test_a_collection_has_a_discriminator_of_the_style_images(folders: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = StyleTransfer(style_config(folders, tmp_path, adversarial_weight=1.0, copy_steps=0, ndf=8))
    learner = Learner(recipe.networks, recipe.optimizers, torch.device("cpu"))
    before = [weight.clone() for weight in recipe.networks["discriminator"].parameters()]
    terms = recipe.step(recipe.batch(0, Processes()), learner, 0)
    assert {"adversarial", "discriminator", "style", "palette"} <= set(terms)
    after = list(recipe.networks["discriminator"].parameters())
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_crops_for_a_discriminator_have_the_size_that_it_needs(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="crop_size"):
        style_config(folders, tmp_path, crop_size=80, load_size=80, load_size_max=80)


def test_the_nearest_style_image_is_chosen_for_each_crop() -> None:
    torch.manual_seed(0)
    dark, bright = torch.full((3, 64, 64), -0.8), torch.full((3, 64, 64), 0.8)
    noise = 0.1 * torch.randn(3, 64, 64)
    features = EfficientNetFeatures(levels=4).eval()
    targets = StyleTargets(features, [dark + noise, bright + noise], [0.5 * dark - noise, 0.5 * bright - noise])
    source = torch.stack([0.6 * bright, 0.6 * dark]) + noise
    with torch.no_grad():
        assert targets.nearest(source, features(source)).tolist() == [1, 0]


def test_optimal_transport_gives_the_mean_and_the_covariance_of_the_target() -> None:
    torch.manual_seed(0)
    source = torch.randn(4000, 3) @ torch.tensor([[0.3, 0.1, 0.0], [0.0, 0.2, 0.1], [0.0, 0.0, 0.4]])
    target = 0.2 + torch.randn(4000, 3) @ torch.tensor([[0.5, 0.0, 0.0], [0.3, 0.2, 0.0], [0.1, 0.1, 0.1]])
    matrix, shift = optimal_transport(source, target)
    moved = source @ matrix.T + shift
    assert torch.allclose(moved.mean(0), target.mean(0), atol=1e-4)
    assert torch.allclose(torch.cov(moved.T), torch.cov(target.T), atol=2e-3)
    assert torch.allclose(matrix, matrix.T, atol=1e-5)  # of all maps that do this, the symmetric one moves least


def test_content_loss_sees_forms_and_not_their_contrast() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(2, 4, 16, 16)]
    assert losses.content_loss([3 * maps[0] - 5], maps).item() == pytest.approx(0.0, abs=1e-3)
    assert losses.content_loss([torch.randn(2, 4, 16, 16)], maps).item() == pytest.approx(1.0, abs=0.15)
    assert losses.content_loss([-maps[0]], maps).item() == pytest.approx(2.0, abs=1e-2)


def test_gram_loss_of_maps_is_the_style_loss() -> None:
    torch.manual_seed(0)
    one, other = [torch.randn(2, 4, 8, 8)], [torch.randn(2, 4, 8, 8)]
    expected = (torch.einsum("nchw,ndhw->ncd", one[0], one[0]) - torch.einsum("nchw,ndhw->ncd", other[0], other[0])) / 64
    grams = [[losses.gram_matrix(each) for each in maps] for maps in (one, other)]
    assert torch.allclose(grams[0][0] - grams[1][0], expected, atol=1e-5)
    assert losses.gram_loss(*grams).item() == pytest.approx(losses.style_loss(one, other).item())


def test_flatness_loss_sees_a_grid_on_flat_images() -> None:
    torch.manual_seed(0)
    grid = torch.zeros(1, 1, 96, 96)
    grid[..., ::4] = 1.0
    assert flatness_loss(lambda x: 0.5 * x, torch.zeros(3, 3, 64, 64), 20).item() == pytest.approx(1e-4, rel=0.1)
    assert flatness_loss(lambda x: x + 0.2 * grid, torch.zeros(3, 3, 64, 64), 20).item() == pytest.approx(
        0.2 * 3**0.5 / 4, rel=0.05
    )


def test_flatness_loss_sees_a_line_along_the_border_unless_it_is_in_the_margin() -> None:
    torch.manual_seed(0)
    line = torch.zeros(1, 1, 96, 96)
    line[..., 10, :] = 1.0
    with_line, flat = (flatness_loss(lambda x: x + line, torch.zeros(3, 3, 64, 64), margin).item() for margin in (8, 20))
    assert with_line > 0.1 > 1e-3 > flat


def test_native_size_keeps_the_size_of_texture(tmp_path: Path) -> None:
    rows = np.indices((200, 300))[0]
    cv2.imwrite(str(tmp_path / "stripes.png"), np.where(rows[..., None] % 8 < 4, 255, 0).repeat(3, axis=2).astype(np.uint8))
    crop = open_domain(tmp_path, None, 64).draw(np.random.default_rng(0))
    assert set(torch.unique(crop).tolist()) == {-1.0, 1.0}  # nothing was resized
    changes = (crop[0, 1:, 0] != crop[0, :-1, 0]).nonzero().flatten()
    assert set((changes[1:] - changes[:-1]).tolist()) == {4}


def test_depthwise_outputs_belong_to_the_same_pyramid() -> None:
    features = EfficientNetFeatures(levels=4).eval()
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        maps, depthwise = features.forward_with_depthwise(image, 8)
        assert all(torch.equal(one, other) for one, other in zip(maps, features(image), strict=True))
    assert [each.shape[1] for each in depthwise] == [32, 96, 144, 144, 240, 240, 480, 480]
    assert [64 // each.shape[2] for each in depthwise] == [2, 4, 4, 8, 8, 16, 16, 16]


def test_a_resumed_style_transfer_equals_an_uninterrupted_one(folders: tuple[Path, Path], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"adversarial_weight": 1.0, "ndf": 8}
    whole, cut = (style_config(folders, tmp_path / name, **settings) for name in ("whole", "cut"))
    train("style_transfer", whole)
    train("style_transfer", cut, until=2)
    train("style_transfer", cut, resume=True)
    states = [checkpoint.load(config.out) for config in (whole, cut)]
    for name, weights in states[0]["networks"].items():
        assert all(torch.equal(value, states[1]["networks"][name][key]) for key, value in weights.items()), name
