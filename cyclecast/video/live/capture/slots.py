"""Shared memory for the last few pictures of one size; one side writes, the other copies, neither waits for the other."""

from __future__ import annotations

from itertools import count
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from cyclecast.video.frame import Image

SLOTS = 4  # the reader has as many intervals between frames, less one, to copy a picture
HEADER = 64  # bytes: seconds until which the reader is busy (float64), then the number of the frame in each slot (int64)


def bytes_needed(width: int, height: int) -> int:
    """For the slots of pictures of this size."""
    return HEADER + SLOTS * width * height * 3


class Slots:
    """The memory, seen as numbers and pictures."""

    def __init__(self, memory: SharedMemory, width: int, height: int) -> None:
        self._memory = memory
        self._busy = np.ndarray((1,), np.float64, memory.buf)
        self._numbers = np.ndarray((SLOTS,), np.int64, memory.buf, 8)
        self._pictures = np.ndarray((SLOTS, height, width, 3), np.uint8, memory.buf, HEADER)
        self._turn = count()

    @property
    def busy_until(self) -> float:
        """`time.perf_counter()` until which nobody will look at a picture."""
        return float(self._busy[0])

    @busy_until.setter
    def busy_until(self, seconds: float) -> None:
        self._busy[0] = seconds

    def write(self, image: Image, number: int) -> int:
        """Puts the picture where the oldest one was; the slot."""
        slot = next(self._turn) % SLOTS
        self._numbers[slot] = 0
        self._pictures[slot] = image
        self._numbers[slot] = number
        return slot

    def read(self, slot: int, number: int) -> Image | None:
        """A copy of picture `number`, or None if a newer one is there or on its way."""
        if self._numbers[slot] != number:
            return None
        image: Image = self._pictures[slot].copy()
        return image if self._numbers[slot] == number else None

    def close(self) -> None:
        """Lets go of the memory, which stays."""
        del self._busy, self._numbers, self._pictures
        self._memory.close()
