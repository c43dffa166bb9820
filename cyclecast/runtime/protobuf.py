"""Reads and writes the fields of protobuf messages, the encoding of ONNX files. Standard library only.

Files from an address are inspected with it before a library that was written for trusted files sees them, and metadata are
replaced without a copy of the weights in objects. Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 (groups) are not used by ONNX
MOST_FIELDS = 500_000  # in one file, at all depths: a model of a gigabyte has a few thousand

Value = int | memoryview  # fixed-size values are memoryviews of 4 or 8 bytes


class BadMessage(ValueError):
    """Bytes that are not a protobuf message, or more of them than a model has."""


class MessageReader:
    """Reads the fields of a message and of those inside it, with a limit for all of them together."""

    def __init__(self, most_fields: int = MOST_FIELDS) -> None:
        self._left = most_fields

    def fields(self, message: memoryview) -> Iterator[tuple[int, int, Value]]:
        """Yields (number, wire type, value) of each field. Raises BadMessage if the bytes are not a message."""
        for number, wire_type, value, _, _ in self.spans(message):
            yield number, wire_type, value

    def spans(self, message: memoryview) -> Iterator[tuple[int, int, Value, int, int]]:
        """Yields (number, wire type, value, start, end) of each field, with the positions of all its bytes."""
        position, size = 0, len(message)
        while position < size:
            self._left -= 1
            if self._left < 0:
                raise BadMessage("too many fields")
            start = position
            key, position = read_varint(message, position)
            number, wire_type = key >> 3, key & 7
            value: Value
            if wire_type == VARINT:
                value, position = read_varint(message, position)
            elif wire_type in (FIXED64, FIXED32, BYTES):
                length = {FIXED64: 8, FIXED32: 4}.get(wire_type)
                if length is None:
                    length, position = read_varint(message, position)
                value = message[position : position + length]
                position += length
            else:
                raise BadMessage(f"wire type {wire_type}")
            if number == 0 or position > size:
                raise BadMessage("cut off")
            yield number, wire_type, value, start, position


def read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """Returns an unsigned number of up to 64 bits, and the position behind it."""
    value = 0
    for index in range(10):
        if position + index >= len(message):
            raise BadMessage("cut off")
        byte = message[position + index]
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value & (1 << 64) - 1, position + index + 1
    raise BadMessage("a number of more than 64 bits")


def signed(value: int) -> int:
    """Returns the int64 that a varint holds."""
    return value - (1 << 64) if value >= 1 << 63 else value


def encode_varint(value: int) -> bytes:
    """Returns an unsigned number as a varint."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def encode_field(number: int, value: bytes) -> bytes:
    """Returns a field that holds text, bytes or a message."""
    return encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value
