"""Later versions read today's checkpoints and settings, and training computes the losses that it did before."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cyclecast.errors import ModelError
from cyclecast.export.checkpoints import read_generator
from cyclecast.export.onnx import export_onnx
from cyclecast.training import checkpoint
from cyclecast.training.config import load_config
from cyclecast.training.log import LossLog
from cyclecast.training.loop import train
from cyclecast.training.networks import ImageGenerator
from cyclecast.training.recipes import RECIPES

GOLDEN = Path(__file__).parent.parent / "golden" / "checkpoints"

# Checkpoint -> the losses that the version which wrote it computed at step 6, three steps after the checkpoint.
STEP_6: dict[str, dict[str, float]] = {
    "cyclegan": {
        "adversarial_ab": 0.963435,
        "adversarial_ba": 0.952503,
        "cycle_a": 0.302056,
        "cycle_b": 0.540705,
        "identity_a": 0.301651,
        "identity_b": 0.544904,
        "discriminator_a": 0.425612,
        "discriminator_b": 0.471441,
    },
    "cyclegan-options": {
        "adversarial_ab": 0.960707,
        "adversarial_ba": 0.947847,
        "cycle_a": 0.318031,
        "cycle_b": 0.346507,
        "color_a": 0.318899,
        "color_b": 0.421895,
        "brightness_a": 0.221148,
        "brightness_b": 0.259028,
        "structure_a": 0.865905,
        "structure_b": 0.853898,
        "whiten_b": 0.545848,
        "discriminator_a": 0.420521,
        "discriminator_b": 0.467438,
    },
    "simgan": {
        "adversarial_ab": 0.960709,
        "adversarial_ba": 0.94662,
        "regularization_a": 0.389468,
        "regularization_b": 0.52085,
        "discriminator_a": 0.420558,
        "discriminator_b": 0.467449,
    },
    "distill": {
        "ssim": 0.686894,
        "pixel": 0.060683,
        "feature": 1.573743,
        "style": 1.664563,
        "smoothness": 0.106079,
        "channel": 0.111609,
        "steadiness": 0.053078,
        "adversarial": 0.97655,
        "discriminator_b": 0.456157,
    },
    "dcgan": {"generator": 0.693295, "discriminator": 0.693146},
}


@pytest.fixture(scope="module")
def golden_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images that the golden runs were trained on: ab with trainA and trainB, pairs with train, digits.npz."""
    folder = tmp_path_factory.mktemp("golden")
    y, x = np.mgrid[0:40, 0:48]
    images: dict[str, list[Any]] = {}
    for name, shift in (("trainA", 0), ("trainB", 90)):
        stacks = [np.stack([x * 5 + shift, y * 6 + 20 * i, (x + y) * 2 + shift + 9 * i], 2) for i in range(4)]
        images[name] = [(stack % 256).astype(np.uint8) for stack in stacks]
        (folder / "ab" / name).mkdir(parents=True)
        for index, image in enumerate(images[name]):
            cv2.imwrite(str(folder / "ab" / name / f"{index}.png"), image)
    (folder / "pairs" / "train").mkdir(parents=True)
    for index, pair in enumerate(zip(images["trainA"], images["trainB"], strict=True)):
        cv2.imwrite(str(folder / "pairs" / "train" / f"{index}.png"), np.concatenate(pair, 1))
    digits = np.random.default_rng(0).integers(0, 256, (16, 28, 28), np.uint8)
    labels = np.arange(16) % 10
    np.savez(folder / "digits.npz", x_train=digits, y_train=labels, x_test=digits, y_test=labels)
    return folder


def unpack(name: str, run: Path) -> Path:
    """Creates a run's folder with the golden checkpoint of this name."""
    run.mkdir(parents=True)
    (run / checkpoint.NAME).write_bytes(lzma.decompress((GOLDEN / f"{name}.pt.xz").read_bytes()))
    return run


def moved_data(recipe: str, golden_data: Path) -> dict[str, Path]:
    """Settings that name the data of a golden run where they are now."""
    if recipe == "dcgan":
        return {"domain": golden_data / "digits.npz"}
    return {"domain_a": golden_data / "ab" / "trainA", "domain_b": golden_data / "ab" / "trainB"}


@pytest.mark.parametrize("name", STEP_6)
def test_a_golden_checkpoint_resumes_with_the_losses_of_its_version(name: str, golden_data: Path, tmp_path: Path) -> None:
    run, recipe = unpack(name, tmp_path / "run"), name.partition("-")[0]
    settings: dict[str, Any] = {"out": run, **moved_data(recipe, golden_data)}
    if recipe == "distill":  # a run of that version kept no copy of its teacher
        settings["teacher"] = unpack("cyclegan", tmp_path / "teacher")
    config = load_config(RECIPES[recipe].Config, base=checkpoint.load(run)["config"], settings=settings)
    report = train(recipe, config, resume=True)
    assert report.steps == 6
    assert report.losses == pytest.approx(STEP_6[name], rel=1e-3, abs=1e-4)
    lines = [json.loads(line) for line in (run / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert all(line.keys() == STEP_6[name].keys() | {"step"} for line in lines)  # the old lines have the current names too


def test_golden_checkpoints_are_exported(tmp_path: Path) -> None:
    exported: list[dict[str, Any]] = []
    for name in STEP_6:
        generator = read_generator(unpack(name, tmp_path / name))
        assert (generator.recipe, generator.steps) == (name.partition("-")[0], 3)
        if generator.architecture not in exported:  # two of them share that of the first, and so the graph
            exported.append(generator.architecture)
            size = (32, 32) if isinstance(generator.network, ImageGenerator) else None
            assert all(agreement.passed for agreement in export_onnx(generator, tmp_path / f"{name}.onnx", size=size))
    assert len(exported) == 3


def test_a_golden_run_of_distill_without_its_teacher_is_an_error_with_the_setting_to_type(
    golden_data: Path, tmp_path: Path
) -> None:
    run = unpack("distill", tmp_path / "run")
    settings = {"out": run, "teacher": tmp_path / "gone", **moved_data("distill", golden_data)}
    config = load_config(RECIPES["distill"].Config, base=checkpoint.load(run)["config"], settings=settings)
    with pytest.raises(ModelError, match="gone: no such checkpoint; this run needs its teacher.*--set teacher=PATH"):
        train("distill", config, resume=True)


def test_old_names_of_settings_are_accepted_in_files_flags_and_checkpoints(tmp_path: Path) -> None:
    places = {"out": "o", "domain_a": "a", "domain_b": "b"}
    (tmp_path / "c.toml").write_text("colour_weight = 2.0\nsnow_weight_b = 3.0\n")
    config_class = RECIPES["cyclegan"].Config
    config = load_config(config_class, base={"brightness_weight": 1.0}, file=tmp_path / "c.toml", settings=places)
    flags = load_config(config_class, settings=places | {"colour_weight": "2", "cycle_colours": "false", "snow_weight_b": "3"})
    base = load_config(config_class, base={"colour_weight": 2.0, "cycle_colours": False, "snow_weight_b": 3.0}, settings=places)
    assert (config.color_weight, config.whiten_weight_b, config.brightness_weight) == (2, 3, 1)
    assert flags == base and (flags.color_weight, flags.cycle_colors, flags.whiten_weight_b) == (2, False, 3)
    simgan = load_config(RECIPES["simgan"].Config, settings=places | {"regularisation_weight": "7"})
    assert simgan.regularization_weight == 7
    assert "colour_weight" not in config.to_dict() and config.to_dict()["color_weight"] == 2


IMAGES: dict[str, Any] = {
    "generator": "resnet6",
    "load_size": 32,
    "crop_size": 32,
    "discriminator": "n_layers",
    "discriminator_layers": 1,
    "ndf": 2,
    "ngf": 2,
}
NOISE: dict[str, Any] = {"image_size": 8, "latent": 4, "batch_size": 4, "ngf": 2, "ndf": 2}
STUDENT: dict[str, Any] = {"load_size": 32, "crop_size": 32, "width": 4, "blocks": 3}

# Case -> recipe, settings, the losses of step 4 as the version before the settings were grouped computed them.
STEP_4: dict[str, tuple[str, dict[str, Any], dict[str, float]]] = {
    "cyclegan": (
        "cyclegan",
        IMAGES,
        {
            "adversarial_ab": 0.96638,
            "adversarial_ba": 0.95189,
            "cycle_a": 0.40699,
            "cycle_b": 0.5516,
            "identity_a": 0.40308,
            "identity_b": 0.55146,
            "discriminator_a": 0.43116,
            "discriminator_b": 0.48108,
        },
    ),
    "cyclegan-options": (
        "cyclegan",
        IMAGES | {"cycle_colors": False, "color_weight": 1, "whiten_weight_b": 2, "variant": "gan_forward"},
        {
            "adversarial_ab": 0.96371,
            "adversarial_ba": 0.95725,
            "cycle_a": 0.32054,
            "color_a": 0.29957,
            "color_b": 0.42099,
            "whiten_b": 0.57603,
            "discriminator_a": 0.43097,
            "discriminator_b": 0.48113,
        },
    ),
    "simgan": (
        "simgan",
        IMAGES | {"regularization_weight": 7},
        {
            "adversarial_ab": 0.9618,
            "adversarial_ba": 0.96013,
            "regularization_a": 0.36866,
            "regularization_b": 0.48563,
            "discriminator_a": 0.43082,
            "discriminator_b": 0.48115,
        },
    ),
    "pix2pix": ("pix2pix", IMAGES, {"adversarial": 0.68461, "paired": 0.50338, "discriminator": 0.68954}),
    "bigan": ("bigan", IMAGES, {"adversarial_ab": 0.95122, "adversarial_ba": 0.00542, "discriminator": 0.47145}),
    "cogan": (
        "cogan",
        {"load_size": 32, "crop_size": 32, "latent": 4, "ngf": 2, "ndf": 2, "batch_size": 2},
        {"adversarial_a": 0.78003, "adversarial_b": 0.76672, "discriminator_a": 0.68265, "discriminator_b": 0.68324},
    ),
    "wgan": (
        "wgan",
        NOISE | {"warm_up": False, "critic_steps": 2, "penalty": True, "learning_rate": 0.01},
        {"generator": -0.00182, "wasserstein_distance": -0.01719, "penalty": 0.6683},
    ),
    "distill": (
        "distill",
        STUDENT,
        {
            "ssim": 0.70571,
            "pixel": 0.06109,
            "feature": 1.60593,
            "style": 1.05195,
            "smoothness": 0.1192,
            "channel": 0.11485,
            "steadiness": 0.05267,
        },
    ),
    "distill-online": (
        "distill",
        STUDENT | {"online": True},
        {
            "teacher_adversarial_ab": 0.95847,
            "teacher_adversarial_ba": 0.94082,
            "teacher_cycle_a": 0.37732,
            "teacher_cycle_b": 0.51405,
            "teacher_identity_a": 0.37972,
            "teacher_identity_b": 0.51309,
            "teacher_discriminator_a": 0.41517,
            "teacher_discriminator_b": 0.47191,
            "ssim": 0.73351,
            "pixel": 0.06321,
            "feature": 1.49868,
            "style": 1.40463,
            "smoothness": 0.11927,
            "channel": 0.1458,
            "steadiness": 0.04137,
        },
    ),
}


@pytest.mark.parametrize("name", STEP_4)
def test_a_seed_has_the_losses_of_the_earlier_version(name: str, golden_data: Path, tmp_path: Path) -> None:
    recipe, settings, losses = STEP_4[name]
    common = {"out": tmp_path / "run", "steps": 4, "precision": "fp32", "tensorboard": False, "device": "cpu", "save_every": 99}
    data = moved_data("dcgan" if recipe == "wgan" else recipe, golden_data)
    if recipe == "pix2pix":
        data = {"domain_a": golden_data / "pairs" / "train", "domain_b": golden_data / "pairs" / "train"}
        settings = settings | {"layout": "halves"}
    if recipe == "distill":
        settings = settings | {"teacher": unpack("cyclegan", tmp_path / "teacher")}
    report = train(recipe, load_config(RECIPES[recipe].Config, settings=common | data | settings))
    assert report.losses == pytest.approx(losses, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    "log",
    [
        {},
        {"lines": ["{torn"], "sums": {}, "count": 0},
        {"lines": ["[1, 2]"], "sums": {}, "count": 0},
        {"lines": ['{"loss": 1.0}'], "sums": {}, "count": 0},
        {"lines": ['{"step": 1, "loss": "much"}'], "sums": {}, "count": 0},
        {"lines": [3], "sums": {}, "count": 0},
        {"lines": [], "sums": None, "count": 0},
    ],
)
def test_a_damaged_log_in_a_checkpoint_is_an_error_in_one_line(log: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the checkpoint's log of losses is damaged") as error:
        LossLog(tmp_path, 1, tensorboard=False).load_state_dict(log)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["log", "optimizers", "pools", "config", "precision"])
def test_a_checkpoint_that_lacks_a_part_is_an_error_that_names_it(part: str, golden_data: Path, tmp_path: Path) -> None:
    run = unpack("dcgan", tmp_path / "run")
    state = checkpoint.load(run)
    config = load_config(RECIPES["dcgan"].Config, base=state["config"], settings={"out": run, **moved_data("dcgan", golden_data)})
    checkpoint.save(run / checkpoint.NAME, {key: value for key, value in state.items() if key != part})
    with pytest.raises(ModelError, match=f"cannot be resumed from it: no {part} in it"):
        train("dcgan", config, resume=True)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("recipe", ["dcgan"], "recipe must be of type str, got list"),
        ("config", [1], "config must be of type dict, got list"),
        ("step", "three", "step must be of type int, got str"),
        ("precision", 32, "precision must be of type str, got int"),
        ("networks", None, "networks must be of type dict, got NoneType"),
        ("networks", {"generator": 3, "discriminator": 3}, "the checkpoint's networks are damaged"),
        ("averages", {"generator": None}, "the checkpoint's averages are damaged"),
        ("optimizers", [], "optimizers must be of type dict, got list"),
        ("optimizers", {"generator": [], "discriminator": []}, "the checkpoint's optimizers are damaged"),
        ("scalers", 3, "scalers must be of type dict, got int"),
        ("pools", {}, "pools must be of type list, got dict"),
        ("pools", [], "the checkpoint's pools or scalers are damaged"),
        ("pools", [3], r"pools\[0\] must be of type dict, got int"),
        ("log", "text", "log must be of type dict, got str"),
        ("seconds", "long", r"seconds must be of type int \| float, got str"),
        ("fixed", {"sample": 3}, r"fixed\['sample'\] must be of type Tensor, got int"),
        ("extra", 3, "extra must be of type dict, got int"),
    ],
)
def test_a_checkpoint_with_a_field_of_the_wrong_type_is_an_error_in_one_line(
    field: str, value: object, message: str, golden_data: Path, tmp_path: Path
) -> None:
    run = unpack("dcgan", tmp_path / "run")
    state = checkpoint.load(run)
    config = load_config(RECIPES["dcgan"].Config, base=state["config"], settings={"out": run, **moved_data("dcgan", golden_data)})
    checkpoint.save(run / checkpoint.NAME, state | {field: value})
    with pytest.raises(ModelError, match=message) as error:
        train("dcgan", config, resume=True)
    assert "\n" not in str(error.value)
