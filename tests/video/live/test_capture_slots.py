"""Shared memory between the capture process and the reader: a slot is never written while it is read."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
import pytest

from cyclecast.errors import InputError
from cyclecast.video.clock import WRAP_MS, read_clock, seconds_since
from cyclecast.video.frame import Image
from cyclecast.video.live.capture import process
from cyclecast.video.live.capture.client import Capture
from cyclecast.video.live.capture.push_feed import PushFeed
from cyclecast.video.live.slots import SLOTS, Slots, SlotWriter, bytes_needed
from cyclecast.video.live.sources.source import CaptureSettings, LiveSource, PendingFrame
from tests.video.live.sessions import LIMIT, wait_for

WIDTH, HEIGHT = 64, 48


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    memory = SharedMemory(create=True, size=bytes_needed(WIDTH, HEIGHT))
    yield memory
    memory.close()
    memory.unlink()


def image_of(value: int) -> Image:
    return np.full((HEIGHT, WIDTH, 3), value, np.uint8)


def test_a_slot_of_the_reader_is_not_written_until_it_is_released(memory: SharedMemory) -> None:
    writer = SlotWriter(SharedMemory(memory.name), WIDTH, HEIGHT)
    reader = Slots(SharedMemory(memory.name), WIDTH, HEIGHT)
    slots = [writer.write(image_of(number), number) for number in range(1, SLOTS + 1)]
    assert sorted(slots) == list(range(SLOTS))  # type: ignore[type-var]
    assert writer.write(image_of(99), 99) is None, "the reader has them all"
    for number, slot in enumerate(slots, 1):
        assert slot is not None and (reader.read(slot) == number).all()
    writer.release(2)
    writer.release(77)  # of earlier memory
    assert writer.write(image_of(5), 5) == slots[1]
    assert writer.write(image_of(6), 6) is None
    writer.close()
    reader.close()


def test_no_frame_mixes_two_and_each_is_taken_or_skipped() -> None:
    """Frames come faster than they are taken; the time that is drawn into a frame is that of its message."""
    taken = 0
    with Capture("pattern://640x480@400") as capture:
        limit = time.monotonic() + 1.5
        while time.monotonic() < limit:
            frame = capture.take(LIMIT)
            assert frame is not None
            taken += 1
            clock = read_clock(frame.image)
            assert clock is not None and abs(seconds_since(clock, frame.at % (WRAP_MS / 1000))) < 0.002
            time.sleep(0.005)
    assert taken > 20 and capture.skipped > 20
    assert capture.captured == taken + capture.skipped


class Messages(io.StringIO):
    """What the capture process sends; acts as the reader, which is busy from the third frame on until the tenth is due."""

    def __init__(self, memory: SharedMemory, from_parent: process.ParentMessages, busy_until: float) -> None:
        super().__init__()
        self.sent: list[dict[str, Any]] = []
        self._memory, self._from_parent, self._busy_until = memory, from_parent, busy_until

    def write(self, line: str) -> int:
        message = json.loads(line)
        self.sent.append(message)
        if "size" in message:
            self._from_parent._messages.put({"memory": self._memory.name})
        if message.get("frame") == 2 and self._from_parent.slots is not None:
            self._from_parent.slots.busy_until = self._busy_until
        return len(line)


def test_frames_that_a_newer_one_will_replace_are_not_even_decoded(memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def decode(number: int) -> Image:
        decoded.append(number)
        return image_of(number)

    start, from_parent = time.perf_counter(), process.ParentMessages()
    pending = (PendingFrame(start + number / 30, partial(decode, number)) for number in range(1, 13))
    monkeypatch.setattr(process, "open_source", lambda address, settings: LiveSource("a test", pending))
    messages = Messages(memory, from_parent, busy_until=start + 10 / 30)
    process.capture("test", CaptureSettings(), messages, from_parent)
    skipped = [message["skipped"] for message in messages.sent if "skipped" in message]
    frames = [message["frame"] for message in messages.sent if "frame" in message]
    assert skipped[:6] == [3, 4, 5, 6, 7, 8], "the ninth comes in time"
    assert decoded == [1, 2, 9, 10, 11, 12]
    assert sorted(skipped + frames) == list(range(1, 13)) and len(frames) == SLOTS, "nobody released a slot"
    assert from_parent.slots is not None
    from_parent.slots.close()


def test_a_reader_that_stops_is_sent_nothing_old() -> None:
    """After a pause longer than all slots last, frames are new again."""
    with Capture("pattern://320x240@100") as capture:
        wait_for(lambda: capture.take(0.1))
        time.sleep(0.3)
        frame = capture.take(LIMIT)
        assert frame is not None and time.perf_counter() - frame.at < 0.2
        assert frame.number > 20


def test_frames_that_a_browser_sends_are_taken_or_skipped() -> None:
    def damaged() -> Image:
        raise InputError("a packet is missing")

    feed = PushFeed()
    for number in range(6):
        feed.put(PendingFrame(float(number), damaged if number == 3 else lambda: image_of(1)))
        if number in (1, 3, 4):
            assert (feed.take(0) is None) == (number == 3)
    feed.close()
    assert feed.captured == 6
    assert feed.skipped == 4, "0, 2 replaced; 3 damaged; 5 left"
