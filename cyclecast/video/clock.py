"""Draws the capture time of a frame into its image, as squares that remain readable after a generator and an encoder.

The clock is at the lower left, 8 squares wide and 6 high. A square's side is 1/24 of the image's height. The first row
alternates white and black and sets the threshold for the others; three rows hold the time in milliseconds (24 bits, which
wrap around after 4.6 hours); the last two hold their CRC-16, so that squares which a style painted over give a wrong time
once in 65,536 times.
"""

from __future__ import annotations

import binascii

import cv2
import numpy as np
from numpy.typing import NDArray

from cyclecast.video.frame import Image

COLUMNS, ROWS = 8, 6
SQUARES_PER_HEIGHT = 24  # the side of a square is the image's height divided by this
WRAP_MS = 1 << 24  # the clock restarts at 0 after this many milliseconds
MIN_HEIGHT_PX = 96  # of the image; its squares are 4 pixels wide


def draw_clock(image: Image, seconds: float) -> None:
    """Draws the time, rounded to a millisecond, into an (H, W, 3) uint8 BGR image at least 96 pixels high."""
    ticks = round(seconds * 1000) % WRAP_MS
    data = ticks.to_bytes(3, "big")
    rows = [0b10101010, *data, *_checksum(data)]
    bits = np.unpackbits(np.array(rows, np.uint8)[:, None], axis=1)  # (ROWS, COLUMNS)
    height = image.shape[0]
    side = height / SQUARES_PER_HEIGHT
    size = (round(COLUMNS * side), round(ROWS * side))
    squares = cv2.resize(bits * np.uint8(215) + np.uint8(20), size, interpolation=cv2.INTER_NEAREST)
    image[height - size[1] :, : size[0]] = squares[:, : image.shape[1], None]


def read_clock(image: Image) -> float | None:
    """Reads the time in seconds, modulo `WRAP_MS`, from an image of any size. None if it shows no readable clock."""
    height, width = image.shape[:2]
    side = height / SQUARES_PER_HEIGHT
    if height < MIN_HEIGHT_PX or width < COLUMNS * side:
        return None
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    values = np.array([[_mean_of_square(gray, side, row, column) for column in range(COLUMNS)] for row in range(ROWS)])
    white, black = values[0, ::2].mean(), values[0, 1::2].mean()
    if white - black < 20:
        return None
    rows = np.packbits((values > (white + black) / 2).astype(np.uint8), axis=1)[:, 0]
    data = bytes(rows[1:4])
    if rows[0] != 0b10101010 or _checksum(data) != bytes(rows[4:]):
        return None
    return int.from_bytes(data, "big") / 1000


def seconds_since(shown: float, now: float) -> float:
    """Returns the seconds from a result of `read_clock` to `now`, within plus or minus half of `WRAP_MS`."""
    wrap = WRAP_MS / 1000
    return (now - shown + wrap / 2) % wrap - wrap / 2


def _mean_of_square(gray: NDArray[np.generic], side: float, row: int, column: int) -> float:
    """Returns the mean gray level of the inner part of a square, because its edges may be blurred."""
    top = gray.shape[0] - round(ROWS * side) + row * side
    rows = slice(round(top + 0.3 * side), max(round(top + 0.7 * side), round(top + 0.3 * side) + 1))
    left = column * side
    columns = slice(round(left + 0.3 * side), max(round(left + 0.7 * side), round(left + 0.3 * side) + 1))
    return float(gray[rows, columns].mean())


def _checksum(data: bytes) -> bytes:
    """Returns the 2 bytes of the CRC-16 with the polynomial x^16 + x^12 + x^5 + 1."""
    return binascii.crc_hqx(data, 0xFFFF).to_bytes(2, "big")
