"""The commands and the Python code in README, docs, model cards and deployment files."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "cyclecast" / "models").glob("*.md"))]
SHELLS = ("", "sh", "bash", "shell", "console", "text")


def code_blocks(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yields (language, lines) of each fenced block."""
    language, lines = None, []
    for line in page.read_text("utf-8").splitlines():
        fence = re.match(r"\s*```(.*)", line)
        if fence is None:
            lines.append(line.strip() if language in SHELLS else line)
        elif language is None:
            language, lines = fence[1].strip(), []
        else:
            yield language, lines
            language = None


def commands_of(page: Path) -> Iterator[list[str]]:
    """Yields the words of each cyclecast command of a page, from `cyclecast`, `torchrun` or `python` on."""
    for language, lines in code_blocks(page):
        if language in SHELLS:
            text = "\n".join(line.removeprefix("$ ") for line in lines).replace("\\\n", " ")
            for line in text.splitlines():
                if re.match(r"(\w+=\S+ )*(cyclecast|torchrun .*-m cyclecast|python3? -m cyclecast)( |$)", line):
                    words = shlex.split(line, comments=True)
                    yield words[[word in ("cyclecast", "torchrun", "python", "python3") for word in words].index(True) :]


def deployed_commands() -> Iterator[tuple[str, list[str]]]:
    """Yields (file, words) of the commands that systemd and Docker start."""
    for path in sorted((ROOT / "deploy").iterdir()):
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("ExecStart="):
                yield path.name, shlex.split(line.partition("/bin/")[2])
            elif line.startswith("CMD "):
                yield path.name, ["cyclecast", *json.loads(line.removeprefix("CMD "))]


def python_of(page: Path) -> Iterator[str]:
    """Yields each block of Python code of a page."""
    for language, lines in code_blocks(page):
        if language in ("python", "py"):
            yield "\n".join(lines)
