"""`python -m tests.audit`: known holes in the installed packages, by pip-audit. A part of `make check`.

It needs the network, and is skipped with a line without one. It fails for holes that a newer version of a package closes; others
are printed only, since nobody here can close them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from importlib.util import find_spec
from typing import Any

QUESTION = "https://pypi.org/pypi/pip/json"  # where pip-audit asks, for each package
ANSWER_TIMEOUT_S = 3.0
AUDIT_TIMEOUT_S = 120.0
NOT_OURS = {"pip", "setuptools", "wheel"}  # what a virtual environment begins with; the commands of cyclecast do not use them


def why_skipped(question: str = QUESTION) -> str | None:
    """Returns why no audit is possible here; None if one is."""
    if find_spec("pip_audit") is None:
        return "pip-audit is not installed"
    try:
        with urllib.request.urlopen(question, timeout=ANSWER_TIMEOUT_S):
            return None
    except urllib.error.HTTPError as error:  # a mirror, which has the packages only
        return f"{question} answers {error.code}"
    except OSError:
        return "no network"


def find_holes(report: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Returns (holes that a newer version closes, other holes) of pip-audit's report, a line for each."""
    closed: list[str] = []
    others: list[str] = []
    for package in report["dependencies"]:
        if package["name"].lower() in NOT_OURS:
            continue
        for hole in package.get("vulns", []):
            name = f"{package['name']} {package['version']}: {hole['id']}"
            if hole["fix_versions"]:
                closed.append(f"{name}, closed in {' and '.join(hole['fix_versions'])}")
            else:
                others.append(f"{name}, not closed yet")
    return closed, others


def main() -> int:
    """Prints one line, or one for each hole."""
    reason = why_skipped()
    if reason is not None:
        print(f"pip-audit: skipped, {reason}")
        return 0
    command = [sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off", "--skip-editable", "--timeout=5"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_TIMEOUT_S)
        report = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):  # the network has ended meanwhile
        print("pip-audit: skipped, it got no answers")
        return 0
    closed, others = find_holes(report)
    for line in closed + others:
        print(line)
    print(f"pip-audit: {len(closed)} holes to close, {len(others)} others, in {len(report['dependencies'])} packages")
    return 1 if closed else 0


if __name__ == "__main__":
    sys.exit(main())
