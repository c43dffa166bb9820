"""Small files whose constants would take gigabytes are refused before they are computed or read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cyclecast
from cyclecast.errors import ModelError
from cyclecast.export.adopt.reading import read_foreign

SIDE = 30_000  # of the constants: 3.6 GB


def big_value(operator: str) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """Nodes and weights that make a constant named big, (SIDE, SIDE) float32."""
    shape = numpy_helper.from_array(np.array([SIDE, SIDE], np.int64), "shape")
    if operator == "ConstantOfShape":
        return [helper.make_node(operator, ["shape"], ["big"])], [shape]
    if operator == "Expand":
        one = numpy_helper.from_array(np.ones(1, np.float32), "one")
        return [helper.make_node(operator, ["one", "shape"], ["big"])], [shape, one]
    weights = TensorProto(name="big", data_type=TensorProto.FLOAT, dims=[SIDE, SIDE], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="weights.bin")
    return [], [weights]


def write_model(path: Path, operator: str, is_frame_model: bool) -> Path:
    """Writes a model that adds the mean of that constant to its input; with weights in a sparse file if there is no operator."""
    nodes, weights = big_value(operator)
    if not operator:
        with path.with_name("weights.bin").open("wb") as file:
            file.truncate(4 * SIDE * SIDE)
    shape: list[str | int | None] = [1, "H", "W", 3] if is_frame_model else [1, 3, "H", "W"]
    dtype = TensorProto.UINT8 if is_frame_model else TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        *nodes,
        helper.make_node("ReduceMean", ["big"], ["mean"], keepdims=0),
        helper.make_node("Add", ["float", "mean"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["styled"], to=dtype),
    ]
    frame, styled = (helper.make_tensor_value_info(name, dtype, shape) for name in ("frame", "styled"))
    graph = helper.make_graph(nodes, "hostile", [frame], [styled], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.mark.parametrize("operator", ["ConstantOfShape", "Expand", ""], ids=["constant", "expand", "weights"])
def test_a_small_model_with_huge_constants_is_refused(operator: str, tmp_path: Path) -> None:
    expected = r"its constants take 3\.6 GB, more than 0\.3 GB for 0\.0000 GB of weights$"
    if not operator:
        expected = r"its weights take 3\.6 GB, more than 2\.1 GB$"
    path = write_model(tmp_path / "frame.onnx", operator, is_frame_model=True)
    assert path.stat().st_size < 500
    for engine in ("openvino", "onnxruntime", "torch"):
        with pytest.raises(ModelError, match=rf"^{path}: not a model cyclecast can run: {expected}"):
            cyclecast.load(path, engine=engine, device="cpu")
    path = write_model(tmp_path / "foreign.onnx", operator, is_frame_model=False)
    with pytest.raises(ModelError, match=rf"^not a model that cyclecast can adopt: {expected}"):
        read_foreign(path)
