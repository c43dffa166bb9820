"""Shared memory for the last few frames of one size. Each slot belongs to one process at a time.

A slot changes hands only through a message in a pipe: the writer (the capture process; for the window, the main process) writes
pixels into a slot that it owns and sends the frame's message; from then on the reader owns the slot, until it sends the frame's
number back. So no slot is written while it
is read. The pipe also orders memory: the kernel's locks around each end make all pixels that were written before the message
visible to whoever received it, on every architecture, ARM with its weak memory order included. A flag beside the pixels would
need explicit barriers there, which Python does not have.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from queue import Empty, SimpleQueue

import numpy as np

from cyclecast.video.frame import Image

SLOTS = 4  # of a capture process: one being written, one that is the newest, one being copied, and one on its way back
HEADER = 64  # bytes: `time.perf_counter()` until which the reader is busy (float64); a hint, which needs no order


def bytes_needed(width: int, height: int, slots: int = SLOTS) -> int:
    """Computes the size of the shared memory for frames of this size."""
    return HEADER + slots * width * height * 3


def create_memory(size: int) -> SharedMemory:
    """Creates shared memory of so many bytes. Raises OSError if there is no room for it."""
    memory = SharedMemory(create=True, size=size)
    try:
        if hasattr(os, "posix_fallocate"):  # or a process that finds no room later would die of SIGBUS
            os.posix_fallocate(memory._fd, 0, memory.size)  # type: ignore[attr-defined]
    except OSError:
        memory.close()
        memory.unlink()
        raise
    return memory


def attach(name: str) -> SharedMemory:
    """Opens shared memory that the other process created and will remove."""
    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    register = resource_tracker.register
    resource_tracker.register = lambda name, rtype: None  # or Python's tracker would remove it when this process ends
    try:
        return SharedMemory(name)
    finally:
        resource_tracker.register = register


class Slots:
    """One side's view of the shared memory."""

    def __init__(self, memory: SharedMemory, width: int, height: int, slots: int = SLOTS) -> None:
        self._memory = memory
        self._busy = np.ndarray((1,), np.float64, memory.buf)
        self._frames = np.ndarray((slots, height, width, 3), np.uint8, memory.buf, HEADER)

    @property
    def busy_until(self) -> float:
        """`time.perf_counter()` until which the reader takes no frame."""
        return float(self._busy[0])

    @busy_until.setter
    def busy_until(self, seconds: float) -> None:
        self._busy[0] = seconds

    def read(self, slot: int) -> Image:
        """Copies the frame in a slot that this side owns."""
        image: Image = self._frames[slot].copy()
        return image

    def close(self) -> None:
        """Closes this side's view of the memory, which stays."""
        del self._busy, self._frames
        self._memory.close()


class SlotWriter(Slots):
    """The writer's side: knows which slots it owns. `release` may be called from another thread."""

    def __init__(self, memory: SharedMemory, width: int, height: int, slots: int = SLOTS) -> None:
        super().__init__(memory, width, height, slots)
        self._free = list(range(slots))
        self._lent: dict[int, int] = {}  # number of the frame -> its slot, which the reader owns
        self._released: SimpleQueue[int] = SimpleQueue()

    def write(self, image: Image, number: int) -> int | None:
        """Copies a frame into a free slot and returns the slot; None if the reader owns them all."""
        self._take_back()
        if not self._free:
            return None
        slot = self._lent[number] = self._free.pop()
        self._frames[slot] = image
        return slot

    def release(self, number: int) -> None:
        """Frees the slot of a frame that the reader has copied. Numbers of frames in earlier memory are ignored."""
        self._released.put(number)

    def _take_back(self) -> None:
        while True:
            try:
                slot = self._lent.pop(self._released.get_nowait(), None)
            except Empty:
                return
            if slot is not None:
                self._free.append(slot)
