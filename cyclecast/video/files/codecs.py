"""Chooses a video encoder that works on this machine: FFmpeg also lists encoders of hardware that is not there."""

from __future__ import annotations

import glob
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from cyclecast.errors import ConfigError, CyclecastError, EngineUnavailable
from cyclecast.isolated import call
from cyclecast.video.files.encoders import (
    ENCODERS,
    FIXED_OPTIONS,
    HARDWARE,
    ChosenEncoder,
    hardware_of,
    known_encoders,
    ordinary_priority,
)

SOFTWARE_TIMEOUT_S = 120.0  # to load PyAV and to run the software encoders, on a busy machine
HARDWARE_TIMEOUT_S = 20.0  # to run the encoders or decoders of one type of hardware: a driver may hang
TEST_SIZE = (320, 240)  # pixels, width and height of the test frames
LINUX_DEVICES = {  # hardware -> files that Linux has where the hardware may be present; for decoding too
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
OTHER_SYSTEMS = {  # system -> hardware that only a test run can find there
    "Darwin": ("videotoolbox", "vulkan"),
    "Windows": ("nvenc", "cuda", "qsv", "amf", "mf", "d3d11va", "d3d12va", "dxva2", "vulkan"),
}


def choose_encoder(
    codec: str, hardware: str = "auto", *, pix_fmt: str | None = None, size: tuple[int, int] = TEST_SIZE
) -> ChosenEncoder:
    """Returns the encoder for a codec of `ENCODERS`.

    hardware: "auto" takes the first hardware that encodes frames of this pix_fmt and size (width, height) on this machine,
    and software where there is none; "software"; or one of `HARDWARE`, which must work. Hardware is tested in another
    process; "auto" tests only hardware that the system appears to have.
    Raises ConfigError for unknown names and for a pix_fmt that the encoder does not accept; EngineUnavailable for an encoder that
    this FFmpeg lacks or that does not work.
    """
    if codec not in ENCODERS:
        raise ConfigError(f"no codec named {codec!r}; there are: {', '.join(ENCODERS)}")
    if hardware not in ("auto", "software", *HARDWARE):
        raise ConfigError(f"no encoders named {hardware!r}; there are: auto, software, {', '.join(HARDWARE)}")
    if codec in FIXED_OPTIONS and hardware not in ("auto", "software"):
        raise ConfigError(f"{codec} is encoded in software; leave out --encoder")
    if hardware not in ("auto", "software"):
        return _choose_hardware(ChosenEncoder(codec, f"{codec}_{hardware}", hardware), pix_fmt, size)
    rejected: list[str] = []
    for name in HARDWARE if hardware == "auto" and codec not in FIXED_OPTIONS else ():
        chosen = ChosenEncoder(codec, f"{codec}_{name}", name, tuple(rejected))
        if may_be_present(name) and is_listed(chosen.name):
            failure = _failure(chosen, pix_fmt, size)
            if failure is None:
                return chosen
            rejected.append(f"{name}: {failure.rstrip('.')}")
    software = ChosenEncoder(codec, ENCODERS[codec].name)
    if not is_listed(software.name):
        line = f"pip install --force-reinstall --only-binary av '{av_requirement()}'"
        raise EngineUnavailable(f"this FFmpeg has no {software.name}: {line}")
    software.pix_fmt(pix_fmt)
    return replace(software, rejected=tuple(rejected))


def _choose_hardware(chosen: ChosenEncoder, pix_fmt: str | None, size: tuple[int, int]) -> ChosenEncoder:
    """Returns `chosen`, which the user named; EngineUnavailable if it does not work."""
    if not is_listed(chosen.name):
        listed = [f"{chosen.codec}_{name}" for name in HARDWARE if is_listed(f"{chosen.codec}_{name}")]
        raise EngineUnavailable(
            f"this FFmpeg has no encoder {chosen.name}; for this codec it has {', '.join(listed) or 'software only'}"
        )
    chosen.pix_fmt(pix_fmt)
    failure = _failure(chosen, pix_fmt, size)
    if failure is not None:
        problem = f"{chosen.name} does not encode {size[0]}x{size[1]} here ({failure.rstrip('.')})"
        raise EngineUnavailable(f"{problem}; `cyclecast doctor` lists the encoders that work, 'auto' uses one of them")
    return chosen


def _failure(chosen: ChosenEncoder, pix_fmt: str | None, size: tuple[int, int]) -> str | None:
    """Returns why the encoder does not encode such frames; None if it does."""
    try:
        chosen.pix_fmt(pix_fmt)
    except ConfigError as error:
        return str(error)
    return _test_once(chosen.name, pix_fmt, size)


@lru_cache
def _test_once(name: str, pix_fmt: str | None, size: tuple[int, int]) -> str | None:
    """Returns `encoder_failures` of one encoder, once for each process."""
    return encoder_failures([name], pix_fmt, size)[0]


def av_requirement() -> str:
    """Returns the versions of PyAV that the installed package needs, as pip takes them: "av<19,>=17.1"."""
    try:
        requirements = metadata.requires("cyclecast") or []
    except metadata.PackageNotFoundError:  # run from a source folder
        return "av"
    return next((line.split(";")[0].strip() for line in requirements if line.startswith(("av<", "av>", "av=", "av~"))), "av")


def may_be_present(hardware: str, root: Path = Path("/")) -> bool:
    """Returns whether the system shows signs of this hardware; a quick look at the file system.

    root: the folder that holds Linux's /dev and /sys.
    """
    if platform.system() in OTHER_SYSTEMS:
        return hardware in OTHER_SYSTEMS[platform.system()]
    found = [path for pattern in LINUX_DEVICES.get(hardware, ()) for path in glob.glob(str(root / pattern))]
    if hardware == "v4l2m2m":  # cameras are V4L2 devices too; encoders are named bcm2835-codec-encode, qcom-venus-encoder, ...
        return any("enc" in Path(path).read_text(errors="replace") for path in found)
    return bool(found)


def is_listed(name: str) -> bool:
    """Returns whether this FFmpeg was built with the encoder."""
    import av

    try:
        return av.Codec(name, "w").is_encoder
    except ValueError:  # UnknownCodecError
        return False


def encoder_failures(names: Sequence[str], pix_fmt: str | None = None, size: tuple[int, int] = TEST_SIZE) -> list[str | None]:
    """Returns why each encoder of one type of hardware (or software) fails to encode five frames; None for one that works.

    The encoders run in another process, and each in a process of its own if that one dies.
    pix_fmt, size: of the frames; pix_fmt None is the default of `ChosenEncoder.pix_fmt`.
    """
    time_limit = HARDWARE_TIMEOUT_S if hardware_of(names[0]) else SOFTWARE_TIMEOUT_S
    answer = call(encode_each, names, pix_fmt, size, seconds=time_limit)
    if answer.failure is not None and len(names) > 1:
        return [failure for name in names for failure in encoder_failures([name], pix_fmt, size)]
    return answer.value or [answer.failure]


def encode_each(names: Sequence[str], pix_fmt: str | None = None, size: Sequence[int] = TEST_SIZE) -> list[str | None]:
    """Does what `encoder_failures` does, in this process; a failure is in FFmpeg's own words. May hang or crash."""
    import av

    codecs = {name: codec for codec, name in known_encoders()}
    failures: list[str | None] = []
    for name in names:
        with capture_ffmpeg_errors() as messages:
            try:
                _encode(ChosenEncoder(codecs[name], name, hardware_of(name)), pix_fmt, *size)
                failures.append(None)
            except (av.FFmpegError, CyclecastError, NotImplementedError, OSError, ValueError) as error:
                first = next((text.strip() for _, _, text in messages if text.strip()), None)  # the others follow from it
                failures.append(first or getattr(error, "strerror", None) or str(error))
    return failures


@contextmanager
def capture_ffmpeg_errors() -> Iterator[list[tuple[int, str, str]]]:
    """Collects FFmpeg's error messages, as (level, sender, text), inside the `with` block.

    Keep the block short: while Python listens, a codec's thread that logs waits for Python's lock, and a thread that closes
    the codec holds this lock and waits for the codec's thread.
    """
    import av.logging

    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=False) as messages:
            yield messages
    finally:
        av.logging.set_level(None)


def _encode(encoder: ChosenEncoder, pix_fmt: str | None, width: int, height: int) -> None:
    """Encodes five frames with the options that `convert` uses. Raises OSError if the encoder outputs no packets."""
    import av

    context = av.CodecContext.create(encoder.name, "w", encoder.hwaccel())
    assert isinstance(context, av.VideoCodecContext)
    format_name = encoder.pix_fmt(pix_fmt)
    context.width, context.height, context.pix_fmt = width, height, format_name
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
        frame = frame.reformat(format=format_name)
        frame.pts = pts
        size += sum(packet.size for packet in context.encode(frame))
    size += sum(packet.size for packet in context.encode(None))
    if not size:
        raise OSError("the encoder output no packets")
