"""Decodes a sound track of a file, a stream or a device into stretches of 48 kHz stereo."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler

from cyclecast.video.live.sound.chunk import CHANNELS, RATE, Samples


class SoundDecoder:
    """Decodes the packets of one PyAV audio stream. Skips damaged ones."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._resampler = AudioResampler("s16", "stereo", RATE)

    def decode(self, packet: Any) -> list[tuple[float, Samples]]:
        """Returns (seconds by the stream's clock, samples) for each stretch in the packet."""
        try:
            frames = self._stream.decode(packet)
        except (av.FFmpegError, MemoryError):
            return []
        return [stretch for frame in frames if frame.time is not None for stretch in self._resample(frame)]

    def _resample(self, frame: Any) -> list[tuple[float, Samples]]:
        try:
            resampled = self._resampler.resample(frame)
        except (av.FFmpegError, ValueError):  # its format changes
            self._resampler = AudioResampler("s16", "stereo", RATE)
            return []
        found = []
        for part in resampled:
            if part.samples and part.time is not None:
                found.append((float(part.time), np.asarray(part.to_ndarray(), np.int16).reshape(-1, CHANNELS)))
        return found
