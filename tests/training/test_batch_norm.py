"""Batch norm never mixes the statistics of two domains: each loss is that of the plain formula, with a call for each term."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cyclecast.training import losses
from cyclecast.training.config import TrainConfig
from cyclecast.training.networks.patch import PatchDiscriminator
from cyclecast.training.processes import Processes
from cyclecast.training.recipes import RECIPES
from cyclecast.training.recipes.translation import has_batch_norm

SmallConfig = Callable[..., TrainConfig]


def unlike_domains() -> tuple[Tensor, Tensor]:
    """Returns (real_a, real_b): 2 images each, dark ones and bright ones, so that shared statistics would be wrong for both."""
    torch.manual_seed(1)
    noise = torch.rand(4, 3, 32, 32)
    return 0.4 * noise[:2] - 0.9, 0.4 * noise[2:] + 0.5


def statistics(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items() if "running" in key}


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("variant", ["full", "gan_alone"])
def test_cyclegans_loss_equals_that_of_the_authors(norm: str, variant: str, small_config: SmallConfig, tmp_path: Path) -> None:
    recipe: Any = RECIPES["cyclegan"](small_config("cyclegan", tmp_path, norm=norm, variant=variant, batch_size=2))
    generators = {key: copy.deepcopy(recipe.networks[key]) for key in ("generator_ab", "generator_ba")}
    real_a, real_b = unlike_domains()
    parts = recipe.generator_loss(real_a, real_b).parts

    # As pytorch-CycleGAN-and-pix2pix computes it: forward() first, then the identity loss.
    net_ab, net_ba = generators["generator_ab"], generators["generator_ba"]
    fake_b, fake_a = net_ab(real_a), net_ba(real_b)
    expected = {
        "adversarial_ab": (recipe.networks["discriminator_b"](fake_b) - 1).square().mean(),
        "adversarial_ba": (recipe.networks["discriminator_a"](fake_a) - 1).square().mean(),
    }
    if variant == "full":
        expected["cycle_a"], expected["cycle_b"] = (net_ba(fake_b) - real_a).abs().mean(), (net_ab(fake_a) - real_b).abs().mean()
        expected["identity_b"], expected["identity_a"] = (
            (net_ab(real_b) - real_b).abs().mean(),
            (net_ba(real_a) - real_a).abs().mean(),
        )
    assert parts.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-6, msg=name)
    for key, network in generators.items():
        torch.testing.assert_close(statistics(recipe.networks[key]), statistics(network), rtol=1e-5, atol=1e-7)
        assert bool(statistics(network)) == (norm == "batch")


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("adversarial", ["least_squares", "log"])
def test_a_discriminator_with_batch_norm_gets_real_and_fake_separately(
    norm: Any, adversarial: Any, small_config: SmallConfig, tmp_path: Path
) -> None:
    recipe: Any = RECIPES["cyclegan"](small_config("cyclegan", tmp_path, adversarial=adversarial))
    torch.manual_seed(0)
    network = PatchDiscriminator(2, 2, norm=norm)
    recipe.networks["discriminator_a"], plain = network, copy.deepcopy(network)
    real, fake = unlike_domains()
    total, _ = recipe.discriminator_loss("discriminator_a", real, fake)
    torch.testing.assert_close(total, losses.discriminator_loss(plain(real), plain(fake), adversarial))


def test_bigans_pairs_are_scored_separately_with_batch_norm(small_config: SmallConfig, tmp_path: Path) -> None:
    recipe: Any = RECIPES["bigan"](small_config("bigan", tmp_path, norm="batch"))
    torch.manual_seed(0)
    network = PatchDiscriminator(2, 2, 6, norm="batch")
    recipe.networks["discriminator"], plain = network, copy.deepcopy(network)
    real_a, real_b = unlike_domains()
    terms = recipe._generator_loss(real_a, real_b)
    fake_a, fake_b = terms.outputs
    scores_ab, scores_ba = plain(torch.cat([real_a, fake_b], 1)), plain(torch.cat([fake_a, real_b], 1))
    torch.testing.assert_close(terms.parts["adversarial_ab"], (scores_ab - 1).square().mean())
    torch.testing.assert_close(terms.parts["adversarial_ba"], scores_ba.square().mean())


@pytest.mark.parametrize("recipe", ["gan", "dcgan", "wgan", "cogan"])
def test_latent_recipes_call_their_discriminator_separately_for_real_and_fake(
    recipe: str, small_config: SmallConfig, tmp_path: Path
) -> None:
    made: Any = RECIPES[recipe](small_config(recipe, tmp_path))
    batch = made.batch(0, Processes())
    sizes: list[int] = []
    for name, network in made.networks.items():
        if name.startswith("discriminator"):
            network.register_forward_hook(lambda _module, inputs, _out: sizes.append(len(inputs[0])))
    real = batch[0][:2]
    if recipe == "cogan":
        made._discriminator_loss(real, real, real, real)
    else:
        loss = made._critic_loss if recipe == "wgan" else made._discriminator_loss
        loss(real, made.noise(real))
    assert set(sizes) == {2}


def test_building_a_student_does_not_change_its_statistics(small_config: SmallConfig, teacher: Path, tmp_path: Path) -> None:
    settings = {"generator": "resnet6", "ngf": 2, "norm": "batch", "direction": "b2a"}
    recipe: Any = RECIPES["distill"](small_config("distill", tmp_path, **settings, teacher=teacher))
    student = recipe.networks["generator_ba"]
    assert has_batch_norm(student) and student.training
    for key, value in statistics(student).items():
        assert torch.equal(value, torch.zeros_like(value) if key.endswith("mean") else torch.ones_like(value)), key
