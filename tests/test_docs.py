"""The commands in the documents exist, with the options and the settings that they name."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from cyclecast.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "cyclecast" / "models").glob("*.md"))]
DEPLOYED = sorted((ROOT / "deploy").iterdir())
COMMANDS = [
    (page.name, line.split("#")[0].strip())
    for page in PAGES
    for block in re.findall(r"```\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    for line in block.splitlines()
    if re.match(r"(cyclecast|torchrun .*-m cyclecast) ", line)
]
COMMANDS += [
    (path.name, line.partition("/bin/")[2])
    for path in DEPLOYED
    for line in path.read_text().splitlines()
    if line.startswith("ExecStart=")
]
COMMANDS += [
    (path.name, shlex.join(["cyclecast", *json.loads(line.removeprefix("CMD "))]))
    for path in DEPLOYED
    for line in path.read_text().splitlines()
    if line.startswith("CMD ")
]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_documents_command_is_one_that_the_program_takes(page: str, command: str) -> None:
    words = shlex.split(command)
    words = words[words.index("cyclecast") + 1 :]
    group = typer.main.get_command(app)
    parsed = group.commands[words[0]].make_context(words[0], words[1:])  # type: ignore[attr-defined]
    for setting in parsed.params.get("settings") or []:
        from cyclecast.training.config import settings_of
        from cyclecast.training.recipes import RECIPES

        key = setting.partition("=")[0]
        assert key in settings_of(RECIPES[parsed.params["recipe"]].Config), key


def test_there_are_commands_in_the_documents() -> None:
    assert len(COMMANDS) > 15


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs Debian's systemd")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (ROOT / "deploy" / "cyclecast.service").read_text().replace("/opt/cyclecast/bin/cyclecast", "/bin/true")
    (tmp_path / "cyclecast.service").write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "cyclecast.service"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_line_of_the_deployment_is_explained() -> None:
    page = (ROOT / "docs" / "live.md").read_text("utf-8")
    settings = re.findall(r"^([A-Z]\w+=)", (ROOT / "deploy" / "cyclecast.service").read_text(), re.MULTILINE)
    before_hardening = settings[1 : settings.index("NoNewPrivileges=") + 1]  # without Description=
    assert [name for name in before_hardening if name not in page] == []
