"""Chooses the hardware that decodes videos, after a test. PyAV copies its frames back into memory."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from cyclecast.errors import ConfigError, EngineUnavailable
from cyclecast.isolated import call
from cyclecast.video.files.codecs import HARDWARE_TIMEOUT_S, capture_ffmpeg_errors, may_be_present

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel

# FFmpeg's device types, in the order in which `auto` tests them
DEVICES = ("cuda", "videotoolbox", "d3d12va", "d3d11va", "dxva2", "vaapi", "vdpau", "qsv", "vulkan", "drm")
TEST_CODECS = {"h264": "libx264", "hevc": "libx265"}  # decoder -> the encoder of the video that it is tested with


@dataclass(frozen=True)
class ChosenDecoder:
    """Where videos are decoded."""

    hardware: str | None
    """One of `DEVICES`; None: software."""
    is_required: bool = False
    """The user named the device: a video that it cannot decode is an error. Otherwise software takes over."""
    rejected: tuple[str, ...] = ()
    """Hardware that was tested first, each with the reason why it is not used."""

    def hwaccel(self) -> HWAccel | None:
        """Returns the argument for `av.open(path, hwaccel=…)`, which opens the device once for each stream; None for software.

        With a required device, `av.open` raises RuntimeError for a file without a stream that the device decodes, and
        decoding raises FFmpegError for frames that it cannot decode. Frames are nv12, p010le, …, not yuv420p.
        """
        if self.hardware is None:
            return None
        from av.codec.hwaccel import HWAccel

        return HWAccel(self.hardware, allow_software_fallback=not self.is_required)

    def description(self) -> str:
        """Returns, for reports, `cuda, or software for what it cannot decode`."""
        why = f" ({'; '.join(self.rejected)})" if self.rejected else ""
        if self.hardware is None:
            return f"software{why}"
        return self.hardware + ("" if self.is_required else f", or software for what it cannot decode{why}")


def choose_decoder(hardware: str = "auto") -> ChosenDecoder:
    """Returns what decodes videos.

    hardware: "auto" takes the first device that decodes test frames on this machine, and software where there is none;
    "software"; or one of `DEVICES`. Devices are tested in another process; "auto" tests only devices that the system
    appears to have. Raises ConfigError for an unknown name, EngineUnavailable for a device that is absent or does not decode.
    """
    if hardware not in ("auto", "software", *DEVICES):
        raise ConfigError(f"no decoders named {hardware!r}; there are: auto, software, {', '.join(DEVICES)}")
    if hardware == "software":
        return ChosenDecoder(None)
    supported = _supported_devices()
    if hardware != "auto":
        if hardware not in supported:
            has = ", ".join(supported) or "software only"
            raise EngineUnavailable(f"this FFmpeg does not decode on {hardware}; it has {has}")
        failure = decoder_failure(hardware)
        if failure is not None:
            problem = f"{hardware} does not decode here ({failure.rstrip('.')})"
            raise EngineUnavailable(f"{problem}; 'software' always does, and 'auto' uses one that works")
        return ChosenDecoder(hardware, is_required=True)
    rejected: list[str] = []
    for device in supported:
        if may_be_present(device):
            failure = decoder_failure(device)
            if failure is None:
                return ChosenDecoder(device, rejected=tuple(rejected))
            rejected.append(f"{device}: {failure.rstrip('.')}")
    return ChosenDecoder(None, rejected=tuple(rejected))


def _supported_devices() -> list[str]:
    """Lists the devices that this FFmpeg was built to decode on."""
    import av

    configs = [config for name in TEST_CODECS for config in av.Codec(name, "r").hardware_configs if config.is_supported]
    names = {config.device_type.name for config in configs}
    return [name for name in DEVICES if name in names]


@lru_cache
def decoder_failure(device: str) -> str | None:
    """Returns why this device does not decode a few test frames, found in another process; None if it does."""
    answer = call(run_test_decode, device, seconds=HARDWARE_TIMEOUT_S)
    return answer.failure or cast("str | None", answer.value)


def run_test_decode(device: str) -> str | None:
    """Returns why this device decodes neither H.264 nor HEVC, in FFmpeg's words; None if it does. May hang or crash."""
    import av
    from av.codec.hwaccel import HWAccel

    first = None
    for codec, encoder in TEST_CODECS.items():
        video = encode_test_video(encoder)
        with capture_ffmpeg_errors() as messages:
            try:
                frames = decode_luma(video, HWAccel(device, allow_software_fallback=False))
                if frames == decode_luma(video, None):
                    return None
                failure = f"it decodes {codec} wrongly"
            except (av.FFmpegError, OSError, RuntimeError, ValueError) as error:
                failure = next((text.strip() for _, _, text in messages if text.strip()), None) or str(error)
        first = first or failure
    return first


def encode_test_video(encoder: str) -> bytes:
    """Encodes an MP4 file of five gray frames of 320x240, each brighter than the one before."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        quiet = {"x265-params": "log-level=error"} if encoder == "libx265" else {}
        stream: Any = container.add_stream(encoder, rate=30, options={"preset": "ultrafast"} | quiet)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for pts in range(5):
            frame = av.VideoFrame(320, 240, "yuv420p")
            for plane, value in zip(frame.planes, (40 + 30 * pts, 128, 128), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def decode_luma(video: bytes, hwaccel: HWAccel | None) -> list[bytes]:
    """Decodes the luma plane of each 320x240 frame. Raises OSError if the decoder does not use the given device."""
    import av

    container: Any
    with av.open(io.BytesIO(video), hwaccel=hwaccel) as container:
        if hwaccel is not None and not container.streams.video[0].codec_context.is_hwaccel:
            raise OSError("its decoder does not use this device")
        return [frame.to_ndarray()[:240].tobytes() for frame in container.decode(video=0)]
