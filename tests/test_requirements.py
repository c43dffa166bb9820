"""The lowest versions that pyproject.toml admits have no known holes, and the audit of what is installed says what it found."""

from __future__ import annotations

import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests import audit

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT: dict[str, Any] = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))["project"]
FIRST_WITHOUT_HOLES = {  # name -> version
    "filelock": "3.20.1",  # CVE-2025-68146
    "h11": "0.16",  # CVE-2025-43859
    "onnx": "1.21",  # CVE-2026-27489, CVE-2026-34445 to 34447
    "opencv-python": "4.12",  # CVE-2025-53644
    "pillow": "12.3",  # CVE-2026-59199 and more; 13 for Python 3.11 and later, CVE-2026-96639
    "pillow-heif": "1.3",  # CVE-2026-28231
    "ray": "2.54",  # CVE-2025-62593
    "starlette": "0.49.1",  # CVE-2025-62727
    "torch": "2.10",  # CVE-2026-24747
}


def requirements() -> list[Requirement]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group if not line.startswith("cyclecast[")]


def lowest(requirement: Requirement) -> Version:
    """Returns the lowest version that is allowed; 0 if there is no bound."""
    bounds = [each.version for each in requirement.specifier if each.operator in (">=", "==", "~=")]
    return max(map(Version, bounds), default=Version("0"))


@pytest.mark.parametrize("name", FIRST_WITHOUT_HOLES)
def test_no_version_with_known_holes_is_admitted(name: str) -> None:
    found = [requirement for requirement in requirements() if requirement.name == name]
    assert found, f"{name} is not required"
    for requirement in found:
        assert lowest(requirement) >= Version(FIRST_WITHOUT_HOLES[name]), str(requirement)


def test_new_pythons_get_the_pillow_that_only_they_can_have() -> None:
    for requirement in requirements():
        if requirement.name == "pillow" and (
            requirement.marker is None or requirement.marker.evaluate({"python_version": "3.12"})
        ):
            assert lowest(requirement) >= Version("13")


def test_every_requirement_has_a_lowest_version() -> None:
    assert [str(requirement) for requirement in requirements() if lowest(requirement) == Version("0")] == []


REPORT = {
    "dependencies": [
        {"name": "pip", "version": "24.0", "vulns": [{"id": "CVE-1", "fix_versions": ["25.3"]}]},
        {"name": "sound", "version": "1.0", "vulns": []},
        {"name": "cyclecast", "skip_reason": "editable"},
        {"name": "leaky", "version": "1.0", "vulns": [{"id": "CVE-2", "fix_versions": ["1.1", "2.0"]}]},
        {"name": "disputed", "version": "1.0", "vulns": [{"id": "CVE-3", "fix_versions": []}]},
    ]
}


def test_holes_that_a_newer_version_closes_are_told_from_others() -> None:
    assert audit.find_holes(REPORT) == (["leaky 1.0: CVE-2, closed in 1.1 and 2.0"], ["disputed 1.0: CVE-3, not closed yet"])


@pytest.fixture
def mirror() -> Iterator[str]:
    """Yields the address of an index that knows no vulnerabilities."""

    class Missing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Missing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/pypi/pip/json"
        server.shutdown()
        thread.join()


def test_the_audit_is_skipped_where_nobody_answers(
    mirror: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "find_spec", lambda name: None)
    assert audit.why_skipped() == "pip-audit is not installed"
    monkeypatch.setattr(audit, "find_spec", lambda name: name)
    assert audit.why_skipped("http://127.0.0.1:9/") == "no network"
    assert audit.why_skipped(mirror) == f"{mirror} answers 404"
    monkeypatch.setattr(audit, "why_skipped", lambda: "no network")
    assert audit.main() == 0 and capsys.readouterr().out == "pip-audit: skipped, no network\n"
