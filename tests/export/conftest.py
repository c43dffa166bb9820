"""Shortens the check of adopted models for the tests of this folder."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """`adopt` compares at two small sizes; test_the_command_needs_no_torch has its own three."""
    monkeypatch.setattr("cyclecast.export.adopt.SIZES", ((131, 97), (64, 48)))


@pytest.fixture
def without_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out `adopt`'s trial of the engine that `auto` chooses, which takes as long as the rest; test_verify.py tests it."""
    monkeypatch.setattr("cyclecast.export.adopt.default_precision", lambda path, spec, frames: (spec, None))
