"""What a film has beside its pictures: sound, subtitles, chapters, tags and fonts, on their way into a container."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeAlias, cast

import av
from av.container import InputContainer, OutputContainer
from av.stream import Discard, Disposition

from cyclecast.video.sources.file import Window, open_container

Packet: TypeAlias = "av.Packet[Any]"
SOUND = {  # suffix -> the codec for sound that this container cannot hold as it is
    ".mp4": "aac",
    ".m4v": "aac",
    ".mov": "aac",
    ".mkv": "libopus",
    ".webm": "libopus",
}
TEXT = {".mp4": "mov_text", ".m4v": "mov_text", ".mov": "mov_text", ".mkv": "subrip", ".webm": "webvtt"}  # the same of subtitles
TEXT_CODECS = frozenset({"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"})
BITS_PER_CHANNEL = 96_000  # of sound that is encoded anew: transparent for AAC and Opus
SPREAD = Fraction(30)  # seconds: no container has what belongs together further apart
# Written by the container anew, or true of the source's streams alone.
OWN_TAGS = frozenset(
    {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "vendor_id", "bps", "number_of_frames"}
    | {"number_of_bytes", "filename", "mimetype", "rotate", "timecode"}
)


class Track(Protocol):
    """One stream on its way."""

    def take(self, packet: Packet | None) -> Sequence[Packet]:
        """A packet of the source, whose times are seconds of the output already; what is to be written for it (None: it ends)."""
        ...


class Copied:
    """Packets as they are."""

    def __init__(self, out: OutputContainer, stream: Any) -> None:
        self._stream = out.add_stream_from_template(stream)
        _describe(self._stream, stream)

    def take(self, packet: Packet | None) -> Sequence[Packet]:
        """As in `Track`."""
        if packet is None:
            return ()
        packet.stream = self._stream
        return (packet,)


class Sound:
    """Sound that the container cannot hold, decoded and encoded with a codec that it can."""

    def __init__(self, out: OutputContainer, stream: av.AudioStream, codec: str) -> None:
        self._context = stream.codec_context
        rate, rates = self._context.sample_rate, av.Codec(codec, "w").audio_rates or []
        self._rate = rate if rate in rates and codec != "libopus" else 48_000
        self._layout = self._context.layout.name if self._context.layout.nb_channels in (1, 2) else "stereo"
        self._stream = cast(av.AudioStream, out.add_stream(codec, rate=self._rate, layout=self._layout))
        self._stream.codec_context.bit_rate = BITS_PER_CHANNEL * self._stream.codec_context.channels
        self._stream.time_base = Fraction(1, self._rate)
        self._form: tuple[str, str, int] | None = None  # of what is decoded: broadcasts change it on the way
        self._resampler: av.AudioResampler | None = None
        _describe(self._stream, stream)

    def take(self, packet: Packet | None) -> Sequence[Packet]:
        """As in `Track`; a packet that cannot be decoded leaves a gap."""
        frames: list[av.AudioFrame] = []
        with contextlib.suppress(av.FFmpegError):
            frames = self._context.decode(packet)
        made = [packet for frame in frames for part in self._resampled(frame) for packet in self._stream.encode(part)]
        if packet is None:
            made += [packet for part in self._rest() for packet in self._stream.encode(part)]
            made += self._stream.encode(None)
        return made

    def _resampled(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        made: list[av.AudioFrame] = []
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or form != self._form:
            made = self._rest()
            self._form = form
            self._resampler = av.AudioResampler(self._stream.codec_context.format, self._layout, self._rate)
        return made + [self._timed(part) for part in self._resampler.resample(frame)]

    def _rest(self) -> list[av.AudioFrame]:
        """What is left in the resampler."""
        if self._resampler is None:
            return []
        return [self._timed(part) for part in self._resampler.resample(None) if part is not None]

    def _timed(self, part: av.AudioFrame) -> av.AudioFrame:
        """In the encoder's ticks."""
        if part.pts is not None and part.time_base is not None:
            part.pts = round(part.pts * part.time_base * self._rate)
        part.time_base = Fraction(1, self._rate)
        return part


class Subtitles:
    """Text in the container's own form; styling that it has no words for is lost."""

    def __init__(self, out: OutputContainer, stream: Any, codec: str) -> None:
        self._context: Any = stream.codec_context
        self._context.open(strict=False)
        self._stream = cast(Any, out.add_stream(codec))
        self._encoder = self._stream.codec_context
        self._encoder.subtitle_header = self._context.subtitle_header
        self._encoder.time_base = self._stream.time_base = Fraction(1, 1000)
        _describe(self._stream, stream)

    def take(self, packet: Packet | None) -> Sequence[Packet]:
        """As in `Track`; a text that cannot be read is left out."""
        if packet is None:
            return ()
        try:
            text = self._context.decode2(packet)
            if text is None or not len(text):
                return ()
            made = self._encoder.encode_subtitle(text)
        except av.FFmpegError:  # of no use to a player either
            return ()
        made.stream, made.time_base = self._stream, packet.time_base
        made.pts = made.dts = packet.pts
        made.duration = packet.duration
        return (made,)


class Clock:
    """Of one track of the source: what has no time follows what came before it, and no time comes twice.

    is_text: a line that comes late is shown late; sound that comes late is lost, and counted.
    """

    def __init__(self, is_text: bool) -> None:
        self._is_text = is_text
        self._last: int | None = None
        self._end: int | None = None
        self.lost = 0

    def set(self, packet: Packet) -> bool:
        """Gives the packet both of its times; False if it is to be left out."""
        dts = packet.dts if packet.dts is not None else packet.pts
        dts = self._end if dts is None else dts
        if dts is None:
            return False
        pts = dts if packet.pts is None else packet.pts
        if self._last is not None and dts <= self._last:
            if not self._is_text:
                self.lost += 1
                return False
            dts = self._last
        packet.dts, packet.pts = dts, max(pts, dts)
        self._last, self._end = dts, dts + (packet.duration or 0)
        return True


class Companions:
    """All of a film but its pictures, for one output. A context manager; `add_to` comes before the first packet.

    start: what is taken off every time; window: the part that is wanted. `sound` says what became of it: copied, transcoded or
    none; `dropped` what is left out, in words; `damage` what could not be read.
    """

    def __init__(self, path: Path, start: Fraction, window: Window, suffix: str, sound: bool = True) -> None:
        self.path, self._start, self._window, self._suffix, self._wants_sound = path, start, window, suffix, sound
        self.sound = "none"
        self.dropped: list[str] = []
        self.damage: str | None = None
        self._source: InputContainer = open_container(path)
        self._tracks: dict[Any, Track] = {}
        self._clocks: dict[Any, Clock] = {}
        self._due: Iterator[Packet] = iter(())
        self._waiting: Packet | None = None

    def add_to(self, out: OutputContainer, pictures: Any) -> None:
        """A stream for each track that `out` can hold, the tags and the chapters; `pictures`: its video stream."""
        source = self._source
        main = source.streams.best("video")
        if main is not None:
            _describe(pictures, main)
        numbers: dict[str, int] = {}
        holds = frozenset(out.supported_codecs)
        for stream in source.streams:
            if stream is main or stream.discard == Discard.all:  # the latter is how MP4 keeps its chapters
                continue
            numbers[stream.type] = numbers.get(stream.type, 0) + 1
            self._add(out, stream, f"{_called(stream)} {numbers[stream.type]}", holds)
        for stream in source.streams:
            if stream not in self._tracks:
                cast(Any, stream).discard = Discard.all  # not even read, where the container allows
        out.metadata.update(_kept(source.metadata))
        chapters = [moved for chapter in source.chapters() if (moved := self._moved(chapter))]
        if chapters:
            out.set_chapters(chapters)
        self._due = self._packets()

    def _add(self, out: OutputContainer, stream: Any, name: str, holds: frozenset[str]) -> None:
        """holds: the codecs that the container can, by FFmpeg's names of their decoders."""
        known = stream.codec_context.codec if stream.codec_context is not None else None
        if stream.type == "attachment" and self._suffix == ".mkv":
            out.add_attachment(stream.name or "attachment", stream.mimetype or "application/octet-stream", stream.data)
        elif stream.type == "audio" and not self._wants_sound:
            pass
        elif stream.type not in ("audio", "subtitle"):
            self.dropped.append(name)
        elif known is None:
            self.dropped.append(f"{name}: its codec is unknown here")
        elif known.name in holds:
            self._tracks[stream] = Copied(out, stream)
            if stream.type == "audio" and self.sound == "none":
                self.sound = "copied"
        elif stream.type == "audio" and self._suffix in SOUND:
            self._tracks[stream] = Sound(out, stream, SOUND[self._suffix])
            self.sound = "transcoded"
        elif known.canonical_name in TEXT_CODECS and self._suffix in TEXT:
            self._tracks[stream] = Subtitles(out, stream, TEXT[self._suffix])
        else:
            self.dropped.append(f"{name}: {self._suffix} cannot hold {known.canonical_name}")

    def _moved(self, chapter: Any) -> Any:
        """The chapter on the output's clock, cut to the window; None if nothing of it is left."""
        tick = chapter["time_base"]
        start, end = chapter["start"] * tick - self._start, chapter["end"] * tick - self._start
        if end <= 0 or (self._window.duration is not None and start >= self._window.duration):
            return None
        if self._window.duration is not None:
            end = min(end, self._window.duration)
        return chapter | {"start": round(max(Fraction(0), start) / tick), "end": round(end / tick)}

    def _packets(self) -> Iterator[Packet]:
        """All that is to be written, in the source's order; ends where it becomes unreadable."""
        if not self._tracks:
            return
        for packet in self._read():
            clock = self._clocks.setdefault(packet.stream, Clock(packet.stream.type == "subtitle"))
            if not clock.set(packet):
                continue
            begin = (packet.pts or 0) * packet.time_base - self._start
            if self._window.duration is not None and begin >= self._window.duration + SPREAD:
                break
            ticks = round(self._start / packet.time_base)
            packet.pts, packet.dts = (packet.pts or 0) - ticks, (packet.dts or 0) - ticks
            if self._fits(packet):
                yield from self._tracks[packet.stream].take(packet)
        lost = sum(clock.lost for clock in self._clocks.values())
        if lost:
            self._damaged(f"{lost} packets of sound or subtitles are out of order")
        for track in self._tracks.values():
            yield from track.take(None)

    def _read(self) -> Iterator[Packet]:
        packets = self._source.demux(*self._tracks)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, IndexError):
                self._damaged("sound or subtitles cannot be read to their end")
                return
            if packet is None:
                return
            if packet.size and packet.time_base:
                yield packet

    def _damaged(self, what: str) -> None:
        self.damage = f"{self.damage}; {what}" if self.damage else what

    def _fits(self, packet: Packet) -> bool:
        """Whether some of it lies in the window; text is cut to that."""
        if self._window == Window():
            return True
        begin, tick = packet.pts or 0, packet.time_base
        end = begin + (packet.duration or 0)
        last = None if self._window.duration is None else round(self._window.duration / tick)
        if (self._window.start and max(end, begin + 1) <= 0) or (last is not None and begin >= last):
            return False
        if packet.stream.type == "subtitle" and packet.duration:
            begin = max(begin, 0) if self._window.start else begin
            packet.pts = packet.dts = begin
            packet.duration = (end if last is None else min(end, last)) - begin
        return True

    def until(self, seconds: Fraction | None) -> Iterator[Packet]:
        """The packets due by then, all that is left if None: side by side with the pictures in the file."""
        if self._waiting is None:
            self._waiting = next(self._due, None)
        while self._waiting is not None:
            packet = self._waiting
            if seconds is not None and packet.dts is not None and packet.dts * packet.time_base > seconds:
                return
            yield packet
            self._waiting = next(self._due, None)

    def __enter__(self) -> Companions:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._source.close()


def _called(stream: Any) -> str:
    if stream.type == "video":
        return "cover picture" if stream.disposition & Disposition.attached_pic else "further pictures: track"
    return {"audio": "sound track", "subtitle": "subtitles"}.get(stream.type, f"{stream.type} track")


def _describe(stream: Any, source: Any) -> None:
    """Language, title and role."""
    stream.metadata.update(_kept(source.metadata))
    stream.disposition = source.disposition


def _kept(tags: dict[str, str]) -> dict[str, str]:
    """Without those that are not true of the output; Matroska's may end in a language, as BPS-eng."""
    return {key: value for key, value in tags.items() if key.lower().split("-")[0] not in OWN_TAGS and "_STAT" not in key}
