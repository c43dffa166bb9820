"""Reads and replaces the metadata of an ONNX file in memory, without the library `onnx`. Weights stay byte for byte."""

from __future__ import annotations

from collections.abc import Mapping

from cyclecast.card import StyleCard
from cyclecast.errors import ModelError
from cyclecast.runtime.protobuf import BadMessage, MessageReader, encode_field

MODEL_GRAPH, MODEL_PROPERTIES = 7, 14  # field numbers of onnx.proto
GRAPH_PORTS = (11, 12)  # inputs and outputs
PORT_TYPE = 2
TYPE_DENOTATION = 6
PROPERTY_KEY, PROPERTY_VALUE = 1, 2
IMAGE = b"IMAGE"


def read_properties(name: object, content: bytes) -> dict[str, str]:
    """Returns the metadata of an ONNX file: key -> value. Invalid UTF-8 is replaced. name: the file's, for the error.

    Raises ModelError if the bytes are not an ONNX file.
    """
    reader = MessageReader()
    try:
        entries = [value for number, _, value in reader.fields(memoryview(content)) if number == MODEL_PROPERTIES]
        return dict(_read_property(reader, entry) for entry in entries if isinstance(entry, memoryview))
    except BadMessage as error:
        raise ModelError(f"{name}: not an ONNX model ({error})") from error


def _read_property(reader: MessageReader, entry: memoryview) -> tuple[str, str]:
    fields = reader.fields(entry)
    texts = {number: bytes(value).decode("utf-8", "replace") for number, _, value in fields if isinstance(value, memoryview)}
    return texts.get(PROPERTY_KEY, ""), texts.get(PROPERTY_VALUE, "")


def replace_properties(name: object, content: bytes, changes: Mapping[str, str]) -> bytes:
    """Returns an ONNX file with these values in its metadata; an empty value removes the key. Other keys stay.

    Equal files and changes give equal bytes. Raises ModelError if the bytes are not an ONNX file.
    """
    kept = {key: value for key, value in read_properties(name, content).items() if key not in changes}
    message = memoryview(content)
    parts = [
        bytes(message[start:end]) for number, _, _, start, end in MessageReader().spans(message) if number != MODEL_PROPERTIES
    ]
    for key, value in [*kept.items(), *sorted(changes.items())]:
        if value:
            texts = encode_field(PROPERTY_KEY, key.encode()) + encode_field(PROPERTY_VALUE, value.encode())
            parts.append(encode_field(MODEL_PROPERTIES, texts))
    return b"".join(parts)


def read_card(name: object, content: bytes) -> StyleCard:
    """Reads what an ONNX file says about itself; its texts are safe to print. Raises ModelError if it is not an ONNX file."""
    return StyleCard.from_properties(read_properties(name, content))


def add_card(name: object, content: bytes, card: StyleCard) -> bytes:
    """Returns a frame model with this card in place of its own. Raises ModelError if the bytes are not an ONNX file."""
    return denote_images(name, replace_properties(name, content, card.to_properties()))


def denote_images(name: object, content: bytes) -> bytes:
    """Returns a frame model whose input and output are denoted as images, as the keys `Image.…` of its metadata require.

    Source: onnx, TypeDenotation.md. Raises ModelError if the bytes are not an ONNX file.
    """
    try:
        return _denote(memoryview(content), (MODEL_GRAPH, GRAPH_PORTS, PORT_TYPE))
    except BadMessage as error:
        raise ModelError(f"{name}: not an ONNX model ({error})") from error


def _denote(message: memoryview, path: tuple[int | tuple[int, ...], ...]) -> bytes:
    """Copies a message, and denotes the types that this path of field numbers leads to."""
    if not path:
        spans = MessageReader().spans(message)
        kept = b"".join(bytes(message[start:end]) for number, _, _, start, end in spans if number != TYPE_DENOTATION)
        return kept + encode_field(TYPE_DENOTATION, IMAGE)
    wanted = path[0] if isinstance(path[0], tuple) else (path[0],)
    parts = []
    for number, _, value, start, end in MessageReader().spans(message):
        if number in wanted and isinstance(value, memoryview):
            parts.append(encode_field(number, _denote(value, path[1:])))
        else:
            parts.append(bytes(message[start:end]))
    return b"".join(parts)
