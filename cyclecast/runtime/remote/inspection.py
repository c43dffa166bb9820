"""Inspects an ONNX file from elsewhere before any engine sees it: standard operators, no other files, no huge dimensions.

It reads the file's bytes by itself, because the libraries that run models allocate what a file asks for. What it cannot know is
the memory that a frame of the user's size takes; `model_sizes` checks constants that are computed, when the model is opened.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from itertools import chain

from cyclecast.errors import ModelError
from cyclecast.runtime.file_type import describe_content
from cyclecast.runtime.protobuf import VARINT, BadMessage, MessageReader, Value, read_varint, signed
from cyclecast.runtime.remote.operators import DOMAINS, OPERATORS

ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}  # TensorProto.DataType -> bytes

MOST_NODES = 20_000
MOST_SIDE = 16_384  # pixels of a fixed frame
MOST_ELEMENTS = 1 << 28  # of a value whose shape the file states: 1 GiB in float32
MOST_CONSTANT = 1 << 24  # elements of a constant that is computed, not stored
MOST_SETTING = 4096  # of a kernel, stride, padding or repetition
MOST_SCALE = 64  # of a resize
MOST_DIMS = 8  # of a tensor or value: the product of many takes minutes
SMALL_CONSTANT = 16  # elements: shapes, paddings and scales have at most these

# Field numbers of onnx.proto.
MODEL_GRAPH, MODEL_TRAINING, MODEL_FUNCTIONS = 7, 20, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_PORTS, GRAPH_SHAPES, GRAPH_SPARSE = 1, 5, (11, 12), 13, 15
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 4, 5, 7
ATTRIBUTE_NAME, ATTRIBUTE_INT, ATTRIBUTE_TENSOR, ATTRIBUTE_FLOATS, ATTRIBUTE_INTS = 1, 3, 5, 7, 8
ATTRIBUTE_GRAPHS, ATTRIBUTE_TENSORS = (6, 11), (10, 22, 23)
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW, TENSOR_FILE, TENSOR_LOCATION = 1, 2, 8, 9, 13, 14
TENSOR_FLOATS, TENSOR_DOUBLES, TENSOR_NUMBERS = 4, 10, (5, 7, 11)

SHAPES = {"ConstantOfShape": 0, "Expand": 1}  # operator -> the input that states how many elements it computes
SETTINGS = ("kernel_shape", "pads", "strides", "dilations", "output_padding", "blocksize")

Numbers = list[int] | list[float]
HINT = "if you trust it, download the file and pass its path"


class _Refused(ValueError):
    """What a model has that cyclecast does not accept from an address."""


def inspect_model(name: str, content: bytes) -> None:
    """Raises ModelError, in one line, unless the file is an ONNX model that may be opened although a stranger wrote it.

    name: the file's, in messages.
    """
    if found := describe_content(content):
        raise ModelError(f"{name}: {found}; only ONNX models are fetched")
    try:
        _Inspection().model(memoryview(content))
    except BadMessage as error:
        raise ModelError(f"{name}: not an ONNX model, or a damaged one ({error}); only ONNX models are fetched") from error
    except _Refused as error:
        raise ModelError(f"{name}: refused: {error}") from error


class _Inspection:
    """Inspects the parts of one model. Repeated fields, which parsers merge, are each inspected."""

    def __init__(self) -> None:
        self._reader = MessageReader()
        self._constants: dict[bytes, Numbers] = {}  # small ones, which may be shapes

    def model(self, message: memoryview) -> None:
        graphs = []
        for number, value in self._fields(message):
            if number in (MODEL_TRAINING, MODEL_FUNCTIONS):
                raise _Refused(f"it defines functions or training steps of its own; {HINT}")
            if number == MODEL_GRAPH:
                graphs.append(_message(value))
        if not graphs:
            raise BadMessage("no graph")
        nodes = []
        for graph in graphs:
            for number, value in self._fields(graph):
                if number == GRAPH_INITIALIZER:
                    self._keep(*self._tensor(_message(value)))
                elif number == GRAPH_SPARSE:
                    raise _Refused(f"it has sparse weights; {HINT}")
                elif number in GRAPH_PORTS:
                    self._declared(_message(value), MOST_SIDE)
                elif number == GRAPH_SHAPES:
                    self._declared(_message(value), MOST_CONSTANT)
                elif number == GRAPH_NODE:
                    nodes.append(_message(value))
        if len(nodes) > MOST_NODES:
            raise _Refused(f"it has {len(nodes):,} operators; expected at most {MOST_NODES:,}")
        for operator, inputs in [self._node(node) for node in nodes]:  # all constants first: those of `Constant` count, too
            self._sizes(operator, inputs)

    def _fields(self, message: memoryview) -> Iterator[tuple[int, Value]]:
        return ((number, value) for number, _, value in self._reader.fields(message))

    def _node(self, message: memoryview) -> tuple[str, list[bytes]]:
        inputs, outputs, operators, attributes = [], [], [], []
        for number, value in self._fields(message):
            if number == NODE_INPUT:
                inputs.append(bytes(_message(value)))
            elif number == NODE_OUTPUT:
                outputs.append(bytes(_message(value)))
            elif number == NODE_OPERATOR:
                operators.append(bytes(_message(value)).decode("utf-8", "replace"))
            elif number == NODE_DOMAIN and bytes(_message(value)) not in DOMAINS:
                domain = bytes(_message(value)).decode("utf-8", "replace")[:60]
                raise _Refused(f"it uses operators of {domain!r}, which are not standard; {HINT}")
            elif number == NODE_ATTRIBUTE:
                attributes.append(_message(value))
        if len(operators) != 1 or operators[0] not in OPERATORS:
            wrong = ", ".join(operators)[:60] or "none"
            raise _Refused(f"its operator {wrong!r} is not among those that models for frames need; {HINT}")
        for attribute in attributes:
            self._attribute(attribute, outputs[0] if operators == ["Constant"] and outputs else None)
        return operators[0], inputs

    def _attribute(self, message: memoryview, constant: bytes | None) -> None:
        """constant: the name of the value, if this is an attribute of a `Constant`."""
        name, tensors, ints, floats = "", list[memoryview](), list[int](), list[float]()
        for number, wire_type, value in self._reader.fields(message):
            if number in ATTRIBUTE_GRAPHS or number in ATTRIBUTE_TENSORS:
                raise _Refused(f"it has a graph or a list of tensors in an operator; {HINT}")
            if number == ATTRIBUTE_NAME:
                name = bytes(_message(value)).decode("utf-8", "replace")
            elif number == ATTRIBUTE_TENSOR:
                tensors.append(_message(value))
            elif number in (ATTRIBUTE_INT, ATTRIBUTE_INTS):
                ints += [signed(value)] if isinstance(value, int) else _varints(value)
            elif number == ATTRIBUTE_FLOATS and wire_type != VARINT:
                floats += _floats(_message(value))
        if len(tensors) > 1:
            raise BadMessage("two tensors in one attribute")
        numbers: Numbers = ints or floats
        for tensor in tensors:
            _, numbers = self._tensor(tensor)
        if constant is not None:
            self._keep(constant, numbers[:SMALL_CONSTANT])
        if name in SETTINGS and any(abs(number) > MOST_SETTING for number in ints):
            raise _Refused(f"its {name} of {max(map(abs, ints)):,} is too large; expected at most {MOST_SETTING:,}")
        if name == "scales" and any(not 0 < scale <= MOST_SCALE for scale in floats):
            raise _Refused(f"it enlarges by more than {MOST_SCALE}")

    def _keep(self, name: bytes, numbers: Numbers) -> None:
        if self._constants.setdefault(name, numbers) is not numbers:
            raise _Refused("it has two constants of one name")

    def _tensor(self, message: memoryview) -> tuple[bytes, Numbers]:
        """Returns the name and, if they are few, the values. Refuses a tensor whose stated size is not that of its values."""
        dims, types, raw, counts, values = list[int](), list[int](), list[memoryview](), 0, list[float]()
        name = b""
        for number, _, value in self._reader.fields(message):
            if number == TENSOR_FILE or (number == TENSOR_LOCATION and value != 0):
                raise _Refused("its weights are in another file (external data); expected one file with all weights")
            if number == TENSOR_DIMS:
                dims += [signed(value)] if isinstance(value, int) else _varints(value)
            elif number == TENSOR_TYPE and isinstance(value, int):
                types.append(value)
            elif number == TENSOR_NAME:
                name = bytes(_message(value))
            elif number == TENSOR_RAW:
                raw.append(_message(value))
            elif number in TENSOR_NUMBERS:
                counts += 1 if isinstance(value, int) else _count_varints(value)
                if counts <= SMALL_CONSTANT:
                    values += [signed(value)] if isinstance(value, int) else _varints(value)
            elif number in (TENSOR_FLOATS, TENSOR_DOUBLES):
                item = 4 if number == TENSOR_FLOATS else 8
                counts += len(_message(value)) // item
                if number == TENSOR_FLOATS and counts <= SMALL_CONSTANT:
                    values += _floats(_message(value))
        if len(types) != 1 or types[0] not in ITEM_BYTES or len(raw) > 1:
            raise _Refused(f"it has weights of another type than numbers of 8 to 64 bits; {HINT}")
        if any(dim < 0 for dim in dims) or len(dims) > MOST_DIMS:
            raise _Refused("it has a tensor of an impossible shape")
        elements, item = math.prod(dims), ITEM_BYTES[types[0]]
        stored = len(raw[0]) // item if raw and not counts else counts
        if elements != stored or (raw and len(raw[0]) != elements * item):
            raise _Refused(f"a tensor states {f'{elements:,}'[:60]} values and holds {stored:,}")
        if raw and types[0] in (1, 6, 7) and elements <= SMALL_CONSTANT:
            values = [number for (number,) in struct.iter_unpack({1: "<f", 6: "<i", 7: "<q"}[types[0]], raw[0])]
        return name, values if elements <= SMALL_CONSTANT else []

    def _declared(self, port: memoryview, most_side: int) -> None:
        """Refuses an input, output or value whose stated shape is too large."""
        for port_type in self._messages([port], 2):
            dims = []
            for dim in self._messages(self._messages(self._messages([port_type], 1), 2), 1):  # tensor_type, shape, dim
                dims += [signed(value) for number, value in self._fields(dim) if number == 1 and isinstance(value, int)]
            if (
                len(dims) > MOST_DIMS
                or any(not 0 <= dim <= most_side for dim in dims)
                or math.prod(dim for dim in dims if dim) > 3 * MOST_ELEMENTS
            ):
                raise _Refused(f"it states a shape of {'x'.join(map(str, dims))[:60]}, more than a frame can have")

    def _messages(self, messages: Iterable[memoryview], wanted: int) -> list[memoryview]:
        fields = chain.from_iterable(map(self._fields, messages))
        return [_message(value) for number, value in fields if number == wanted]

    def _sizes(self, operator: str, inputs: list[bytes]) -> None:
        """Refuses an operator whose constant shape, scale, padding or number of repetitions is too large."""
        constants = [self._constants.get(name) for name in inputs]
        found: Numbers = next((constants[index] or [] for index in [SHAPES.get(operator, 99)] if index < len(constants)), [])
        if math.prod(abs(number) for number in found if number) > MOST_CONSTANT:
            raise _Refused(f"{operator} asks for {f'{math.prod(found):,}'[:60]} values; expected at most {MOST_CONSTANT:,}")
        if operator == "Range" and any(abs(number) > MOST_CONSTANT for numbers in constants for number in numbers or []):
            raise _Refused(f"Range counts further than {MOST_CONSTANT:,}")
        if operator in ("Pad", "Tile") and any(
            abs(number) > MOST_SETTING for numbers in constants[1:2] for number in numbers or []
        ):
            raise _Refused(f"{operator} adds more than {MOST_SETTING:,}")
        scales = {"Resize": 2, "Upsample": 1}.get(operator, 99)
        if len(constants) > scales and any(not 0 < scale <= MOST_SCALE for scale in constants[scales] or []):
            raise _Refused(f"{operator} enlarges by more than {MOST_SCALE}")
        if operator == "Resize" and any(not 0 < side <= MOST_SIDE for numbers in constants[3:] for side in numbers or []):
            raise _Refused(f"Resize enlarges to more than {MOST_SIDE:,} pixels")


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise BadMessage("a number in place of a message")
    return value


def _varints(packed: memoryview) -> list[int]:
    if len(packed) > 10 * SMALL_CONSTANT:
        raise BadMessage("a long list of numbers")
    numbers, position = [], 0
    while position < len(packed):
        number, position = read_varint(packed, position)
        numbers.append(signed(number))
    return numbers


def _count_varints(packed: memoryview) -> int:
    return len(bytes(packed).translate(None, bytes(range(128, 256))))


def _floats(packed: memoryview) -> list[float]:
    if len(packed) % 4:
        raise BadMessage("cut off")
    return [number for (number,) in struct.iter_unpack("<f", packed[: 4 * SMALL_CONSTANT])]
