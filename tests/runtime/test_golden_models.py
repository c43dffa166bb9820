"""Model files of version 0.1.0, whose metadata have the keys `kind` and `keep_colours`, are read and run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import cyclecast
from cyclecast.errors import EngineUnavailable, ModelError
from cyclecast.export.triton import write_repository
from cyclecast.runtime.engine import spec_from_metadata
from cyclecast.runtime.engines import open_engine
from cyclecast.runtime.model import bundled_models
from cyclecast.runtime.onnx_file import read_metadata
from cyclecast.runtime.plan import engine_of_plan, read_facts
from cyclecast.spec import ModelSpec

GOLDEN = Path(__file__).parent.parent / "golden" / "models"
EXPECTED = np.load(GOLDEN / "expected.npz")
ARCHITECTURE = {"generator": "frame", "width": 8, "blocks": 1}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_frame_model_is_loaded_and_runs(precision: str, engine: str) -> None:
    with cyclecast.load(GOLDEN / f"frame-{precision}.onnx", engine, "cpu", "fp32" if engine == "openvino" else "auto") as model:
        styled = model(EXPECTED["frame"])
        size, keep_colors, direction = (None, 0.5, "a2b") if precision == "fp32" else ((64, 48), 0.0, "b2a")
        assert model.spec == ModelSpec(
            name=f"frame-{precision}",
            recipe="distill",
            direction=direction,
            architecture=ARCHITECTURE,
            precision=precision,
            size=size,
            keep_colors=keep_colors,
            steps=7,
            version="0.1.0",
        )
        assert model.engine.size == size
    difference = np.abs(styled.astype(int) - EXPECTED[precision])
    assert difference.max() <= 1 if precision == "fp32" else difference.mean() < 1


def test_a_latent_model_is_read_and_runs() -> None:
    path = GOLDEN / "latent.onnx"
    spec = spec_from_metadata(path, read_metadata(path))
    assert (spec.model_type, spec.recipe, spec.direction, spec.architecture) == ("latent", "dcgan", "sample", {"latent": 4})
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (images,) = session.run(None, {"latent": EXPECTED["latent"]})
    assert np.abs(np.asarray(images).astype(int) - EXPECTED["image"]).max() <= 1


def test_a_latent_model_is_added_to_a_triton_repository(tmp_path: Path) -> None:
    config = write_repository(GOLDEN / "latent.onnx", "latent", tmp_path)
    assert 'name: "latent" data_type: TYPE_FP32' in config.read_text()


@pytest.mark.parametrize("engine", ["auto", "openvino", "onnxruntime", "torch"])
def test_a_latent_model_opened_as_a_frame_model_is_an_error_that_names_its_use(engine: str) -> None:
    with pytest.raises(ModelError) as caught:
        cyclecast.load(GOLDEN / "latent.onnx", engine, "cpu")
    message = str(caught.value)
    assert "latent.onnx: a latent model (noise in, images out); other programs" in message
    assert "run it to generate images" in message and "\n" not in message


def test_a_plans_header_is_read() -> None:
    path = GOLDEN / "same.plan"
    facts = read_facts(path)
    assert facts is not None and engine_of_plan(path) == facts.engine == "tensorrt-rtx"
    assert (facts.version, facts.sm, facts.sizes, facts.precision) == ("1.7.1.116", (89,), ((64, 48),) * 3, "fp32")
    assert (facts.input_name, facts.output_name) == ("frame", "styled")
    spec = spec_from_metadata(path, facts.metadata)
    assert (spec.name, spec.model_type, spec.keep_colors, spec.size) == ("same", "frame", 0.5, (64, 48))


def test_a_plan_runs_on_its_own_gpu() -> None:
    try:
        engine = open_engine(GOLDEN / "same.plan")
    except EngineUnavailable as error:
        pytest.skip(str(error))
    except ModelError as error:  # another GPU, or another version of the library
        pytest.skip(str(error))
    np.testing.assert_array_equal(engine.run(EXPECTED["frame"]), EXPECTED["frame"])


@pytest.mark.parametrize("name", bundled_models())
def test_the_bundled_models_metadata_are_read(name: str) -> None:
    path = bundled_models()[name]
    spec = spec_from_metadata(path, read_metadata(path))
    assert (spec.name, spec.model_type, spec.precision, spec.size) == (name, "frame", "fp32", None)
