"""CUT and FastCUT: what the PatchNCE loss computes, what a step trains, and that colors move while the structure stays."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.errors import ConfigError
from cyclecast.training import checkpoint, losses
from cyclecast.training.config import TrainConfig, find_settings, load_config
from cyclecast.training.data import fixed_set
from cyclecast.training.learner import Learner
from cyclecast.training.loop import train
from cyclecast.training.networks import build_generator
from cyclecast.training.networks.patch_heads import PatchHeads, draw_positions
from cyclecast.training.processes import Processes
from cyclecast.training.recipes import RECIPES
from cyclecast.training.recipes.cut import Cut, CutConfig
from tests.commands import json_of, run_command

SmallConfig = Callable[..., TrainConfig]
FASTCUT: dict[str, Any] = {"nce_weight": 10, "identity_weight": 0, "flip_equivariance": True}
KINDS: dict[str, dict[str, Any]] = {  # generators of every kind without norms, so that a position sees a limited square
    "resnet": {"generator": "resnet9", "ngf": 4, "norm": "none"},
    "unet": {"generator": "unet32", "ngf": 4, "norm": "none"},
    "frame": {"generator": "frame", "width": 8, "blocks": 4},
}


def unit_vectors(*shape: int) -> Tensor:
    return functional.normalize(torch.randn(*shape), dim=-1)


# The loss.


def test_patch_nce_equals_the_formula_patch_by_patch() -> None:
    torch.manual_seed(0)
    queries, keys = ([unit_vectors(2, 5, 4), unit_vectors(2, 3, 4)] for _ in range(2))
    of_layers = []
    for query, key in zip(queries, keys, strict=True):
        of_patches = []
        for image in range(2):
            count = query.shape[1]
            for patch in range(count):
                own = math.exp(float(query[image, patch] @ key[image, patch]) / 0.07)
                others = [math.exp(float(query[image, patch] @ key[image, i]) / 0.07) for i in range(count) if i != patch]
                of_patches.append(-math.log(own / (own + sum(others))))
        of_layers.append(sum(of_patches) / len(of_patches))
    assert losses.patch_nce_loss(queries, keys).item() == pytest.approx(sum(of_layers) / 2, rel=1e-5)


def test_patch_nce_is_low_where_patches_match_and_high_where_they_are_swapped() -> None:
    torch.manual_seed(0)
    vectors = unit_vectors(1, 64, 256)
    matching = losses.patch_nce_loss([vectors], [vectors]).item()
    unrelated = losses.patch_nce_loss([unit_vectors(1, 64, 256)], [vectors]).item()
    swapped = losses.patch_nce_loss([vectors.roll(1, 1)], [vectors]).item()
    assert matching < 0.01 < 3 < unrelated < swapped
    same = vectors[:, :1].expand(-1, 64, -1)
    assert losses.patch_nce_loss([same], [same]).item() == pytest.approx(math.log(64))  # no patch can tell its own


def test_negatives_come_from_the_same_image() -> None:
    torch.manual_seed(0)
    queries, keys = unit_vectors(2, 6, 8), unit_vectors(2, 6, 8)
    apart = [losses.patch_nce_loss([queries[i : i + 1]], [keys[i : i + 1]]).item() for i in range(2)]
    assert losses.patch_nce_loss([queries], [keys]).item() == pytest.approx(sum(apart) / 2)


def test_only_the_queries_get_gradients() -> None:
    query, key = unit_vectors(1, 6, 8).requires_grad_(True), unit_vectors(1, 6, 8).requires_grad_(True)
    losses.patch_nce_loss([query], [key]).backward()
    assert query.grad is not None and query.grad.abs().max() > 0
    assert key.grad is None


def test_the_loss_is_computed_in_fp32() -> None:
    torch.manual_seed(0)
    query, key = unit_vectors(1, 32, 64), unit_vectors(1, 32, 64)
    expected = losses.patch_nce_loss([query], [key])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(losses.patch_nce_loss([query], [key]), expected)


# Features.


@pytest.mark.parametrize(
    ("kind", "fields", "sides"),
    [
        ("resnet", [1, 9, 13, 29, 93], [128, 64, 32, 32, 32]),
        ("unet", [1, 4, 10, 22, 46], [128, 64, 32, 16, 8]),
        ("frame", [1, 4, 12, 28, 44], [128, 32, 32, 32, 32]),
    ],
)
def test_an_encoder_has_five_maps_of_growing_patches(kind: str, fields: list[int], sides: list[int]) -> None:
    torch.manual_seed(0)
    network = build_generator(**KINDS[kind])
    images = torch.randn(1, 3, 128, 128, requires_grad=True)
    maps = network.encode(images)
    assert [each.shape[2] for each in maps] == [each.shape[3] for each in maps] == sides
    for each, field in zip(maps, fields, strict=True):
        middle = each.shape[2] // 2
        (gradient,) = torch.autograd.grad(each[..., middle, middle].sum(), images, retain_graph=True)
        rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
        assert int(rows[-1] - rows[0]) + 1 == field


@pytest.mark.parametrize(
    "settings",
    [{"generator": "resnet6", "ngf": 2}, {"generator": "unet32", "ngf": 2}, {"generator": "frame", "width": 4, "blocks": 3}],
    ids=lambda settings: settings["generator"],
)
def test_the_encoder_is_the_first_half_of_the_generator(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = build_generator(**settings)
    images = torch.randn(2, 3, 32, 32)
    seen: list[Tensor] = []
    for module in network.modules():
        module.register_forward_hook(lambda _module, inputs, out: seen.extend([inputs[0].detach().clone(), out.detach().clone()]))
    network(images)
    passed = list(seen)
    for features in network.encode(images):
        assert any(torch.equal(features, each) for each in passed if each.shape == features.shape)


def test_a_head_maps_the_features_of_each_position_to_a_unit_vector() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, 6, 8), torch.randn(2, 5, 4, 4)]
    heads, positions = PatchHeads([3, 5]), [torch.tensor([0, 13, 47]), torch.tensor([6])]
    first, second = heads(maps, positions)
    assert first.shape == (2, 3, 256) and second.shape == (2, 1, 256)
    for patch, (row, column) in enumerate([(0, 0), (1, 5), (5, 7)]):
        vector = heads.heads[0](maps[0][1, :, row, column])
        torch.testing.assert_close(first[1, patch], vector / vector.norm())
    assert [sum(isinstance(layer, nn.Linear) for layer in head) for head in heads.heads] == [2, 2]  # type: ignore[attr-defined]


def test_positions_differ_and_are_drawn_from_the_seed() -> None:
    maps = [torch.zeros(1, 3, 8, 16), torch.zeros(1, 3, 2, 2)]
    torch.manual_seed(1)
    large, small = draw_positions(maps, 100)
    assert len(large) == len(set(large.tolist())) == 100 and int(large.max()) < 128
    assert sorted(small.tolist()) == [0, 1, 2, 3]
    torch.manual_seed(1)
    assert torch.equal(draw_positions(maps, 100)[0], large)
    assert not torch.equal(draw_positions(maps, 100)[0], large)


# A step.


@pytest.mark.parametrize(
    "settings",
    [
        {},
        FASTCUT,
        {"generator": "unet32"},
        {"generator": "frame", "width": 4, "blocks": 3},
        {"norm": "batch", "batch_size": 2},
        {"norm": "none", "upsample": "resize", "precision": "bf16"},
        {"direction": "b2a", "adversarial": "wasserstein", "batch_size": 2, "accumulate": 2},
    ],
    ids=str,
)
def test_a_step_trains_generator_heads_and_discriminator(
    settings: dict[str, Any], small_config: SmallConfig, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    recipe = Cut(small_config("cut", tmp_path, **settings))  # type: ignore[arg-type]
    before = {name: copy.deepcopy(network.state_dict()) for name, network in recipe.networks.items()}
    precision = settings.get("precision", "fp32")
    learner = Learner(recipe.networks, recipe.optimizers, torch.device("cpu"), precision, settings.get("accumulate", 1))
    terms = recipe.step(recipe.batch(0, Processes()), learner, 0)
    identity = {"nce_identity"} if recipe.config.identity_weight else set()
    assert terms.keys() == {"adversarial", "nce", "discriminator"} | identity
    assert all(bool(torch.isfinite(term)) for term in terms.values())
    for name, network in recipe.networks.items():
        for key, weight in network.named_parameters():
            assert not key.endswith("weight") or not torch.equal(weight, before[name][key]), f"{name}.{key}"


def test_the_total_weighs_the_losses(small_config: SmallConfig, tmp_path: Path) -> None:
    recipe = Cut(small_config("cut", tmp_path, nce_weight=3, identity_weight=2))  # type: ignore[arg-type]
    terms = recipe._generator_loss(*recipe.batch(0, Processes()))
    parts = terms.parts
    torch.testing.assert_close(terms.total, parts["adversarial"] + 3 * parts["nce"] + 2 * parts["nce_identity"])


class Copy(nn.Module):
    """A generator that outputs its input. Its features are pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.inputs.append(images)
        return images

    def encode(self, images: Tensor) -> list[Tensor]:
        return [images]


def test_features_of_a_mirrored_source_are_mirrored_back(small_config: SmallConfig, tmp_path: Path) -> None:
    recipe = Cut(small_config("cut", tmp_path, **FASTCUT))  # type: ignore[arg-type]
    recipe.generator, recipe.heads = Copy(), PatchHeads([3])
    source = torch.randn(1, 3, 32, 32)

    def loss(*args: Any) -> float:
        torch.manual_seed(0)  # the same positions
        return recipe._nce_loss(source, *args).item()

    assert loss(source.flip(3), True) == pytest.approx(loss(source))
    assert loss(source.flip(3)) > 2 * loss(source)

    batch = recipe.batch(0, Processes())
    found = []
    for seed in range(16):
        torch.manual_seed(seed)
        terms = recipe._generator_loss(*batch)
        found.append(torch.equal(recipe.generator.inputs[-1], batch[0].flip(3)))
        assert terms.parts["nce"].item() < loss(source.flip(3)) / 2
    assert 2 < sum(found) < 14


def test_batch_norm_sees_source_and_target_separately(small_config: SmallConfig, tmp_path: Path) -> None:
    recipe = Cut(small_config("cut", tmp_path, norm="batch"))  # type: ignore[arg-type]
    assert recipe.generator.training
    for key, value in recipe.generator.state_dict().items():
        assert not key.endswith("running_var") or bool((value == 1).all())  # building the heads does not change statistics
    sizes: list[int] = []
    recipe.generator.register_forward_hook(lambda _module, inputs, _out: sizes.append(len(inputs[0])))
    recipe._generator_loss(*recipe.batch(0, Processes()))
    assert sizes == [1, 1]


def test_networks_are_half_of_cyclegans(small_config: SmallConfig, tmp_path: Path) -> None:
    def weights(recipe: str) -> int:
        made = RECIPES[recipe](small_config(recipe, tmp_path, ngf=64, ndf=64))
        return sum(weight.numel() for network in made.networks.values() for weight in network.parameters())

    assert 0.5 < weights("cut") / weights("cyclegan") < 0.55


# Runs.


@pytest.fixture(scope="module")
def tints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Writes two folders of noise, bluish and reddish, with other images in each."""
    root, random = tmp_path_factory.mktemp("tints"), np.random.default_rng(0)
    for name, tint in (("blue", (50, 0, -50)), ("red", (-50, 0, 50))):
        (root / name).mkdir()
        for index in range(8):
            gray = cv2.resize(random.integers(60, 200, (8, 8), np.uint8), (48, 48), interpolation=cv2.INTER_CUBIC)
            noise = random.normal(0, 6, (48, 48, 3))
            image = np.clip(gray[..., None] + np.array(tint) + noise, 0, 255).astype(np.uint8)
            cv2.imwrite(str(root / name / f"{index}.png"), image)
    return root / "blue", root / "red"


def redness_and_structure(tints: tuple[Path, Path], out: Path, **settings: Any) -> tuple[float, float]:
    """Returns the mean of red minus blue in translations of blue images after a short run, and their brightness correlation."""
    small: dict[str, Any] = {
        "domain_a": tints[0],
        "domain_b": tints[1],
        "out": out,
        "generator": "resnet6",
        "ngf": 8,
        "ndf": 8,
        "discriminator": "n_layers",
        "discriminator_layers": 1,
        "load_size": 36,
        "crop_size": 32,
        "batch_size": 2,
        "steps": 40,
        "learning_rate": 2e-3,
        "ema_decay": 0.9,
        "precision": "fp32",
        "device": "cpu",
        "tensorboard": False,
    }
    train("cut", load_config(CutConfig, settings=small | settings))
    source = fixed_set(tints[0], 6, 32)
    output = checkpoint.translators_from_checkpoint(checkpoint.load(out))["a2b"](source)
    return float((output[:, 0] - output[:, 2]).mean()), 1 - losses.structure_loss(output, source).item()


@pytest.mark.parametrize("settings", [{}, FASTCUT], ids=["cut", "fastcut"])
def test_colors_become_the_targets_and_the_structure_stays(
    settings: dict[str, Any], tints: tuple[Path, Path], tmp_path: Path
) -> None:
    of_source, of_target = (float((images[:, 0] - images[:, 2]).mean()) for images in (fixed_set(f, 6, 32) for f in tints))
    assert of_source < -0.6 and of_target > 0.6
    redness, structure = redness_and_structure(tints, tmp_path, **settings)
    assert redness > 0.2 and structure > 0.6


def test_without_patch_nce_the_structure_is_lost(tints: tuple[Path, Path], tmp_path: Path) -> None:
    redness, structure = redness_and_structure(tints, tmp_path, nce_weight=0, identity_weight=0)
    assert redness > 0.2 and structure < 0.4


def test_a_run_is_exported_in_its_direction_alone(small_config: SmallConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train("cut", small_config("cut", run, steps=1))
    done = run_command("export", run, "-o", tmp_path / "m.onnx", "--direction", "b2a")
    assert done.returncode == 1
    assert done.stderr == "error: no direction named 'b2a' in this checkpoint: a2b\n"
    assert json_of("export", run, "-o", tmp_path / "m.onnx", "--size", "64x48")["direction"] == "a2b"


def test_the_shipped_settings_are_fastcuts(domains: Path, tmp_path: Path) -> None:
    places = {"domain_a": domains / "trainA", "domain_b": domains / "trainB", "out": tmp_path, "ngf": 2, "ndf": 2}
    cut, fastcut = (load_config(CutConfig, file=file, settings=places) for file in (None, find_settings(Path("fastcut"))))
    assert (cut.nce_weight, cut.identity_weight, cut.flip_equivariance) == (1, 1, False)
    assert (fastcut.nce_weight, fastcut.identity_weight, fastcut.flip_equivariance) == (10, 0, True)
    assert Cut(cut).steps == 2 * Cut(fastcut).steps > 0
    assert Cut(load_config(CutConfig, settings=places | {"steps": 3})).steps == 3


def test_a_run_teaches_a_student_in_its_direction(small_config: SmallConfig, tmp_path: Path) -> None:
    train("cut", small_config("cut", tmp_path / "teacher", steps=1, direction="b2a"))
    settings: dict[str, Any] = {"teacher": tmp_path / "teacher", "width": 8, "blocks": 3, "steps": 1}
    train("distill", small_config("distill", tmp_path / "student", **settings, direction="b2a", adversarial_weight=1))
    with pytest.raises(ConfigError, match="^direction must be b2a, as the teacher's, got a2b$"):
        train("distill", small_config("distill", tmp_path / "other", **settings))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"nce_weight": "-1"}, "nce_weight must be 0 or more, got -1"),
        ({"identity_weight": "nan"}, "identity_weight must be 0 or more, got nan"),
        ({"patches": "1"}, "patches must be at least 2, got 1"),
        ({"temperature": "0"}, "temperature must be above 0, got 0"),
        ({"epochs": "0"}, "epochs must be at least 1, got 0"),
        ({"direction": "both"}, "direction must be one of a2b, b2a"),
        ({"crop_size": "16"}, "crop_size must be at least 24 for the discriminator"),
        ({"cycle_weight": "1"}, "no setting named 'cycle_weight'"),
    ],
)
def test_an_invalid_setting_is_named(setting: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(CutConfig, settings={"out": "o", "domain_a": "a", "domain_b": "b"} | setting)
