"""Settings from TOML files, flags and checkpoints; invalid ones are errors."""

from __future__ import annotations

from pathlib import Path

import pytest

import cyclecast
from cyclecast.errors import ConfigError, InputError
from cyclecast.training.config import data_settings, load_config, settings_of
from cyclecast.training.recipes import RECIPES
from cyclecast.training.recipes.cut import CutConfig
from cyclecast.training.recipes.cyclegan import CycleGanConfig
from cyclecast.training.recipes.dcgan import DcganConfig
from cyclecast.training.recipes.distill import DistillConfig
from cyclecast.training.recipes.pix2pix import Pix2PixConfig

PLACES = {"out": "o", "domain_a": "a", "domain_b": "b"}


def test_defaults_are_those_of_the_paper() -> None:
    config = load_config(CycleGanConfig, settings=PLACES)
    assert (config.optim.learning_rate, config.optim.beta1, config.optim.batch_size) == (2e-4, 0.5, 1)
    assert (config.cycle_weight, config.identity_weight, config.pool.pool_size) == (10.0, 5.0, 50)
    generator = config.generator
    assert (generator.generator, generator.ngf, generator.upsample) == ("resnet9", 64, "deconvolution")
    assert (config.discriminator.discriminator, config.discriminator.ndf) == ("basic", 64)
    assert (config.data.load_size, config.data.load_size_max, config.data.crop_size) == (286, None, 256)


def test_flags_override_toml(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('ngf = 8\nsteps = 10\nupsample = "resize"\n')
    config = load_config(CycleGanConfig, file=file, settings=PLACES | {"steps": "20", "augment": "true", "load_size_max": "none"})
    assert (config.generator.ngf, config.steps, config.generator.upsample, config.adversary.augment) == (8, 20, "resize", True)
    assert config.data.load_size_max is None
    assert config.data.domain_a == Path("a")


def test_settings_of_a_checkpoint_are_read_back() -> None:
    config = load_config(CycleGanConfig, settings=PLACES | {"samples_a": "s", "steps": 3})
    again = load_config(CycleGanConfig, base=config.to_dict())
    assert again.data.domain_a == Path("a").resolve() and again.steps == 3 and again.data.load_size_max is None
    assert again.to_dict() == config.to_dict()


def test_a_file_overrides_a_checkpoint_and_flags_override_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("ngf = 16\nndf = 16\n")
    base = load_config(CycleGanConfig, settings=PLACES | {"ngf": 8, "ndf": 8, "seed": 8}).to_dict()
    config = load_config(CycleGanConfig, base=base, file=tmp_path / "c.toml", settings={"ndf": "32"})
    assert (config.seed, config.generator.ngf, config.discriminator.ndf) == (8, 16, 32)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"nfg": "8"}, "no setting named 'nfg'"),
        ({"ngf": "many"}, "ngf must be of type int"),
        ({"generator": "resnet7"}, "generator must be one of resnet6, resnet9"),
        ({"crop_size": "100", "load_size": "50"}, "load_size must be at least crop_size, 100, got 50"),
        ({"load_size_max": "200"}, "load_size_max must be at least load_size, got 200"),
        ({"seed": "-1"}, "seed must be from 0"),
        ({"learning_rate": "nan"}, "learning_rate must be above 0"),
        ({"beta1": "2"}, "beta1 must be"),
        ({"pool_size": "-1"}, "pool_size must be at least 0"),
        ({"ngf": "0"}, "ngf must be at least 1"),
        ({"identity_weight": "-inf"}, "identity_weight must be 0 or more"),
        ({"cycle_scale": "0"}, "cycle_scale must be from 1"),
        ({"batch_size": 2.7}, "batch_size must be of type int"),
        ({"crop_size": "130"}, "multiple of 4"),
        ({"batch_size": "0"}, "batch_size must be at least 1"),
        ({"ema_decay": "1"}, "ema_decay"),
        ({"augment": "perhaps"}, "augment must be of type bool"),
        ({"precision": "fp8"}, "precision must be one of"),
    ],
)
def test_an_invalid_setting_is_an_error_that_names_it(setting: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(CycleGanConfig, settings=PLACES | setting)


def test_missing_and_malformed_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        load_config(CycleGanConfig, file=tmp_path / "none.toml", settings=PLACES)
    (tmp_path / "bad.toml").write_text("ngf = = 3")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(CycleGanConfig, file=tmp_path / "bad.toml", settings=PLACES)
    with pytest.raises(ConfigError, match="missing: out, domain_a, domain_b; set with --out, --data$"):
        load_config(CycleGanConfig)
    with pytest.raises(ConfigError, match="missing: teacher; set with --set teacher=…"):
        load_config(DistillConfig, settings=PLACES)


IMAGES = {"out": "o", "domain": "d"}


@pytest.mark.parametrize("text", ["3", 3])
def test_a_choice_of_numbers_accepts_text_and_numbers(text: object) -> None:
    assert load_config(DcganConfig, settings=IMAGES | {"channels": text}).channels == 3
    with pytest.raises(ConfigError, match="channels must be one of 1, 3, got 2"):
        load_config(DcganConfig, settings=IMAGES | {"channels": "2"})


@pytest.mark.parametrize(
    ("recipe", "setting", "message"),
    [
        ("gan", {"discriminator_steps": "0"}, "discriminator_steps must be at least 1"),
        ("gan", {"image_size": "4"}, "image_size must be from 8 to 1024"),
        ("gan", {"latent": "0"}, "latent must be at least 1"),
        ("gan", {"batch_size": "1"}, "batch_size must be at least 2"),
        ("gan", {"batch_size": "4", "accumulate": "4"}, "batch_size must be at least 2 for each"),
        ("dcgan", {"image_size": "30"}, "image_size must be 4 to 7, doubled"),
        ("wgan", {"clip": "0"}, "clip must be above 0"),
        ("wgan", {"critic_steps": "0"}, "critic_steps must be at least 1"),
        ("cyclegan", {"generator": "unet128", "crop_size": "192", "load_size": "200"}, "crop_size must be a multiple of 128"),
        ("cyclegan", {"accumulate": "3", "batch_size": "4"}, "accumulate must be a divisor of batch_size, 4"),
        (
            "cyclegan",
            {"discriminator": "n_layers", "discriminator_layers": "5", "crop_size": "64"},
            "96 .* discriminator_layers 5",
        ),
        ("cyclegan", {"variant": "cycle"}, "variant must be one of full, cycle_alone"),
        ("cyclegan", {"schedule": "cubic"}, "schedule must be one of linear, cosine, step, constant"),
        ("pix2pix", {"direction": "a2c"}, "direction must be one of a2b, b2a"),
        ("pix2pix", {"paired_weight": "-1"}, "paired_weight must be 0 or more"),
        ("cogan", {"adversarial": "wasserstein"}, "adversarial must be least_squares or log"),
        ("cyclegan", {"generator": "frame", "factor": "0"}, "factor must be 4 or 8, got 0"),
        ("cyclegan", {"generator": "frame", "factor": "5"}, "factor must be 4 or 8, got 5"),
        ("cyclegan", {"generator": "frame", "factor": "8", "crop_size": "100"}, "crop_size must be a multiple of factor, 8"),
        ("cyclegan", {"crop_size": "16"}, "crop_size must be at least 24 for the discriminator `basic`, got 16"),
        (
            "cyclegan",
            {"discriminator": "projected", "crop_size": "48"},
            "crop_size must be a multiple of 32 for the discriminator",
        ),
        ("cyclegan", {"discriminator_layers": "7"}, "discriminator_layers must be from 0 to 6"),
        ("distill", {"factor": "0"}, "factor must be 4 or 8, got 0"),
        ("distill", {"teacher": ""}, "teacher must be of type Path, got ''"),
        ("distill", {"compile": "true"}, "compile must be false"),
        ("distill", {"ndf": "77"}, "no setting named 'ndf' here: the discriminator is the teacher's"),
        ("distill", {"discriminator": "pixel"}, "no setting named 'discriminator' here: the discriminator is the teacher's"),
    ],
)
def test_each_recipe_names_the_invalid_setting(recipe: str, setting: dict[str, str], message: str) -> None:
    config_class = RECIPES[recipe].Config
    places = IMAGES if recipe in ("gan", "dcgan", "wgan") else PLACES
    with pytest.raises(ConfigError, match=message):
        load_config(config_class, settings=places | {"distill": {"teacher": "t"}}.get(recipe, {}) | setting)


def test_the_settings_that_ship_are_valid() -> None:
    models = Path(cyclecast.__file__).parent / "models"
    recipes = {"monet-teacher": CycleGanConfig, "monet": DistillConfig, "fastcut": CutConfig}
    assert {file.stem for file in models.glob("*.toml")} == recipes.keys()
    for name, config_class in recipes.items():
        teacher = {"teacher": "t"} if config_class is DistillConfig else {}
        load_config(config_class, file=models / f"{name}.toml", settings=PLACES | teacher)
    for file in models.glob("*.txt"):  # training images
        names = file.read_text("utf-8").splitlines()
        assert names and len(set(names)) == len(names)


def test_a_pixel_discriminator_accepts_any_crop_size() -> None:
    config = load_config(
        CycleGanConfig, settings=PLACES | {"crop_size": "32", "discriminator": "pixel", "discriminator_layers": "6"}
    )
    assert config.discriminator.discriminator == "pixel"


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
    return root


def test_data_finds_two_domains_and_their_test_images(tmp_path: Path) -> None:
    both = folders(tmp_path / "both", "trainA", "trainB", "testB")
    assert data_settings(CycleGanConfig, both) == {
        "domain_a": both / "trainA",
        "domain_b": both / "trainB",
        "samples_a": None,
        "samples_b": both / "testB",
        "layout": "folders",
    }


def test_data_finds_photos_and_their_label_maps(tmp_path: Path) -> None:
    city = folders(tmp_path / "city", "train", "train_labels", "val", "val_labels")
    assert data_settings(Pix2PixConfig, city) == {
        "domain_a": city / "train",
        "domain_b": city / "train_labels",
        "samples_a": city / "val",
        "samples_b": city / "val_labels",
        "layout": "folders",
    }


def test_data_finds_pairs_side_by_side(tmp_path: Path) -> None:
    pairs = folders(tmp_path / "facades", "train", "val")
    found = data_settings(Pix2PixConfig, pairs)
    assert found["layout"] == "halves" and found["domain_a"] == found["domain_b"] == pairs / "train"
    assert found["samples_a"] == found["samples_b"] == pairs / "val"
    assert data_settings(Pix2PixConfig, folders(tmp_path / "alone", "train"))["samples_a"] is None
    assert load_config(Pix2PixConfig, settings={"out": "o", **found}).data.layout == "halves"


def test_data_of_one_domain_is_that_file_and_no_data_sets_nothing(tmp_path: Path) -> None:
    assert data_settings(DcganConfig, tmp_path / "digits.npz") == {"domain": tmp_path / "digits.npz"}
    assert data_settings(DcganConfig, None) == data_settings(CycleGanConfig, None) == {}


def test_data_of_an_unknown_layout_is_an_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: no such folder"):
        data_settings(CycleGanConfig, tmp_path / "none")
    with pytest.raises(InputError, match="neither trainA and trainB in it, nor train with train_labels, nor train with pairs"):
        data_settings(CycleGanConfig, folders(tmp_path / "half", "trainA", "val"))


def test_data_with_files_of_digits_names_the_two_flags(tmp_path: Path) -> None:
    for name in ("mnist.npz", "usps.npz"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="holds mnist.npz, usps.npz: name two with --domain-a and --domain-b"):
        data_settings(CycleGanConfig, tmp_path)


def test_no_weight_of_any_recipe_may_be_negative_or_infinite() -> None:
    weights = [(name, key) for name, recipe in RECIPES.items() for key in settings_of(recipe.Config) if "_weight" in key]
    assert ("cyclegan", "whiten_weight_b") in weights and ("style_transfer", "palette_weight") in weights
    for recipe, weight in weights:
        config_class = RECIPES[recipe].Config
        places = IMAGES if "domain" in settings_of(config_class) else PLACES
        teacher = {"teacher": "t"} if recipe == "distill" else {}
        for value in ("-1", "inf"):
            if weight not in config_class.unavailable:
                with pytest.raises(ConfigError, match=f"{weight} must be 0 or more"):
                    load_config(config_class, settings=places | teacher | {weight: value})
