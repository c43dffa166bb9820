"""ModelSpec survives its JSON."""

from __future__ import annotations

import pytest

from cyclecast.spec import ModelSpec


def test_round_trip() -> None:
    spec = ModelSpec(name="monet", recipe="cyclegan", direction="b2a", architecture={"ngf": 16}, size=(640, 360), steps=7)
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_a_newer_file_with_unknown_keys_is_read() -> None:
    assert ModelSpec.from_json('{"name": "later", "unheard_of": 1}') == ModelSpec(name="later")


@pytest.mark.parametrize("text", ["[]", "not json", ""])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ModelSpec.from_json(text)
