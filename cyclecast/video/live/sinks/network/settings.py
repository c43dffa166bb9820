"""How network outputs are encoded: bit rate and keyframe interval."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from cyclecast.errors import ConfigError

FACTORS = {"": 1, "k": 1_000, "m": 1_000_000}
BIT_RATES = (50_000, 200_000_000)  # bits per second, lowest and highest
KEYFRAME_INTERVALS = (0.1, 60.0)  # seconds, shortest and longest


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """The settings of all network outputs of a run. Raises ConfigError for invalid values."""

    bit_rate: int = 4_000_000
    """Bits per second of the video, at most; what YouTube asks for at 1280x720 and 30 fps."""
    keyframe_interval: float = 2.0
    """Seconds; YouTube, Twitch and OBS use 2, and an HLS segment is as long."""

    def __post_init__(self) -> None:
        if not BIT_RATES[0] <= self.bit_rate <= BIT_RATES[1]:
            raise ConfigError(f"bitrate: expected from 50k to 200M (bits per second), got {self.bit_rate}")
        shortest, longest = KEYFRAME_INTERVALS
        if not shortest <= self.keyframe_interval <= longest:
            raise ConfigError(f"keyframe-interval: expected from {shortest:g} to {longest:g} s, got {self.keyframe_interval:g}")


def parse_bit_rate(text: str) -> int:
    """Returns bits per second from FFmpeg's notation: 4M, 2500k, 4000000. Raises ConfigError for anything else."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([kKmM]?)", text.strip())
    if not match:
        raise ConfigError("bitrate: a bit rate is written like 4M, 2500k or 4000000 (bits per second)")
    return round(Fraction(match[1]) * FACTORS[match[2].lower()])


def parse_keyframe_interval(text: str) -> float:
    """Returns seconds. Raises ConfigError if the text is no number."""
    if not re.fullmatch(r"\d{1,3}(\.\d{1,3})?", text.strip()):
        raise ConfigError("keyframe-interval: expected a number of seconds, such as 2")
    return float(text)
