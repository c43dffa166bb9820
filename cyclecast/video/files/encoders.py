"""FFmpeg's video encoders: names, and what each calls quality, preset and pixel format."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from cyclecast.errors import ConfigError

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel

SOFTWARE = {
    "h264": ("libx264", "libopenh264"),
    "hevc": ("libx265",),
    "av1": ("libsvtav1", "libaom-av1", "librav1e"),
    "vp9": ("libvpx-vp9",),
    "prores": ("prores_ks",),
    "ffv1": ("ffv1",),
}
HARDWARE = (
    "nvenc",
    "qsv",
    "vaapi",
    "amf",
    "videotoolbox",
    "mf",
    "v4l2m2m",
    "vulkan",
    "rkmpp",
)  # h264_nvenc, …; in the order of `auto`

LOW_DELAY = {  # encoder or hardware -> options with which it holds few frames back, at the same quality and bit rate
    "libx264": {"x264-params": "sliced-threads=1:sync-lookahead=0"},  # 4 frames, which B-frames need, in place of 10 and more
    "libvpx-vp9": {"lag-in-frames": "0"},  # instead of 24
    "nvenc": {"delay": "0"},
    "qsv": {"async_depth": "1"},
    "vaapi": {"async_depth": "1"},
}


@dataclass(frozen=True)
class Encoder:
    """An FFmpeg encoder and its defaults: crf is its quality scale, lower is better. None: it has no such setting."""

    name: str
    crf: int | None
    preset: str | None


ENCODERS = {  # codec -> the software encoder that `convert` uses
    "h264": Encoder("libx264", 18, "veryfast"),
    "hevc": Encoder("libx265", 22, "veryfast"),
    "av1": Encoder("libsvtav1", 30, "10"),
    "vp9": Encoder("libvpx-vp9", 31, "5"),
    "prores": Encoder("prores_ks", None, None),
    "ffv1": Encoder("ffv1", None, None),
}
FIXED_OPTIONS = {  # codec of one quality, encoded in software only -> FFmpeg's options
    "prores": {"vendor": "apl0"},  # as Apple's encoder; FFmpeg chooses the profile by the pixel format: 422 HQ or 4444
    "ffv1": {"level": "3", "slices": "4", "slicecrc": "1"},  # always: by default they depend on the number of threads
}
OTHER_NAMES = {"h265": "hevc", "x265": "hevc", "avc": "h264", "x264": "h264"}  # without capitals, dots and hyphens
WORST = {"h264": 51, "hevc": 51, "av1": 63, "vp9": 63}  # the highest crf of the codec
BITS_PER_PIXEL = {"h264": 0.2, "hevc": 0.12}  # at the default crf, for encoders that have a bit rate only: chosen, not measured
DEFAULT_FORMATS = {"prores": "yuv422p10le"}  # codec -> pixel format; yuv420p for the others
ALPHA_OPTIONS = {"libvpx-vp9": {"auto-alt-ref": "0"}}  # frames that are not shown have no alpha
SMALL_SIDE = 64  # pixels; the shorter side of frames in which an encoder needs an option of `SMALL_FRAMES`
SMALL_FRAMES = {  # encoder -> FFmpeg's option, and a value that avoids a bug of the encoder
    "libsvtav1": ("svtav1-params", "lp=1"),  # its threads deadlock
    "libx265": ("x265-params", "cutree=0"),  # it writes outside of its memory
}
SVT_HIGHEST_RATE = Fraction(240)  # frames per second; SVT-AV1 accepts no more
FF_QP2LAMBDA = 118  # libavutil/avutil.h: the factor of -q:v

SPEEDS = ["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"]  # x264's
PRESETS = {  # hardware -> its own names for SPEEDS; other hardware has no presets
    "nvenc": ["p1", "p1", "p2", "p2", "p3", "p4", "p5", "p6", "p7", "p7"],
    "qsv": ["veryfast", "veryfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "veryslow"],
    "amf": ["speed", "speed", "speed", "speed", "speed", "balanced", "quality", "quality", "quality", "quality"],
}
OTHER_LAYOUT = {  # the same samples in another order, as hardware takes them
    "yuv420p": "nv12",
    "yuv422p": "nv16",
    "yuv420p10le": "p010le",
    "yuv422p10le": "p210le",
    "yuv444p10le": "yuv444p10msble",
}
UPLOADED = ("nv12", "p010le")  # for encoders that take frames in the device's memory only


@dataclass(frozen=True)
class ChosenEncoder:
    """An encoder, and how to configure it."""

    codec: str
    """h264, hevc, av1, vp9, prores or ffv1."""
    name: str
    """FFmpeg's: libx264, h264_nvenc, …"""
    hardware: str | None = None
    """One of `HARDWARE`; None: software."""
    rejected: tuple[str, ...] = ()
    """Hardware that was tested first, each with the reason why it is not used."""

    def options(
        self, crf: int | None = None, preset: str | None = None, *, width: int, height: int, rate: Fraction | float
    ) -> dict[str, str]:
        """Returns FFmpeg's options for this quality and speed; None: the encoder's own.

        crf: 0 to 51 for h264 and hevc, 0 to 63 for av1 and vp9, lower is better; the same number is not the same quality in
        another encoder. preset: the encoder's own name; hardware that has presets also accepts x264's. width, height, rate: in
        pixels and frames per second, for encoders that have a bit rate only. Raises ConfigError for a crf or preset out of range.
        """
        if self.codec in FIXED_OPTIONS:
            for name, value in (("crf", crf), ("preset", preset)):
                if value is not None:
                    raise ConfigError(f"{self.codec} has no {name}; leave out --{name}")
            return dict(FIXED_OPTIONS[self.codec])
        usual = ENCODERS[self.codec].crf
        assert usual is not None
        quality = self._checked(usual if crf is None else crf)
        bits = BITS_PER_PIXEL.get(self.codec, 0.1) * 2 ** ((usual - quality) / 6) * width * height * float(rate)
        options = self._quality(quality, str(round(bits))) | self._speed(preset)
        if min(width, height) < SMALL_SIDE and self.name in SMALL_FRAMES:
            name, value = SMALL_FRAMES[self.name]
            options[name] = f"{options[name]}:{value}" if name in options else value
        return options

    def low_delay(self) -> dict[str, str]:
        """Returns FFmpeg's options that make the encoder delay few frames, if it has any."""
        return LOW_DELAY.get(self.hardware or self.name, {})

    def _checked(self, crf: int) -> int:
        best, worst = int(self.hardware is not None or self.codec == "av1"), WORST[self.codec]  # for them, 0 means the default
        if not best <= crf <= worst:
            raise ConfigError(f"{self.name} accepts a crf of {best} to {worst}, got {crf}")
        return crf

    def _quality(self, crf: int, bits: str) -> dict[str, str]:
        long_scale = WORST[self.codec] == 63
        quantizer = str(4 * crf if long_scale else crf)  # av1's and vp9's go to 255
        percent = max(1, round(100 - 100 * crf / WORST[self.codec]))  # higher is better
        match self.hardware:
            case None if self.name == "libvpx-vp9":
                return {"crf": str(crf), "b": "0", "deadline": "good", "row-mt": "1"}
            case None if self.name == "libx265":
                # x265 prints to the terminal, and leaves out closed captions by default
                return {"crf": str(crf), "a53cc": "1", "x265-params": "log-level=error"}
            case None:
                return {"crf": str(crf)}
            case "nvenc":
                return {"rc": "vbr", "cq": str(crf), "b": "0"}
            case "qsv":
                return {"global_quality": str(max(1, round(crf * 51 / 63)) if long_scale else crf)}
            case "vaapi":
                return {"rc_mode": "CQP", "global_quality": quantizer}
            case "vulkan":
                return {"rc_mode": "cqp", "qp": quantizer}
            case "amf":
                options = ("qp_i", "qp_p") if self.codec == "hevc" else ("qp_i", "qp_p", "qp_b")
                return {"rc": "cqp"} | dict.fromkeys(options, quantizer)
            case "videotoolbox" if platform.machine() == "arm64":  # FFmpeg refuses it on other Macs
                return {"flags": "+qscale", "global_quality": str(percent * FF_QP2LAMBDA)}
            case "mf":
                return {"hw_encoding": "1", "rate_control": "quality", "quality": str(percent)}
        return {"b": bits}

    def _speed(self, preset: str | None) -> dict[str, str]:
        if self.hardware is None:
            own = preset or ENCODERS[self.codec].preset
            return {"cpu-used" if self.name == "libvpx-vp9" else "preset": str(own)}
        if preset is None:
            return {}
        own_names = PRESETS.get(self.hardware, [])
        if preset in own_names:
            return {"preset": preset}
        if own_names and preset in SPEEDS:
            return {"preset": own_names[SPEEDS.index(preset)]}
        there = f"it has {', '.join(dict.fromkeys(own_names))}, and accepts x264's" if own_names else "it has none"
        raise ConfigError(f"{self.name} has no preset {preset!r}; {there}")

    def pix_fmt(self, pix_fmt: str | None = None) -> str:
        """Returns the encoder's pixel format: `pix_fmt` (None: the codec's default), or the same samples in its own order.

        Raises ConfigError, with a list, if it accepts neither.
        """
        name = pix_fmt or DEFAULT_FORMATS.get(self.codec, "yuv420p")
        accepted = [*self.accepted_formats(), *self.alpha_formats()]
        for form in (name, OTHER_LAYOUT.get(name)):
            if form in accepted:
                return form
        raise ConfigError(f"{self.name} accepts no {name} pixels; it accepts {', '.join(accepted)}")

    def accepted_formats(self) -> list[str]:
        """Returns the YUV and gray formats that it accepts in memory. Where FFmpeg lists none, the driver decides."""
        import av

        listed = av.Codec(self.name, "w").video_formats
        if not listed:
            return ["yuv420p", "nv12"]
        named = [form.name for form in listed if form.components and not form.is_rgb]
        return [name for name in named if not name.startswith(("yuvj", "yuva", "ya", "grayf"))] or list(UPLOADED)

    def alpha_formats(self) -> list[str]:
        """Returns the YUV formats with alpha that it accepts and that can be decoded again."""
        import av

        names = [form.name for form in av.Codec(self.name, "w").video_formats or () if form.name.startswith("yuva")]
        if self.codec == "vp9":  # the alpha of other formats is not decoded
            return [name for name in names if name == "yuva420p"]
        return names if self.codec in FIXED_OPTIONS else []

    def hwaccel(self) -> HWAccel | None:
        """Returns the argument of `add_stream(…, hwaccel=…)`, which uploads frames; None if the encoder takes them in memory."""
        import av
        from av.codec.hwaccel import HWAccel

        codec = av.Codec(self.name, "w")
        if not codec.video_formats or any(form.components for form in codec.video_formats):
            return None
        types = [config.device_type for config in codec.hardware_configs if config.format and not config.format.components]
        return HWAccel(types[0]) if types else None

    def accepted_rate(self, rate: Fraction) -> Fraction:
        """Returns the frame rate to set in the encoder for a video of this rate: a hint, as each frame keeps its own time."""
        return min(rate, SVT_HIGHEST_RATE) if self.name == "libsvtav1" else rate

    def description(self) -> str:
        """Returns, for reports, `libx264 in software (nvenc: Cannot load libcuda.so.1)`."""
        why = f" ({'; '.join(self.rejected)})" if self.rejected else ""
        return f"{self.name} in {'hardware' if self.hardware else 'software'}{why}"


def codec_of(name: str) -> str:
    """Returns the codec that a user calls by this name: hevc for H.265. Returns an unknown name unchanged."""
    plain = name.lower().replace(".", "").replace("-", "")
    codec = OTHER_NAMES.get(plain, plain)
    return codec if codec in ENCODERS else name


def hardware_of(name: str) -> str | None:
    """Returns nvenc for h264_nvenc; None for software."""
    hardware = name.rpartition("_")[2]
    return hardware if hardware in HARDWARE else None


def known_encoders() -> Iterable[tuple[str, str]]:
    """Yields (codec, name) of all encoders that cyclecast knows."""
    for codec, names in SOFTWARE.items():
        hardware = () if codec in FIXED_OPTIONS else HARDWARE
        yield from ((codec, name) for name in (*names, *(f"{codec}_{each}" for each in hardware)))


@contextlib.contextmanager
def ordinary_priority() -> Iterator[None]:
    """Wraps the opening of an encoder: gives threads that become real-time inside their ordinary priority back. Linux only.

    Under root, SVT-AV1's `enc_switch_to_real_time` gives the thread that opens it SCHED_FIFO 99. The encoder's threads and
    every process started later would inherit it: on few cores nothing else would run.
    """
    before = _real_time()
    try:
        yield
    finally:
        for thread in _real_time() - before:
            with contextlib.suppress(OSError):  # it has ended
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _real_time() -> set[int]:
    """Lists Linux's ids of this process's threads that are scheduled as SCHED_FIFO."""
    if not hasattr(os, "sched_getscheduler") or not os.path.isdir("/proc/self/task"):
        return set()
    found = set()
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO:
                found.add(thread)
    return found
