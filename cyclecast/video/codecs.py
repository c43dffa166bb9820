"""What we encode with, and which encoders really encode here: FFmpeg lists hardware that this machine does not have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cyclecast.apart import call

SECONDS = 120.0  # for loading PyAV, and for the encoders in software, on a machine that has other things to do
HARDWARE_SECONDS = 20.0  # for those of one kind of hardware: a driver may hang
AT_ONCE = 3  # kinds tried
SOFTWARE = {
    "h264": ("libx264", "libopenh264"),
    "hevc": ("libx265",),
    "av1": ("libsvtav1", "libaom-av1", "librav1e"),
    "vp9": ("libvpx-vp9",),
}
HARDWARE = ("nvenc", "qsv", "vaapi", "amf", "videotoolbox", "mf", "v4l2m2m", "vulkan", "rkmpp")  # h264_nvenc, …


@dataclass(frozen=True)
class Encoder:
    """An FFmpeg encoder and its defaults: crf is its quality scale, lower is better."""

    name: str
    crf: int
    preset: str | None


ENCODERS = {  # codec -> what `convert` encodes it with
    "h264": Encoder("libx264", 18, "veryfast"),
    "hevc": Encoder("libx265", 22, "veryfast"),
    "av1": Encoder("libsvtav1", 30, "10"),
    "vp9": Encoder("libvpx-vp9", 31, None),
}


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
        kinds.setdefault(_hardware(name), []).append(name)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tried = {encoder.name: encoder for group in pool.map(try_encoders, kinds.values()) for encoder in group}
    encoders = [tried[name] for name in facts["encoders"]]
    return Codecs(facts["version"], facts["ffmpeg"], facts["libraries"], None, encoders, facts["decoders"])


def try_encoders(names: Sequence[str]) -> list[EncoderFacts]:
    """Five frames through each encoder of one kind of hardware, or of none, in a process apart; by itself if that dies."""
    hardware = _hardware(names[0])
    tried = call(encode_each, names, seconds=HARDWARE_SECONDS if hardware else SECONDS)
    if tried.failure is not None and len(names) > 1:
        return [encoder for name in names for encoder in try_encoders([name])]
    failures = tried.value or [tried.failure]
    codecs = {name: codec for codec, name in known_encoders()}
    return [EncoderFacts(name, codecs[name], hardware, why is None, why) for name, why in zip(names, failures, strict=True)]


def _hardware(name: str) -> str | None:
    kind = name.rpartition("_")[2]
    return kind if kind in HARDWARE else None


def known_encoders() -> Iterable[tuple[str, str]]:
    """(codec, name) of all that are looked for."""
    for codec, names in SOFTWARE.items():
        yield from ((codec, name) for name in (*names, *(f"{codec}_{kind}" for kind in HARDWARE)))


def codec_facts() -> dict[str, Any]:
    """What the loaded PyAV says of itself, as in `Codecs`; encoders: the names of those that it lists."""
    import av
    from av.codec.hwaccel import hwdevices_available

    def listed(name: str) -> bool:
        try:
            return av.Codec(name, "w").is_encoder
        except ValueError:  # UnknownCodecError
            return False

    return {
        "version": av.__version__,
        "ffmpeg": getattr(av, "ffmpeg_version_info", None),
        "libraries": {name: ".".join(map(str, version)) for name, version in av.library_versions.items()},
        "encoders": [name for _, name in known_encoders() if listed(name)],
        "decoders": hwdevices_available(),
    }


def encode_each(names: Sequence[str]) -> list[str | None]:
    """Of each encoder why it makes nothing of five frames, in FFmpeg's own words; None if it does."""
    import av
    import av.logging

    av.logging.set_level(av.logging.ERROR)
    failures: list[str | None] = []
    for name in names:
        with av.logging.Capture(local=False) as logged:
            try:
                _encode(av.Codec(name, "w"))
                failures.append(None)
            except (av.FFmpegError, OSError, ValueError) as error:
                first = next((message.strip() for _, _, message in logged if message.strip()), None)  # others follow from it
                failures.append(first or getattr(error, "strerror", None) or str(error))
    return failures


def _encode(codec: Any) -> None:
    """Five frames of 320x240. OSError if there are no packets of them."""
    import av

    formats = [form.name for form in codec.video_formats or ()]
    known = [form for form in ("yuv420p", "nv12") if form in formats or not formats]
    if not known:
        raise OSError(f"it takes frames of {', '.join(formats)} only, which PyAV cannot hand over")
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = 320, 240, known[0]
    context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
    context.open()
    size = 0
    for pts in range(5):
        frame = av.VideoFrame(320, 240, known[0])
        for plane in frame.planes:
            plane.update(bytes([40 * pts]) * plane.buffer_size)
        frame.pts = pts
        size += sum(packet.size for packet in context.encode(frame))
    size += sum(packet.size for packet in context.encode(None))
    if not size:
        raise OSError("it made no packets")
