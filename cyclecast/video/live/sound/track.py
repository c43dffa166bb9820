"""A sound track beside a video that is being written: each sample at the time of its capture, without gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.codec.context import Flags

from cyclecast.video.live.sound.chunk import CHANNELS, RATE, Samples, SoundChunk

BIT_RATE = 160_000  # bits per second
PRIMING = 1024  # samples that AAC puts before the first one; starting later keeps all times positive
TOLERANCE = RATE // 100  # samples that a chunk may be early or late: clocks are never quite the same
LATE_S = 0.5  # that sound may be behind the frames, before silence takes its place
LONGEST_SILENCE_S = 2.0  # that is written; after a longer pause, the track goes on at its time


class SoundTimeline:
    """Puts chunks in their places: fills gaps with silence and leaves out what overlaps.

    start: the time that becomes 0, in seconds, as in `SoundChunk.at`.
    """

    def __init__(self, start: float) -> None:
        self._start = start
        self._next = PRIMING  # the sample that follows

    def place(self, chunk: SoundChunk) -> Iterator[tuple[int, Samples]]:
        """Yields (number of the first sample, samples)."""
        position, samples = round((chunk.at - self._start) * RATE), chunk.samples
        if abs(position - self._next) <= TOLERANCE:
            position = self._next
        yield from self._fill(position)
        samples = samples[max(0, self._next - position) :]
        yield from self._take(samples)

    def keep_up(self, at: float) -> Iterator[tuple[int, Samples]]:
        """Yields silence if the sound is too far behind this time: a player waits for it otherwise."""
        position = round((at - LATE_S - self._start) * RATE)
        if position > self._next:
            yield from self._fill(position)

    def _fill(self, position: int) -> Iterator[tuple[int, Samples]]:
        missing = position - self._next
        if missing > LONGEST_SILENCE_S * RATE:
            self._next = position
        elif missing > 0:
            yield from self._take(np.zeros((missing, CHANNELS), np.int16))

    def _take(self, samples: Samples) -> Iterator[tuple[int, Samples]]:
        if len(samples):
            first, self._next = self._next, self._next + len(samples)
            yield first, samples


class SoundTrack:
    """Encodes sound. encode: of PyAV's stream or codec context."""

    def __init__(self, encode: Callable[[av.AudioFrame | None], list[Any]]) -> None:
        self._encode = encode
        self._timeline: SoundTimeline | None = None

    def encode(self, chunks: Sequence[SoundChunk], start: float, at: float) -> list[Any]:
        """Returns the packets of these chunks. start: the time of the first frame. at: the time of the frame that follows."""
        timeline = self._timeline = self._timeline or SoundTimeline(start)
        placed = [piece for chunk in chunks for piece in timeline.place(chunk)]
        placed += timeline.keep_up(at)
        return [packet for first, samples in placed for packet in self._encode(_frame(first, samples))]

    def flush(self) -> list[Any]:
        """Returns the last packets."""
        return self._encode(None) if self._timeline is not None else []


def add_sound(container: Any, codec: str, has_global_header: bool = False) -> SoundTrack:
    """Adds a track to a PyAV container whose header is not written yet. codec: FFmpeg's name of an encoder."""
    stream = container.add_stream(codec, rate=RATE, layout="stereo")
    stream.bit_rate, stream.time_base = BIT_RATE, Fraction(1, RATE)
    if has_global_header:
        stream.codec_context.flags |= Flags.global_header
    return SoundTrack(stream.encode)


def open_sound(codec: str) -> SoundTrack:
    """Returns a track outside of any container."""
    context: Any = av.CodecContext.create(codec, "w")
    context.sample_rate, context.layout, context.format = RATE, "stereo", "s16"
    context.bit_rate, context.time_base = BIT_RATE, Fraction(1, RATE)
    context.open()
    return SoundTrack(context.encode)


def _frame(first: int, samples: Samples) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), "s16", "stereo")
    frame.sample_rate, frame.pts, frame.time_base = RATE, first, Fraction(1, RATE)
    return frame
