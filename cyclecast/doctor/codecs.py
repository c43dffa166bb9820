"""Facts about PyAV, the FFmpeg inside it, and the encoders of it that work on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cyclecast.isolated import call
from cyclecast.video.files.codecs import SOFTWARE_TIMEOUT_S, encoder_failures, is_listed
from cyclecast.video.files.encoders import hardware_of, known_encoders

PARALLEL_TESTS = 3  # types of hardware that are tested at a time


@dataclass(frozen=True)
class EncoderFacts:
    """An encoder that FFmpeg lists."""

    name: str
    codec: str
    """One of `encoders.ENCODERS`."""
    hardware: str | None
    """One of `encoders.HARDWARE`; None: software."""
    works: bool
    """The encoder turned test frames into packets."""
    failure: str | None


@dataclass(frozen=True)
class Codecs:
    """PyAV and the FFmpeg inside it."""

    version: str | None
    """The version of PyAV."""
    ffmpeg: str | None
    libraries: dict[str, str]
    """libavcodec -> version, and so on."""
    failure: str | None
    """Why PyAV cannot be loaded; None if it can."""
    encoders: list[EncoderFacts]
    decoders: list[str]
    """Types of hardware that FFmpeg has decoders for. Whether the machine has this hardware is not tested."""


def find_codecs() -> Codecs:
    """Loads PyAV and lets each encoder that it lists encode a few frames, all in other processes."""
    found = call(codec_facts, seconds=SOFTWARE_TIMEOUT_S)
    if found.failure:
        return Codecs(None, None, {}, found.failure, [], [])
    facts = found.value
    groups: dict[str | None, list[str]] = {}  # hardware -> its encoders
    for name in facts["encoders"]:
        groups.setdefault(hardware_of(name), []).append(name)
    with ThreadPoolExecutor(PARALLEL_TESTS) as pool:
        tested = {encoder.name: encoder for group in pool.map(try_encoders, groups.values()) for encoder in group}
    encoders = [tested[name] for name in facts["encoders"]]
    return Codecs(facts["version"], facts["ffmpeg"], facts["libraries"], None, encoders, facts["decoders"])


def try_encoders(names: Sequence[str]) -> list[EncoderFacts]:
    """Tests encoders of one type of hardware (or of software) with five frames each, in another process."""
    codecs = {name: codec for codec, name in known_encoders()}
    return [
        EncoderFacts(name, codecs[name], hardware_of(name), failure is None, failure)
        for name, failure in zip(names, encoder_failures(names), strict=True)
    ]


def codec_facts() -> dict[str, Any]:
    """Returns what the loaded PyAV reports about itself, as in `Codecs`; encoders: the names of those that it lists."""
    import av
    from av.codec.hwaccel import hwdevices_available

    return {
        "version": av.__version__,
        "ffmpeg": getattr(av, "ffmpeg_version_info", None),
        "libraries": {name: ".".join(map(str, version)) for name, version in av.library_versions.items()},
        "encoders": [name for _, name in known_encoders() if is_listed(name)],
        "decoders": hwdevices_available(),
    }
