"""Settings: from TOML, from text, and refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyclecast.errors import ConfigError, InputError
from cyclecast.training.config import load_config
from cyclecast.training.recipes.cyclegan import CycleGanConfig

PLACES = {"out": "o", "domain_a": "a", "domain_b": "b"}


def test_defaults_are_the_papers() -> None:
    config = load_config(CycleGanConfig, settings=PLACES)
    assert (config.learning_rate, config.beta1, config.batch_size) == (2e-4, 0.5, 1)
    assert (config.cycle_weight, config.identity_weight, config.pool_size) == (10.0, 5.0, 50)
    assert (config.generator, config.ngf, config.ndf, config.upsample) == ("resnet9", 64, 64, "deconvolution")
    assert (config.load_size, config.load_size_max, config.crop_size) == (286, None, 256)


def test_toml_then_flags(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('ngf = 8\nsteps = 10\nupsample = "resize"\n')
    config = load_config(CycleGanConfig, file=file, settings=PLACES | {"steps": "20", "augment": "true", "load_size_max": "none"})
    assert (config.ngf, config.steps, config.upsample, config.augment) == (8, 20, "resize", True)
    assert config.load_size_max is None
    assert config.domain_a == Path("a")


def test_what_a_checkpoint_keeps_is_read_back() -> None:
    config = load_config(CycleGanConfig, settings=PLACES | {"samples_a": "s", "steps": 3})
    again = load_config(CycleGanConfig, base=config.to_dict())
    assert again.domain_a == Path("a").resolve() and again.steps == 3 and again.load_size_max is None
    assert again.to_dict() == config.to_dict()


def test_a_checkpoints_settings_yield_to_a_file_and_a_file_to_flags(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("ngf = 16\nndf = 16\n")
    base = load_config(CycleGanConfig, settings=PLACES | {"ngf": 8, "ndf": 8, "seed": 8}).to_dict()
    config = load_config(CycleGanConfig, base=base, file=tmp_path / "c.toml", settings={"ndf": "32"})
    assert (config.seed, config.ngf, config.ndf) == (8, 16, 32)


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
def test_what_does_not_fit_is_named(setting: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(CycleGanConfig, settings=PLACES | setting)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        load_config(CycleGanConfig, file=tmp_path / "none.toml", settings=PLACES)
    (tmp_path / "bad.toml").write_text("ngf = = 3")
    with pytest.raises(ConfigError, match="no valid TOML"):
        load_config(CycleGanConfig, file=tmp_path / "bad.toml", settings=PLACES)
    with pytest.raises(ConfigError, match="missing: out, domain_a, domain_b"):
        load_config(CycleGanConfig)
