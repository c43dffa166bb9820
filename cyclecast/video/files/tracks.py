"""Tracks of sound and subtitles: copied, or transcoded for a container that cannot hold them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Protocol, TypeAlias, cast

import av
from av.container import OutputContainer
from av.format import Flags

from cyclecast.video.files.tags import kept_tags

Packet: TypeAlias = "av.Packet[Any]"
BITS_PER_CHANNEL = 96_000  # bits per second and channel: transparent for AAC and Opus
# Encoder -> the channel layouts that it keeps. AAC: those that FFmpeg's decoder finds again; of the others (6.1, 7.0) only the
# number of channels comes back. Opus: the layouts of mapping family 1 (RFC 7845, 5.1.1.2), but for 5.0 and 6.1, whose
# channels FFmpeg 8's libopus wrapper puts in the wrong order.
LAYOUTS = {
    "aac": ("mono", "stereo", "2.1", "3.0", "4.0", "quad", "5.0", "5.1", "7.1"),
    "libopus": ("mono", "stereo", "3.0", "quad", "5.1", "7.1"),
}
# AC-3, DTS and TrueHD call the two surround channels "side", AAC and Opus "back": the same loudspeakers.
BACK_FOR_SIDE = {"quad(side)": "quad", "5.0(side)": "5.0", "5.1(side)": "5.1"}
QUICKTIME_LANGUAGES = {  # ISO 639-2's name -> the name that FFmpeg's QuickTime writer accepts
    **{"cze": "ces", "deu": "ger", "ell": "gre", "fre": "fra", "isl": "ice", "mkd": "mac", "nld": "dut", "rum": "ron"},
    **{"slo": "slk", "sqi": "alb", "swe": "sve", "zho": "chi"},
}
SMALLEST_GAP = Fraction(1, 25)  # second; a shorter one comes from rounding


class Track(Protocol):
    """One track on its way into the output.

    preroll: seconds before the time range whose packets the track also needs, though it writes none of them.
    """

    preroll: Fraction

    def take(self, packet: Packet | None) -> Sequence[Packet]:
        """Takes a packet of the source, with times on the output's clock (None: the end); returns the packets to write."""
        ...

    def lost(self) -> int:
        """Returns how many packets could not be decoded. Complete after the end."""
        ...


class Copied:
    """Copies packets unchanged."""

    preroll = Fraction(0)

    def __init__(self, out: OutputContainer, stream: Any) -> None:
        self._stream = out.add_stream_from_template(stream)
        self._is_strict = stream.type == "audio" and not Flags(out.format.flags) & Flags.ts_nonstrict
        self._next: int | None = None  # the earliest free time, in the output's ticks
        self._sample = 0  # bytes, for all channels; 0: not PCM
        if stream.type == "audio":
            known = stream.codec_context
            if known.layout.nb_channels and known.layout.name.endswith(" channels"):
                self._stream.codec_context.layout = f"{known.layout.nb_channels}c"  # the usual one of so many
            bits = re.fullmatch(r"pcm_[sfu](\d+)[bl]?e?", known.codec.canonical_name)
            self._sample = int(bits[1]) // 8 * known.layout.nb_channels if bits else 0
        copy_description(self._stream, stream)

    def take(self, packet: Packet | None) -> Sequence[Packet]:
        """See `Track.take`."""
        if packet is None:
            return ()
        packet.stream = self._stream
        return self._separate(packet) if self._is_strict else (packet,)

    def lost(self) -> int:
        """Implements `Track.lost`: nothing is decoded."""
        return 0

    def _separate(self, packet: Packet) -> Sequence[Packet]:
        """Gives each packet a time of its own, as MP4 requires: packets shorter than the source's tick share one.

        MP4 counts PCM samples, so that a gap has to be filled with silence.
        """
        tick = self._stream.time_base
        dts, pts, duration = (round((time or 0) * packet.time_base / tick) for time in (packet.dts, packet.pts, packet.duration))
        gap = 0 if self._next is None else dts - self._next
        silence: list[Packet] = []
        if self._sample and gap > SMALLEST_GAP / tick:
            assert self._next is not None
            second = int(1 / tick)
            for begin in range(self._next, dts, second):
                silence.append(av.Packet(bytes(self._sample * min(second, dts - begin))))
                silence[-1].stream, silence[-1].time_base = self._stream, tick
                silence[-1].pts = silence[-1].dts = begin
        elif gap < 0:
            dts, pts = dts - gap, pts - gap
        packet.dts, packet.pts, packet.duration, packet.time_base = dts, pts, duration, tick
        self._next = dts + (packet.size // self._sample if self._sample else 1)
        return (*silence, packet)


class Sound:
    """Sound that the container cannot hold: decodes it and encodes it with a codec that the container can hold.

    layout: of the output, from `choose_layout`. cut: leave out what lies before time 0. report: gets a phrase for a layout that
    is lost, at the start or where the source changes midway.
    """

    preroll = Fraction(1, 4)  # a decoder's first packets may sound wrong

    def __init__(
        self,
        out: OutputContainer,
        stream: av.AudioStream,
        codec: str,
        layout: str,
        *,
        cut: bool,
        report: Callable[[str], None],
    ) -> None:
        self._layout, self._cut, self._report = layout, cut, report
        self._context = stream.codec_context
        rate, rates = self._context.sample_rate, av.Codec(codec, "w").audio_rates or []
        self._rate = rate if rate in rates and codec != "libopus" else 48_000
        self._stream = cast(av.AudioStream, out.add_stream(codec, rate=self._rate, layout=self._layout))
        self._stream.codec_context.bit_rate = BITS_PER_CHANNEL * self._stream.codec_context.channels
        self._stream.time_base = Fraction(1, self._rate)
        self._format: tuple[str, str, int] | None = None  # of the decoded frames: broadcasts change it midway
        self._resampler: av.AudioResampler | None = None
        self._reported: set[str] = set()
        self._end = -(1 << 62)  # of the sound so far, in the encoder's ticks
        self._decoded = False  # whether a packet has been
        self._lost, self._lost_last = 0, 0  # packets that could not be decoded; those of them after the last that could
        self._report_loss(self._context.layout)
        copy_description(self._stream, stream)

    def take(self, packet: Packet | None) -> Sequence[Packet]:
        """See `Track.take`. A packet that cannot be decoded leaves a gap."""
        frames: list[av.AudioFrame] = []
        try:
            frames = self._context.decode(packet)
        except av.FFmpegError:
            self._lost_last += 1
        if frames:
            self._lost += self._lost_last if self._decoded else 0  # a recording may begin inside a packet
            self._decoded, self._lost_last = True, 0
        if self._cut:
            frames = [f for f in frames if (f.pts or 0) * (f.time_base or 0) + Fraction(f.samples, f.sample_rate) > 0]
        parts = [part for frame in frames for part in self._resample(frame)]
        parts += self._flush_resampler() if packet is None else []
        packets = [encoded for part in parts if self._follows(part) for encoded in self._stream.encode(part)]
        return packets if packet is not None else [*packets, *self._stream.encode(None)]

    def _follows(self, part: av.AudioFrame) -> bool:
        """Lets the part begin where the one before ends if it overlaps that a little. Returns False for one to leave out."""
        if part.pts is None:
            return True
        overlap = self._end - part.pts
        if overlap > SMALLEST_GAP * self._rate:
            return False
        part.pts = max(part.pts, self._end)
        self._end = part.pts + part.samples
        return True

    def lost(self) -> int:
        """Implements `Track.lost`. The packet that a recording begins or ends with may be incomplete: it is not counted."""
        return self._lost + (self._lost_last if self._lost_last > 1 else 0)

    def _resample(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        parts: list[av.AudioFrame] = []
        format_ = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or format_ != self._format:
            parts = self._flush_resampler()
            self._format = format_
            self._resampler = av.AudioResampler(self._stream.codec_context.format, self._layout, self._rate)
            self._report_loss(frame.layout)
        return parts + [self._retimed(part) for part in self._resampler.resample(frame)]

    def _flush_resampler(self) -> list[av.AudioFrame]:
        if self._resampler is None:
            return []
        return [self._retimed(part) for part in self._resampler.resample(None) if part is not None]

    def _retimed(self, part: av.AudioFrame) -> av.AudioFrame:
        """Returns the same frame with its time in the encoder's ticks."""
        if part.pts is not None and part.time_base is not None:
            part.pts = round(part.pts * part.time_base * self._rate)
        part.time_base = Fraction(1, self._rate)
        return part

    def _report_loss(self, layout: av.AudioLayout) -> None:
        """Reports, once for each, a layout other than the output's; midway only one that does not fit into it."""
        name = layout_name(layout)
        is_midway = self._resampler is not None
        fits = name == "mono" or speakers(name) <= speakers(self._layout)
        if name in self._reported or BACK_FOR_SIDE.get(name, name) == self._layout or (is_midway and fits):
            return
        self._reported.add(name)
        self._report(f"{name}, which became {self._layout}")


def choose_layout(codec: str, layout: av.AudioLayout) -> str:
    """Returns the channel layout in which an encoder of `LAYOUTS` holds this one with the least loss.

    Raises ValueError for channels without speaker positions, for example nine channels.
    """
    name = layout_name(layout)
    name = BACK_FOR_SIDE.get(name, name)
    held = LAYOUTS[codec]
    if name in held:
        return name
    count = len(speakers(name))

    def cost(candidate: str) -> tuple[int, bool, int]:
        size = len(speakers(candidate))
        return len(speakers(name) - speakers(candidate)), size < count, size

    return min(held, key=cost)


def layout_name(layout: av.AudioLayout) -> str:
    """Returns FFmpeg's name of the layout; of channels without positions ("6 channels"), the usual layout of so many.

    ValueError where there is no usual one.
    """
    if not layout.nb_channels:
        return "stereo"
    return av.AudioLayout(f"{layout.nb_channels}c").name if layout.name.endswith(" channels") else layout.name


def speakers(layout: str) -> set[str]:
    """Returns FFmpeg's names of a layout's speaker positions: FL, FR, FC, LFE, ..."""
    return {channel.name for channel in av.AudioLayout(layout).channels}


class Clock:
    """The times of one track: a packet without a time follows the one before it, and no time goes back.

    is_text: a subtitle that comes late is shown late. Sound that comes late is dropped and counted in `lost`.
    """

    def __init__(self, is_text: bool) -> None:
        self._is_text = is_text
        self._last: int | None = None
        self._end: int | None = None
        self.lost = 0

    def set(self, packet: Packet) -> bool:
        """Sets both times of the packet. Returns False for a packet to leave out."""
        dts = packet.dts if packet.dts is not None else packet.pts
        dts = self._end if dts is None else dts
        if dts is None:
            return False
        pts = dts if packet.pts is None else packet.pts
        if self._last is not None and dts < self._last:
            if not self._is_text:
                self.lost += 1
                return False
            dts = self._last
        packet.dts, packet.pts = dts, max(pts, dts)
        self._last, self._end = dts, dts + (packet.duration or 0)
        return True


def copy_description(stream: Any, source: Any) -> None:
    """Copies language, title and role."""
    tags = kept_tags(source.metadata)
    form = stream.container.format.name
    if form in ("mp4", "mov", "ipod") and "title" in tags:
        tags["handler_name"] = tags["title"]  # where these containers keep it
    if form == "mov" and "language" in tags:
        tags["language"] = QUICKTIME_LANGUAGES.get(tags["language"], tags["language"])
    stream.metadata.update(tags)
    stream.disposition = source.disposition
