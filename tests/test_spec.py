"""A ModelSpec survives its JSON, and reads that of other versions."""

from __future__ import annotations

import json

import pytest

from cyclecast.spec import ModelSpec


def test_round_trip() -> None:
    spec = ModelSpec(name="monet", recipe="cyclegan", direction="b2a", architecture={"ngf": 16}, size=(640, 360), steps=7)
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_unknown_keys_of_a_newer_version_are_ignored() -> None:
    assert ModelSpec.from_json('{"name": "later", "unheard_of": 1}') == ModelSpec(name="later")


def test_the_old_keys_are_read_and_the_new_ones_written() -> None:
    spec = ModelSpec.from_json('{"kind": "latent", "keep_colours": 0.25}')
    assert (spec.model_type, spec.keep_colors) == ("latent", 0.25)
    written = json.loads(spec.to_json())
    assert (written["model_type"], written["keep_colors"]) == ("latent", 0.25)
    assert not {"kind", "keep_colours"} & written.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a JSON object, got \\[\\]"),
        ('"frame"', "expected a JSON object"),
        ("not json", "Expecting value"),
        ("", "Expecting value"),
        ("[" * 100_000, "too deeply nested"),
        ('{"size": "640x360"}', r'size: expected null or \[width, height\] in pixels, got "640x360"'),
        ('{"size": 7}', "size: expected"),
        ('{"size": [640]}', "size: expected"),
        ('{"size": [640, "360"]}', "size: expected"),
        ('{"size": {"width": 640, "height": 360}}', "size: expected"),
        ('{"size": [8, 8]}', "size: expected"),
        ('{"name": null}', "name: expected a text, got null"),
        ('{"precision": 16}', "precision: expected a text, got 16"),
        ('{"direction": ["a2b"]}', "direction: expected a text"),
        ('{"model_type": "video"}', 'model_type: expected frame or latent, got "video"'),
        ('{"kind": {}}', "model_type: expected frame or latent"),
        ('{"architecture": "resnet"}', "architecture: expected an object"),
        ('{"architecture": null}', "architecture: expected an object"),
        ('{"keep_colors": "all"}', "keep_colors: expected a number from 0 to 1"),
        ('{"keep_colours": NaN}', "keep_colors: expected a number from 0 to 1, got NaN"),
        ('{"steps": true}', "steps: expected a whole number from 0 up, got true"),
        ('{"steps": 1.5}', "steps: expected"),
    ],
)
def test_malformed_metadata_are_a_value_error_of_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        ModelSpec.from_json(text)
    assert "\n" not in str(refused.value)
