"""A clock inside the picture: the time at which a frame was captured, in squares that survive a generator and an encoder.

At the lower left, 8 squares wide and 5 high, each a 24th of the picture's height: one row alternating white and black, by which
the others are read; three rows with the milliseconds (24 bits, which turn over after 4.6 hours); one with their CRC-8.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cyclecast.video.frame import Image

COLUMNS, ROWS = 8, 5
SHARE = 24  # a square is the picture's height over this
TURN = 1 << 24  # milliseconds
SMALLEST_HEIGHT = 96  # of a picture, pixels: squares of 4


def draw_clock(image: Image, seconds: float) -> None:
    """Draws the time, rounded to a millisecond, into the picture, (H, W, 3) uint8 BGR of 96 lines or more."""
    ticks = round(seconds * 1000) % TURN
    data = ticks.to_bytes(3, "big")
    rows = [0b10101010, *data, _crc8(data)]
    bits = np.unpackbits(np.array(rows, np.uint8)[:, None], axis=1)  # (ROWS, COLUMNS)
    height = image.shape[0]
    side = height / SHARE
    size = (round(COLUMNS * side), round(ROWS * side))
    squares = cv2.resize(bits * np.uint8(215) + np.uint8(20), size, interpolation=cv2.INTER_NEAREST)
    image[height - size[1] :, : size[0]] = squares[:, : image.shape[1], None]


def read_clock(image: Image) -> float | None:
    """Seconds, modulo `TURN` milliseconds, that a picture (of any size) shows; None where no clock can be read."""
    height, width = image.shape[:2]
    side = height / SHARE
    if height < SMALLEST_HEIGHT or width < COLUMNS * side:
        return None
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    values = np.array([[_middle(gray, side, row, column) for column in range(COLUMNS)] for row in range(ROWS)])
    white, black = values[0, ::2].mean(), values[0, 1::2].mean()
    if white - black < 20:
        return None
    rows = np.packbits((values > (white + black) / 2).astype(np.uint8), axis=1)[:, 0]
    data = bytes(rows[1:4])
    if rows[0] != 0b10101010 or _crc8(data) != rows[4]:
        return None
    return int.from_bytes(data, "big") / 1000


def since(shown: float, now: float) -> float:
    """Seconds from a time read off a picture to `now`; less than half a turn apart, before or after."""
    turn = TURN / 1000
    return (now - shown + turn / 2) % turn - turn / 2


def _middle(gray: NDArray[np.generic], side: float, row: int, column: int) -> float:
    """Mean of the inner part of a square."""
    top = gray.shape[0] - round(ROWS * side) + row * side
    rows = slice(round(top + 0.3 * side), max(round(top + 0.7 * side), round(top + 0.3 * side) + 1))
    left = column * side
    columns = slice(round(left + 0.3 * side), max(round(left + 0.7 * side), round(left + 0.3 * side) + 1))
    return float(gray[rows, columns].mean())


def _crc8(data: bytes) -> int:
    """CRC-8 with the polynomial x^8 + x^2 + x + 1."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF
    return crc
