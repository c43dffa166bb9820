"""A stretch of sound with the time of its capture, and how processes pass it on."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 48_000  # samples per second, of all sound inside a live run
CHANNELS = 2

Samples = NDArray[np.int16]  # (N, 2): left and right


@dataclass(frozen=True)
class SoundChunk:
    """Some milliseconds of sound."""

    at: float
    """`time.perf_counter()` when its first sample was captured: the clock of the frames."""
    samples: Samples

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / RATE

    def message(self) -> dict[str, Any]:
        """Returns it as values of JSON."""
        return {"sound": base64.b64encode(self.samples.astype("<i2").tobytes()).decode(), "sound_at": self.at}


def chunk_from_message(message: dict[str, Any]) -> SoundChunk:
    """Returns the chunk of a `SoundChunk.message`."""
    samples = np.frombuffer(base64.b64decode(message["sound"]), "<i2").reshape(-1, CHANNELS)
    return SoundChunk(float(message["sound_at"]), samples.astype(np.int16))
