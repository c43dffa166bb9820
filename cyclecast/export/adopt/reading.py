"""Reads foreign ONNX files, and reduces them to one input image and one output image."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model

from cyclecast.errors import ConfigError, MissingModelError, ModelError
from cyclecast.export.adopt.foreign import EXPECTED, Array, ForeignModel, TensorSpec
from cyclecast.export.adopt.standard import standardize
from cyclecast.runtime.engine import LATENT_MODEL, spec_from_metadata
from cyclecast.runtime.file_type import describe_wrong_type, how_to_convert
from cyclecast.runtime.onnx_file import find_excess
from cyclecast.spec import METADATA_KEY

log = logging.getLogger(__name__)

DTYPES: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.UINT8: "uint8"}


def read_foreign(path: Path, output_name: str | None = None, set_inputs: Mapping[str, str] | None = None) -> ForeignModel:
    """Reads the model at `path`, reduced to one input image and one output image.

    output_name: the output that is the image, if there are several. set_inputs: values of all inputs but the image. Raises
    ModelError, without the path, if the file cannot be read, if cyclecast wrote it, or if it has other inputs or outputs than
    these; raises ConfigError if these name an input or output that it does not have.
    """
    model = _load(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {port.name: port for port in model.graph.input if port.name not in weights}
    outputs = {port.name: port for port in model.graph.output}
    if not outputs:
        raise ModelError(f"cannot be read as an ONNX model{_file_type(path)}")
    constants = {}
    for name, text in (set_inputs or {}).items():
        if name not in inputs:
            raise ConfigError(f"it has no input named {name}; its inputs: {_list_ports(inputs.values())}")
        constants[name] = _parse_value(inputs.pop(name), text)
    if output_name is not None and output_name not in outputs:
        raise ConfigError(f"it has no output named {output_name}; its outputs: {_list_ports(outputs.values())}")
    problems = []
    if len(inputs) != 1:
        hint = ": set all but the image with --set-input NAME=VALUE" if inputs else "; expected an image"
        problems.append(f"it has {len(inputs)} inputs{' left' * bool(constants)}, {_list_ports(inputs.values()) or 'none'}{hint}")
    if len(outputs) != 1 and output_name is None:
        problems.append(f"it has {len(outputs)} outputs, {_list_ports(outputs.values())}: name the image with --output-name NAME")
    if problems:
        raise ModelError("; ".join(problems))
    (image,), result = inputs.values(), outputs[output_name or next(iter(outputs))]
    source, target = _port(image, "input"), _port(result, "output")
    graph = model.graph
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(value, name))
    del graph.input[:], graph.output[:]
    graph.input.append(image)
    graph.output.append(result)
    return ForeignModel(path, standardize(model), source, target, constants)


def _load(path: Path) -> onnx.ModelProto:
    if path.is_dir():
        raise ModelError(how_to_convert(path) or "a folder; expected an ONNX file")
    if not path.is_file():
        raise MissingModelError("no such model")
    if wrong := describe_wrong_type(path, "onnx"):
        raise ModelError(wrong)
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except Exception as error:  # protobuf's errors are not typed
        log.debug("onnx cannot read %s", path, exc_info=True)
        raise ModelError(f"cannot be read as an ONNX model{_file_type(path)}") from error
    _reject_our_models(model)
    if excess := find_excess(path):  # before its weights are read
        raise ModelError(f"not a model that cyclecast can adopt: {excess}")
    try:
        load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # onnx raises many types
        log.debug("onnx cannot read the weights of %s", path, exc_info=True)
        raise ModelError(f"its weights are in a separate file, which must be in the same folder ({error})") from error
    return model


def _file_type(path: Path) -> str:
    found = how_to_convert(path)
    return f": {found}" if found else ""


def _reject_our_models(model: onnx.ModelProto) -> None:
    text = {entry.key: entry.value for entry in model.metadata_props}.get(METADATA_KEY)
    if text is None:
        return
    if spec_from_metadata("this file", text).model_type == "latent":
        raise ModelError(LATENT_MODEL)
    raise ModelError("already a frame model: use it as it is")


def _list_ports(ports: object) -> str:
    """Returns "name dtype (shape)" of each, with commas between them."""
    return ", ".join(f"{port.name} {_dtype_name(port)} {_spec(port)}" for port in ports)  # type: ignore[attr-defined]


def _dtype_name(port: onnx.ValueInfoProto) -> str:
    dtype = port.type.tensor_type.elem_type
    return str(helper.tensor_dtype_to_np_dtype(dtype)) if dtype else "no tensor"


def _spec(port: onnx.ValueInfoProto) -> TensorSpec:
    tensor = port.type.tensor_type
    dims = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim)
    return TensorSpec(port.name, np.dtype(DTYPES.get(tensor.elem_type, "float32")), dims)


def _parse_value(port: onnx.ValueInfoProto, text: str) -> Array:
    """Parses an input's value: one number for all elements, or a number for each. Free dimensions become 1."""
    words = [{"true": "1", "false": "0"}.get(word.strip().lower(), word.strip()) for word in text.split(",")]
    shape = [d or 1 for d in _spec(port).dims]
    expected = f"expected a number, or {int(np.prod(shape))} with commas between them"
    try:
        values = np.array([float(word) for word in words])
        return np.broadcast_to(values.reshape(shape if values.size > 1 else ()), shape).astype(
            helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
        )
    except (ValueError, KeyError) as error:
        raise ConfigError(f"--set-input {port.name}={text}: its input is {_list_ports([port])}; {expected}") from error


def _port(value: onnx.ValueInfoProto, role: str) -> TensorSpec:
    if value.type.tensor_type.elem_type not in DTYPES:
        raise ModelError(f"its {role} is {_dtype_name(value)}; expected float32, float16 or uint8")
    port = _spec(value)
    if port.dims and (len(port.dims) != 4 or port.dims[0] not in (1, None)):
        raise ModelError(f"its {role} is {port}; {EXPECTED}")
    return port
