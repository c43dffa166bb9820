"""Shortens the check of adopted models for the tests of this folder."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """`adopt` compares at two small sizes; test_the_command_needs_no_torch has its own three."""
    monkeypatch.setattr("cyclecast.export.adopt.SIZES", ((131, 97), (64, 48)))
