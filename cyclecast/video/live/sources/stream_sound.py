"""The sound of a stream over a network: decoded beside the frames, with times on their clock."""

from __future__ import annotations

from collections import deque
from typing import Any

import av

from cyclecast.video.live.sound.chunk import Samples, SoundChunk
from cyclecast.video.live.sound.clock import FrameClock
from cyclecast.video.live.sound.decoder import SoundDecoder

MAX_STRETCHES = 1000  # that wait for a frame; older ones are dropped


class StreamSound:
    """Takes the packets of an audio stream, and returns their sound when the clock of the frames is known."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._decoder, self._clock = SoundDecoder(stream), FrameClock()
        self._waiting: deque[tuple[float, Samples]] = deque(maxlen=MAX_STRETCHES)

    def decode(self, packet: Any) -> None:
        """Decodes a packet; its sound waits for the next frame."""
        if packet.size:
            self._waiting.extend(self._decoder.decode(packet))

    def beside(self, frame: av.VideoFrame, at: float) -> tuple[SoundChunk, ...]:
        """Returns the sound that arrived before a frame, which was captured at this time."""
        if frame.time is not None:
            self._clock.observe(float(frame.time), at)
        found = []
        while self._waiting:
            captured = self._clock.time_of(self._waiting[0][0])
            if captured is None:
                break
            found.append(SoundChunk(captured, self._waiting.popleft()[1]))
        return tuple(found)
