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
from av.stream import Disposition

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
# Written by the container anew, or true of the source's streams alone.
OWN_TAGS = frozenset(
    {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "vendor_id", "bps", "number_of_frames"}
    | {"number_of_bytes", "filename", "mimetype", "rotate"}
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
        self._rate = 48_000 if codec == "libopus" else self._context.sample_rate
        self._layout = self._context.layout.name if self._context.layout.nb_channels in (1, 2) else "stereo"
        self._stream = cast(av.AudioStream, out.add_stream(codec, rate=self._rate, layout=self._layout))
        self._stream.codec_context.bit_rate = BITS_PER_CHANNEL * self._stream.codec_context.channels
        self._stream.time_base = Fraction(1, self._rate)
        self._resampler: av.AudioResampler | None = None
        _describe(self._stream, stream)

    def take(self, packet: Packet | None) -> Sequence[Packet]:
        """As in `Track`; a packet that cannot be decoded leaves a gap."""
        made: list[Packet] = []
        with contextlib.suppress(av.InvalidDataError):
            for frame in self._context.decode(packet):
                made += self._encode(frame)
        return made if packet is not None else [*made, *self._encode(None), *self._stream.encode(None)]

    def _encode(self, frame: av.AudioFrame | None) -> list[Packet]:
        if self._resampler is None:
            encoder = self._stream.codec_context
            encoder.open(strict=False)
            self._resampler = av.AudioResampler(encoder.format, self._layout, self._rate, encoder.frame_size or None)
        return [packet for part in self._resampler.resample(frame) for packet in self._stream.encode(part)]


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
        """As in `Track`."""
        if packet is None or not packet.size:
            return ()
        text = self._context.decode2(packet)
        if text is None or not len(text):
            return ()
        made = self._encoder.encode_subtitle(text)
        made.stream, made.time_base = self._stream, packet.time_base
        made.pts = made.dts = packet.pts
        made.duration = packet.duration
        return (made,)


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
        self._due: Iterator[Packet] = iter(())
        self._waiting: Packet | None = None

    def add_to(self, out: OutputContainer, pictures: Any) -> None:
        """A stream for each track that `out` can hold, the tags and the chapters; `pictures`: its video stream."""
        source = self._source
        main = source.streams.best("video")
        if main is not None:
            _describe(pictures, main)
        numbers: dict[str, int] = {}
        for stream in source.streams:
            if stream is main:
                continue
            numbers[stream.type] = numbers.get(stream.type, 0) + 1
            self._add(out, stream, f"{_called(stream)} {numbers[stream.type]}")
        out.metadata.update({key: value for key, value in source.metadata.items() if key.lower() not in OWN_TAGS})
        chapters = [moved for chapter in source.chapters() if (moved := self._moved(chapter))]
        if chapters:
            out.set_chapters(chapters)
        self._due = self._packets()

    def _add(self, out: OutputContainer, stream: Any, name: str) -> None:
        codec = stream.codec_context.codec.canonical_name if stream.codec_context is not None else None
        fits = codec in out.supported_codecs
        if stream.type == "attachment" and self._suffix == ".mkv":
            out.add_attachment(stream.name or "attachment", stream.mimetype or "application/octet-stream", stream.data)
        elif stream.type == "audio" and not self._wants_sound:
            pass
        elif stream.type not in ("audio", "subtitle"):
            self.dropped.append(name)
        elif codec is None:
            self.dropped.append(f"{name}: its codec is unknown here")
        elif fits:
            self._tracks[stream] = Copied(out, stream)
            if stream.type == "audio" and self.sound == "none":
                self.sound = "copied"
        elif stream.type == "audio" and self._suffix in SOUND:
            self._tracks[stream] = Sound(out, stream, SOUND[self._suffix])
            self.sound = "transcoded"
        elif codec in TEXT_CODECS and self._suffix in TEXT:
            self._tracks[stream] = Subtitles(out, stream, TEXT[self._suffix])
        else:
            self.dropped.append(f"{name}: {self._suffix} cannot hold {codec}")

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
        try:
            for packet in self._source.demux(*self._tracks):
                if packet.dts is None or packet.pts is None or packet.time_base is None:
                    continue
                ticks = round(self._start / packet.time_base)
                packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
                if self._is_wanted(packet):
                    yield from self._tracks[packet.stream].take(packet)
        except (av.FFmpegError, IndexError):
            self.damage = "sound or subtitles cannot be read to their end"
        for track in self._tracks.values():
            yield from track.take(None)

    def _is_wanted(self, packet: Packet) -> bool:
        if self._window == Window():
            return True
        begin, tick = packet.pts or 0, packet.time_base
        if self._window.start and begin + max(packet.duration or 0, 1) <= 0:
            return False
        return self._window.duration is None or begin * tick < self._window.duration

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
    stream.metadata.update(
        {key: value for key, value in source.metadata.items() if key.lower() not in OWN_TAGS and "_STAT" not in key}
    )
    stream.disposition = source.disposition
