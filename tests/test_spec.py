"""A ModelSpec can be written as JSON and read back, also by other versions."""

from __future__ import annotations

import dataclasses
import json

import pytest

from cyclecast.spec import ModelSpec


def test_round_trip() -> None:
    spec = ModelSpec(name="monet", recipe="cyclegan", direction="b2a", architecture={"ngf": 16}, size=(640, 360), steps=7)
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_unknown_keys_of_a_newer_version_are_ignored() -> None:
    assert ModelSpec.from_json('{"name": "later", "unheard_of": 1}') == ModelSpec(name="later")


def test_old_keys_are_read_and_new_keys_are_written() -> None:
    spec = ModelSpec.from_json('{"kind": "latent", "keep_colours": 0.25}')
    assert (spec.model_type, spec.keep_colors) == ("latent", 0.25)
    written = json.loads(spec.to_json())
    assert (written["model_type"], written["keep_colors"]) == ("latent", 0.25)
    assert not {"kind", "keep_colours"} & written.keys()


def test_a_strength_of_1_is_written_as_by_versions_without_the_field() -> None:
    assert ModelSpec.from_json("{}").strength == 1.0
    assert "strength" not in json.loads(ModelSpec(strength=1.0).to_json())
    assert ModelSpec.from_json(ModelSpec(strength=0.25).to_json()).strength == 0.25


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
        ('{"strength": 1.5}', "strength: expected a number from 0 to 1, got 1.5"),
        ('{"strength": NaN}', "strength: expected a number from 0 to 1, got NaN"),
        ('{"steps": true}', "steps: expected a whole number from 0 up, got true"),
        ('{"steps": 1.5}', "steps: expected"),
    ],
)
def test_malformed_metadata_are_a_value_error_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ModelSpec.from_json(text)
    assert "\n" not in str(caught.value)


VALUES_OF_EVERY_TYPE = (
    "7",
    "-1",
    "0.5",
    "1e999",
    "1" + 400 * "0",
    "NaN",
    '"text"',
    "null",
    "true",
    "[]",
    "{}",
    "[640, 360]",
    "[{}]",
)


@pytest.mark.parametrize("field", dataclasses.fields(ModelSpec), ids=lambda field: str(field.name))
def test_a_value_of_a_wrong_type_is_one_line_that_names_the_field(field: dataclasses.Field[object]) -> None:
    rejected = []
    for value in VALUES_OF_EVERY_TYPE:
        try:
            spec = ModelSpec.from_json(f'{{"{field.name}": {value}}}')
        except ValueError as error:
            assert str(error).startswith(f"{field.name}: expected ") and "\n" not in str(error)
            rejected.append(value)
        else:
            assert ModelSpec.from_json(spec.to_json()) == spec
    assert len(rejected) >= 8
