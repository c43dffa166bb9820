"""The help of every command: complete, with one example that the command accepts."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import typer
from rich.text import Text

from cyclecast.cli import app
from tests.commands import run_command

GROUP: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = GROUP.commands


def test_the_list_of_commands_has_one_complete_line_for_each() -> None:
    listing = run_command("--help").stdout
    for name, command in COMMANDS.items():
        assert name in listing
        first = command.help.partition("\n")[0]
        assert first.endswith(".") and "Example:" not in first, f"{name}: {first}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name: str) -> None:
    for parameter in COMMANDS[name].params:
        assert getattr(parameter, "help", None), f"{name}: {parameter.name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_shown_whole(name: str) -> None:
    for text in (COMMANDS[name].help, *[parameter.help for parameter in COMMANDS[name].params]):
        assert Text.from_markup(text).plain == text, "square brackets are markup, which is not shown"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_one_example_that_it_accepts(name: str) -> None:
    done = run_command(name, "--help")
    assert done.returncode == 0 and "--debug" in done.stdout
    examples = re.findall(r"^ *Example: (.+)$", COMMANDS[name].help, re.MULTILINE)
    assert len(examples) == 1
    program, command, *words = shlex.split(examples[0])
    assert (program, command) == ("cyclecast", name)
    COMMANDS[name].make_context(name, words)
