"""The commands in the documents exist, with the options and the settings that they name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from cyclecast.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "cyclecast" / "models").glob("*.md"))]
COMMANDS = [
    (page.name, line.split("#")[0].strip())
    for page in PAGES
    for block in re.findall(r"```\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    for line in block.splitlines()
    if re.match(r"(cyclecast|torchrun .*-m cyclecast) ", line)
]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_documents_command_is_one_that_the_program_takes(page: str, command: str) -> None:
    words = shlex.split(command)
    words = words[words.index("cyclecast") + 1 :]
    group = typer.main.get_command(app)
    parsed = group.commands[words[0]].make_context(words[0], words[1:])  # type: ignore[attr-defined]
    for setting in parsed.params.get("settings") or []:
        from cyclecast.training.recipes import RECIPES

        key = setting.partition("=")[0]
        assert key in RECIPES[parsed.params["recipe"]].Config.__dataclass_fields__, key


def test_there_are_commands_in_the_documents() -> None:
    assert len(COMMANDS) > 15
