"""Adds models to a model repository of Triton Inference Server: `NAME/config.pbtxt`, and the model in `NAME/1/`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from cyclecast.errors import ModelError
from cyclecast.files import atomic_write, check_output, write_error
from cyclecast.runtime.engine import spec_from_metadata
from cyclecast.runtime.onnx_file import describe
from cyclecast.runtime.plan import engine_of_plan, read_facts
from cyclecast.spec import METADATA_KEY

TYPES: dict[int, str] = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}


@dataclass(frozen=True)
class TensorSpec:
    """An input or output tensor, in Triton's terms."""

    name: str
    type: str
    """TYPE_UINT8, TYPE_FP32."""
    dims: tuple[int, ...]
    """-1 for any size."""


def write_repository(model: Path, name: str, folder: Path, overwrite: bool = False) -> Path:
    """Adds the model to the repository in `folder`, ready for `tritonserver --model-repository`; returns its config.pbtxt.

    model: an ONNX frame model or latent model, which Triton's ONNX Runtime runs, or a TensorRT plan, for servers with the
    TensorRT version and the GPU model that built it. The server runs frames one by one: the first dimension, 1, is the batch.
    The config is written last, so a server that watches the folder never sees half a model. Raises ModelError if Triton cannot
    run it, OutputError if the repository has a model of that name (unless `overwrite`) or cannot be written.
    """
    if engine_of_plan(model) is None:
        platform, file, (inputs, outputs) = "onnxruntime_onnx", "model.onnx", _ports_of_onnx(model)
    else:
        platform, file, (inputs, outputs) = "tensorrt_plan", "model.plan", _ports_of_plan(model)
    config = config_path(folder, name)
    check_output(config, overwrite)
    config.unlink(missing_ok=True)
    with atomic_write(folder / name / "1" / file, overwrite) as partial:
        try:
            shutil.copyfile(model, partial)
        except OSError as error:
            raise write_error(error) from error
    for other in {"model.onnx", "model.plan"} - {file}:
        (folder / name / "1" / other).unlink(missing_ok=True)
    with atomic_write(config, overwrite) as partial:
        partial.write_text(_config(name, platform, inputs, outputs), "utf-8")
    return config


def config_path(folder: Path, name: str) -> Path:
    """Returns the path of a model's config in the repository in `folder`."""
    return folder / name / "config.pbtxt"


def _ports_of_onnx(path: Path) -> tuple[list[TensorSpec], list[TensorSpec]]:
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise ModelError(f"{path}: cannot be read as an ONNX model") from error
    metadata = next((entry.value for entry in model.metadata_props if entry.key == METADATA_KEY), None)
    if spec_from_metadata(path, metadata).model_type != "latent":
        describe(path)  # raises if it is not a frame model
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    return [_port(value) for value in graph.input if value.name not in weights], [_port(value) for value in graph.output]


def _port(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dims = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in tensor.shape.dim)
    return TensorSpec(value.name, TYPES[tensor.elem_type], dims)


def _ports_of_plan(path: Path) -> tuple[list[TensorSpec], list[TensorSpec]]:
    facts = read_facts(path)
    if facts is None:
        raise ModelError(f"{path}: not a plan of cyclecast; build it with `cyclecast build`")
    if facts.engine != "tensorrt":
        raise ModelError(f"{path}: a plan of {facts.engine}, which Triton does not run; it runs ONNX files and TensorRT plans")
    smallest, (width, height), largest = facts.sizes
    dims = (1, height, width, 3) if smallest == largest else (1, -1, -1, 3)
    return [TensorSpec(facts.input_name, "TYPE_UINT8", dims)], [TensorSpec(facts.output_name, "TYPE_UINT8", dims)]


def _config(name: str, platform: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str:
    lines = [f"name: {_quote(name)}", f'platform: "{platform}"', "max_batch_size: 0"]
    for role, ports in (("input", inputs), ("output", outputs)):
        for port in ports:
            dims = ", ".join(map(str, port.dims))
            lines.append(f"{role} [ {{ name: {_quote(port.name)} data_type: {port.type} dims: [ {dims} ] }} ]")
    lines.append("instance_group [ { count: 1 kind: KIND_AUTO } ]  # on every GPU; on the CPU where there is none")
    return "\n".join(lines) + "\n"


def _quote(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)  # protobuf's text format reads the same escapes
