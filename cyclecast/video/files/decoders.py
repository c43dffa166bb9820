"""Hardware that decodes: which to take, and whether it really does. PyAV fetches its frames back into memory."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from cyclecast.errors import ConfigError, EngineUnavailable
from cyclecast.isolated import call
from cyclecast.video.files.codecs import HARDWARE_SECONDS, may_be_here, overheard

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel

# FFmpeg's types of devices, in the order in which `auto` tries them
DEVICES = ("cuda", "videotoolbox", "d3d12va", "d3d11va", "dxva2", "vaapi", "vdpau", "qsv", "vulkan", "drm")
TRIED = {"h264": "libx264", "hevc": "libx265"}  # decoder -> what makes the frames that it is tried with


@dataclass(frozen=True)
class ChosenDecoder:
    """Where videos are decoded."""

    hardware: str | None
    """One of `DEVICES`; None: software."""
    asked_for: bool = False
    """By name: a video that it cannot decode is an error. Otherwise software takes over."""
    passed: tuple[str, ...] = ()
    """Hardware that was tried before it, each with the reason why it is not used."""

    def hwaccel(self) -> HWAccel | None:
        """For `av.open(path, hwaccel=…)`, which opens a device for each stream of its own; None for software.

        Asked for by name, a file without a stream that this device's decoders are for is a RuntimeError of `av.open`'s, and
        frames that it cannot decode an FFmpegError. Frames come as nv12, p010le, …, not as yuv420p.
        """
        if self.hardware is None:
            return None
        from av.codec.hwaccel import HWAccel

        return HWAccel(self.hardware, allow_software_fallback=not self.asked_for)

    def described(self) -> str:
        """For people: `cuda, or software for what it cannot decode`."""
        why = f" ({'; '.join(self.passed)})" if self.passed else ""
        if self.hardware is None:
            return f"software{why}"
        return self.hardware + ("" if self.asked_for else f", or software for what it cannot decode{why}")


def choose_decoder(wanted: str = "auto") -> ChosenDecoder:
    """What decodes. wanted: auto, a device that decodes frames here, otherwise software; software; or one of `DEVICES`.

    Devices are tried in a process apart, in auto only where the system shows signs of them. ConfigError for a name that does
    not exist, EngineUnavailable for a device that is not here or does not decode.
    """
    if wanted not in ("auto", "software", *DEVICES):
        raise ConfigError(f"no decoders named {wanted!r}; there are: auto, software, {', '.join(DEVICES)}")
    if wanted == "software":
        return ChosenDecoder(None)
    usable = _usable()
    if wanted != "auto":
        if wanted not in usable:
            raise EngineUnavailable(f"this FFmpeg does not decode on {wanted}; it has {', '.join(usable) or 'software only'}")
        failure = why_not(wanted)
        if failure is not None:
            what = f"{wanted} does not decode here ({failure.rstrip('.')})"
            raise EngineUnavailable(f"{what}; 'software' always does, and 'auto' takes what works")
        return ChosenDecoder(wanted, asked_for=True)
    passed: list[str] = []
    for kind in usable:
        if may_be_here(kind):
            failure = why_not(kind)
            if failure is None:
                return ChosenDecoder(kind, passed=tuple(passed))
            passed.append(f"{kind}: {failure.rstrip('.')}")
    return ChosenDecoder(None, passed=tuple(passed))


def _usable() -> list[str]:
    """Those that the decoders of this FFmpeg were built for."""
    import av

    configs = [config for name in TRIED for config in av.Codec(name, "r").hardware_configs if config.is_supported]
    names = {config.device_type.name for config in configs}
    return [name for name in DEVICES if name in names]


@lru_cache
def why_not(device: str) -> str | None:
    """Why this device does not decode a few frames, tried in a process apart; None if it does."""
    answer = call(decode_on, device, seconds=HARDWARE_SECONDS)
    return answer.failure or cast("str | None", answer.value)


def decode_on(device: str) -> str | None:
    """Why this device decodes neither H.264 nor HEVC, in FFmpeg's own words; None if it does. May hang or crash."""
    import av
    from av.codec.hwaccel import HWAccel

    first = None
    for codec, encoder in TRIED.items():
        video = made(encoder)
        with overheard() as logged:
            try:
                frames = decoded(video, HWAccel(device, allow_software_fallback=False))
                if frames == decoded(video, None):
                    return None
                failure = f"it decodes {codec} wrongly"
            except (av.FFmpegError, OSError, RuntimeError, ValueError) as error:
                failure = next((message.strip() for _, _, message in logged if message.strip()), None) or str(error)
        first = first or failure
    return first


def made(encoder: str) -> bytes:
    """An MP4 of five gray frames of 320x240, each brighter than the one before it."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        silence = {"x265-params": "log-level=error"} if encoder == "libx265" else {}
        stream: Any = container.add_stream(encoder, rate=30, options={"preset": "ultrafast"} | silence)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for pts in range(5):
            frame = av.VideoFrame(320, 240, "yuv420p")
            for plane, value in zip(frame.planes, (40 + 30 * pts, 128, 128), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def decoded(video: bytes, hwaccel: HWAccel | None) -> list[bytes]:
    """The brightness of each frame, 320x240 bytes. OSError if a device was given and is not used."""
    import av

    container: Any
    with av.open(io.BytesIO(video), hwaccel=hwaccel) as container:
        if hwaccel is not None and not container.streams.video[0].codec_context.is_hwaccel:
            raise OSError("its decoder does not use this device")
        return [frame.to_ndarray()[:240].tobytes() for frame in container.decode(video=0)]
