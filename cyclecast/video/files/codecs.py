"""Which encoders really encode here, and which of them to take: FFmpeg lists hardware that this machine does not have."""

from __future__ import annotations

import glob
import platform
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from cyclecast.errors import ConfigError, CyclecastError, EngineUnavailable
from cyclecast.isolated import call
from cyclecast.video.files.encoders import ENCODERS, HARDWARE, ChosenEncoder, hardware_of, known_encoders, ordinary_priority

SECONDS = 120.0  # for loading PyAV, and for the encoders in software, on a machine that has other things to do
HARDWARE_SECONDS = 20.0  # for those of one kind of hardware: a driver may hang
AT_ONCE = 3  # kinds tried
SMALL = (320, 240)  # pixels
SIGNS = {  # hardware -> what Linux has where it may be; for decoding too
    "nvenc": ("dev/nvidia[0-9]*", "dev/dxg"),
    "cuda": ("dev/nvidia[0-9]*", "dev/dxg"),
    "qsv": ("dev/dri/renderD*",),
    "vaapi": ("dev/dri/renderD*",),
    "vdpau": ("dev/dri/renderD*",),
    "amf": ("dev/dri/renderD*",),
    "vulkan": ("dev/dri/renderD*", "dev/nvidia[0-9]*"),
    "v4l2m2m": ("sys/class/video4linux/*/name",),
    "drm": ("dev/media*",),
    "rkmpp": ("dev/mpp_service",),
}
ELSEWHERE = {
    "Darwin": ("videotoolbox", "vulkan"),
    "Windows": ("nvenc", "cuda", "qsv", "amf", "mf", "d3d11va", "d3d12va", "dxva2", "vulkan"),
}  # system -> what cannot be told without trying


@dataclass(frozen=True)
class EncoderFacts:
    """An encoder that FFmpeg lists."""

    name: str
    codec: str
    """h264, hevc, av1 or vp9."""
    hardware: str | None
    """One of `HARDWARE`; None: software."""
    works: bool
    """It has made packets of frames."""
    failure: str | None


@dataclass(frozen=True)
class Codecs:
    """PyAV with the FFmpeg inside it."""

    version: str | None
    """Of PyAV."""
    ffmpeg: str | None
    libraries: dict[str, str]
    """libavcodec -> version, and so on."""
    failure: str | None
    """Why PyAV cannot be loaded; None if it can."""
    encoders: list[EncoderFacts]
    decoders: list[str]
    """Kinds of hardware that decoders were built for; whether it is here was not tried."""


def find_codecs() -> Codecs:
    """Loads PyAV and lets each encoder that it lists encode a few frames; all of it in other processes."""
    found = call(codec_facts, seconds=SECONDS)
    if found.failure:
        return Codecs(None, None, {}, found.failure, [], [])
    facts = found.value
    kinds: dict[str | None, list[str]] = {}
    for name in facts["encoders"]:
        kinds.setdefault(hardware_of(name), []).append(name)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tried = {encoder.name: encoder for group in pool.map(try_encoders, kinds.values()) for encoder in group}
    encoders = [tried[name] for name in facts["encoders"]]
    return Codecs(facts["version"], facts["ffmpeg"], facts["libraries"], None, encoders, facts["decoders"])


def try_encoders(names: Sequence[str], pix_fmt: str | None = None, size: tuple[int, int] = SMALL) -> list[EncoderFacts]:
    """Five frames through each encoder of one kind of hardware, or of none, in a process apart; by itself if that dies.

    pix_fmt, size: of the frames, None for what `ChosenEncoder` gives by default.
    """
    hardware = hardware_of(names[0])
    tried = call(encode_each, names, pix_fmt, size, seconds=HARDWARE_SECONDS if hardware else SECONDS)
    if tried.failure is not None and len(names) > 1:
        return [encoder for name in names for encoder in try_encoders([name], pix_fmt, size)]
    failures = tried.value or [tried.failure]
    codecs = {name: codec for codec, name in known_encoders()}
    return [EncoderFacts(name, codecs[name], hardware, why is None, why) for name, why in zip(names, failures, strict=True)]


def choose_encoder(
    codec: str, wanted: str = "auto", *, pix_fmt: str | None = None, size: tuple[int, int] = SMALL
) -> ChosenEncoder:
    """The encoder of h264, hevc, av1 or vp9.

    wanted: auto, hardware that encodes frames of this pix_fmt and size (width, height) here, otherwise software; software; or one
    of `HARDWARE`, which has to be here. Hardware is tried in a process apart, in auto only where the system shows signs of it.
    ConfigError for names that do not exist and for a pix_fmt that the encoder does not take; EngineUnavailable for an encoder
    that is not in this FFmpeg or does not work.
    """
    if codec not in ENCODERS:
        raise ConfigError(f"no codec named {codec!r}; there are: {', '.join(ENCODERS)}")
    if wanted not in ("auto", "software", *HARDWARE):
        raise ConfigError(f"no encoders named {wanted!r}; there are: auto, software, {', '.join(HARDWARE)}")
    if wanted not in ("auto", "software"):
        return _asked_for(ChosenEncoder(codec, f"{codec}_{wanted}", wanted), pix_fmt, size)
    passed: list[str] = []
    for kind in HARDWARE if wanted == "auto" else ():
        chosen = ChosenEncoder(codec, f"{codec}_{kind}", kind, tuple(passed))
        if may_be_here(kind) and is_listed(chosen.name):
            failure = _failure(chosen, pix_fmt, size)
            if failure is None:
                return chosen
            passed.append(f"{kind}: {failure.rstrip('.')}")
    software = ChosenEncoder(codec, ENCODERS[codec].name)
    if not is_listed(software.name):
        raise EngineUnavailable(
            f"this FFmpeg has no {software.name}: pip install --force-reinstall --only-binary av 'av>=18,<19'"
        )
    software.pix_fmt(pix_fmt)
    return replace(software, passed=tuple(passed))


def _asked_for(chosen: ChosenEncoder, pix_fmt: str | None, size: tuple[int, int]) -> ChosenEncoder:
    if not is_listed(chosen.name):
        there = [f"{chosen.codec}_{kind}" for kind in HARDWARE if is_listed(f"{chosen.codec}_{kind}")]
        raise EngineUnavailable(
            f"this FFmpeg has no encoder {chosen.name}; of this codec it has {', '.join(there) or 'software only'}"
        )
    chosen.pix_fmt(pix_fmt)
    failure = _failure(chosen, pix_fmt, size)
    if failure is not None:
        what = f"{chosen.name} does not encode {size[0]}x{size[1]} here ({failure.rstrip('.')})"
        raise EngineUnavailable(f"{what}; `cyclecast doctor` lists the encoders that work, 'auto' takes one of them")
    return chosen


def _failure(chosen: ChosenEncoder, pix_fmt: str | None, size: tuple[int, int]) -> str | None:
    """Why it does not encode such frames; None if it does."""
    try:
        chosen.pix_fmt(pix_fmt)
    except ConfigError as error:
        return str(error)
    return _tried(chosen.name, pix_fmt, size).failure


@lru_cache
def _tried(name: str, pix_fmt: str | None, size: tuple[int, int]) -> EncoderFacts:
    return try_encoders([name], pix_fmt, size)[0]


def may_be_here(kind: str, root: Path = Path("/")) -> bool:
    """The system shows signs of this hardware; looking for them costs next to nothing.

    root: where Linux's /dev and /sys are looked for.
    """
    if platform.system() in ELSEWHERE:
        return kind in ELSEWHERE[platform.system()]
    found = [path for pattern in SIGNS.get(kind, ()) for path in glob.glob(str(root / pattern))]
    if kind == "v4l2m2m":  # cameras are such devices too; drivers name encoders so: bcm2835-codec-encode, qcom-venus-encoder
        return any("enc" in Path(path).read_text(errors="replace") for path in found)
    return bool(found)


def is_listed(name: str) -> bool:
    """This FFmpeg has such an encoder."""
    import av

    try:
        return av.Codec(name, "w").is_encoder
    except ValueError:  # UnknownCodecError
        return False


def codec_facts() -> dict[str, Any]:
    """What the loaded PyAV says of itself, as in `Codecs`; encoders: the names of those that it lists."""
    import av
    from av.codec.hwaccel import hwdevices_available

    return {
        "version": av.__version__,
        "ffmpeg": getattr(av, "ffmpeg_version_info", None),
        "libraries": {name: ".".join(map(str, version)) for name, version in av.library_versions.items()},
        "encoders": [name for _, name in known_encoders() if is_listed(name)],
        "decoders": hwdevices_available(),
    }


def encode_each(names: Sequence[str], pix_fmt: str | None = None, size: Sequence[int] = SMALL) -> list[str | None]:
    """Of each encoder why it makes nothing of five frames, in FFmpeg's own words; None if it does."""
    import av

    codecs = {name: codec for codec, name in known_encoders()}
    failures: list[str | None] = []
    for name in names:
        with overheard() as logged:
            try:
                _encode(ChosenEncoder(codecs[name], name, hardware_of(name)), pix_fmt, *size)
                failures.append(None)
            except (av.FFmpegError, CyclecastError, NotImplementedError, OSError, ValueError) as error:
                first = next((message.strip() for _, _, message in logged if message.strip()), None)  # others follow from it
                failures.append(first or getattr(error, "strerror", None) or str(error))
    return failures


@contextmanager
def overheard() -> Iterator[list[tuple[int, str, str]]]:
    """FFmpeg's errors, as (level, who, message), while this lasts.

    Not longer: while Python listens, a codec's thread with something to say waits for Python's lock, and whoever closes the
    codec has that lock and waits for the thread.
    """
    import av.logging

    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=False) as logged:
            yield logged
    finally:
        av.logging.set_level(None)


def _encode(encoder: ChosenEncoder, pix_fmt: str | None, width: int, height: int) -> None:
    """Five frames, with the options that `convert` gives. OSError if there are no packets of them."""
    import av

    context = av.CodecContext.create(encoder.name, "w", encoder.hwaccel())
    assert isinstance(context, av.VideoCodecContext)
    form = encoder.pix_fmt(pix_fmt)
    context.width, context.height, context.pix_fmt = width, height, form
    context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
    if encoder.hardware or encoder.name == ENCODERS[encoder.codec].name:
        context.options = encoder.options(width=width, height=height, rate=30)
    with ordinary_priority():
        context.open()
    size = 0
    for pts in range(5):
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([40 * pts]) * plane.buffer_size)
        frame = frame.reformat(format=form)
        frame.pts = pts
        size += sum(packet.size for packet in context.encode(frame))
    size += sum(packet.size for packet in context.encode(None))
    if not size:
        raise OSError("it made no packets")
