"""`cyclecast train RECIPE --settings` lists what can be set; a name with a typo is answered with the nearest one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cyclecast.errors import ConfigError, MissingInputError
from cyclecast.training.config import SHIPPED, find_settings, load_config, settings_of
from cyclecast.training.recipes import RECIPES
from cyclecast.training.recipes.cyclegan import CycleGanConfig
from cyclecast.training.settings_list import first_sentence, list_settings
from tests.commands import json_of, run_command

PLACES = {"out": "o", "domain_a": "a", "domain_b": "b"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_setting_of_a_recipe_is_listed_with_its_meaning(recipe: str) -> None:
    config_class = RECIPES[recipe].Config
    lines = list_settings(config_class)
    assert {line.name for line in lines} == settings_of(config_class).keys() - config_class.unavailable.keys()
    assert [line.name for line in lines if not line.meaning or not line.type] == []
    required = {name for name, setting in settings_of(config_class).items() if setting.required}
    assert {line.name for line in lines if line.default is None} == required


def test_the_command_prints_a_line_for_each_setting_without_data_or_a_folder() -> None:
    done = run_command("train", "cyclegan", "--settings")
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert "ngf = 64 (int): Generator's channels at full resolution." in lines
    assert "flip = true (true|false): Mirrors half of the images; never digits." in lines
    assert (
        "schedule = linear (linear|cosine|step|constant): linear: constant for the first half of the run, then down to 0."
        in lines
    )
    assert "load_size_max = none (int or none): " in done.stdout and "domain_a (path, required: --data): " in done.stdout
    assert len(lines) == len(settings_of(CycleGanConfig))


def test_the_defaults_are_those_of_the_recipe() -> None:
    settings = json_of("train", "gan", "--settings")["settings"]
    found = {setting["name"]: setting for setting in settings}
    assert (found["batch_size"]["default"], found["schedule"]["default"]) == ("64", "constant")
    lines = {line.name: line for line in list_settings(CycleGanConfig)}
    flat = load_config(CycleGanConfig, settings=PLACES).to_dict()
    for name, line in lines.items():
        if line.default is not None:
            assert line.default == ("none" if flat[name] is None else str(flat[name]).lower())


def test_a_run_needs_a_folder() -> None:
    done = run_command("train", "cyclegan")
    assert done.returncode == 2 and "--out" in done.stderr


@pytest.mark.parametrize(
    ("typo", "nearest"),
    [("ngff", "ngf"), ("learning-rate", "learning_rate"), ("cycle_wieght", "cycle_weight"), ("batchsize", "batch_size")],
)
def test_a_typo_names_the_nearest_setting(typo: str, nearest: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"no setting named '{typo}'; did you mean {nearest}\? .*--settings` lists all$"):
        load_config(CycleGanConfig, settings=PLACES | {typo: "1"})
    (tmp_path / "c.toml").write_text(f"{typo} = 1\n")
    with pytest.raises(ConfigError, match=f"did you mean {nearest}"):
        load_config(CycleGanConfig, file=tmp_path / "c.toml", settings=PLACES)


def test_a_name_near_to_none_names_the_list() -> None:
    with pytest.raises(ConfigError, match=r"no setting named 'xyzzy'; `cyclecast train RECIPE --settings` lists all$"):
        load_config(CycleGanConfig, settings=PLACES | {"xyzzy": "1"})


def test_shipped_settings_are_found_by_name_and_a_file_of_that_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("monet-teacher", "monet-teacher.toml"):
        assert find_settings(Path(name)) == SHIPPED / "monet-teacher.toml"
    config = load_config(CycleGanConfig, file=find_settings(Path("monet-teacher")), settings=PLACES)
    assert (config.generator.generator, config.generator.ngf) == ("resnet6", 32)
    Path("monet-teacher.toml").write_text("ngf = 3\n")
    assert find_settings(Path("monet-teacher.toml")) == Path("monet-teacher.toml")


def test_a_wrong_name_of_settings_lists_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(
        MissingInputError, match="manet: no such file, and no shipped settings .*: fastcut, monet, monet-teacher$"
    ):
        find_settings(Path("manet"))
    done = run_command("train", "cyclegan", "--out", tmp_path / "r", "--config", "manet")
    assert done.returncode == 1 and "there are: fastcut, monet, monet-teacher" in done.stderr


def test_the_first_sentence_ends_at_a_full_stop() -> None:
    assert first_sentence("Above\n    1.5 at once. Then more.") == "Above 1.5 at once."
    assert first_sentence("No stop") == "No stop" and first_sentence("") == ""


def test_the_lines_are_plain_data() -> None:
    assert dataclasses.asdict(list_settings(CycleGanConfig)[0])["name"] == "out"
