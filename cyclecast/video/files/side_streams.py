"""Carries everything but the frames into the output: sound, subtitles, chapters, tags and fonts."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
from av.container import InputContainer, OutputContainer
from av.stream import Discard, Disposition

from cyclecast.phrases import count_noun
from cyclecast.video.files.decoding import main_video
from cyclecast.video.files.opening import open_container
from cyclecast.video.files.subtitles import Subtitles
from cyclecast.video.files.tags import kept_tags
from cyclecast.video.files.time_range import TimeRange
from cyclecast.video.files.timeline import ClockMender, read_timeline
from cyclecast.video.files.track_probe import TrackProbe, can_hold
from cyclecast.video.files.tracks import (
    Clock,
    Copied,
    Packet,
    Sound,
    Track,
    choose_layout,
    copy_description,
)
from cyclecast.video.files.writer import MP4_FAMILY

SOUND = {  # suffix -> the encoder for sound that this container cannot hold as it is
    ".mp4": "aac",
    ".m4v": "aac",
    ".mov": "aac",
    ".mkv": "libopus",
    ".webm": "libopus",
}
TEXT = {".mp4": "mov_text", ".m4v": "mov_text", ".mov": "mov_text", ".mkv": "subrip", ".webm": "webvtt"}  # the same for subtitles
TEXT_CODECS = frozenset({"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"})
COARSE, FINE = (
    Fraction(1, 1000),
    Fraction(1, 1_000_000),
)  # seconds: a longer tick cannot express the start exactly and becomes FINE
SPREAD = Fraction(30)  # seconds; no container stores packets of one time further apart


class SideStreams:
    """Everything in a video file but its frames, for one output. A context manager; call `add_to` before the first packet.

    start: is subtracted from every time. `sound` is "copied", "transcoded" or "none"; `dropped` has a phrase for each thing
    that is left out or changed, `damage` one for what could not be read.
    """

    def __init__(self, path: Path, start: Fraction, time_range: TimeRange, suffix: str, sound: bool = True) -> None:
        self.path, self._start, self._time_range, self._suffix, self._wants_sound = path, start, time_range, suffix, sound
        self.sound = "none"
        self.dropped: list[str] = []
        self.damage: str | None = None
        self._source: InputContainer = open_container(path)
        self._timeline = read_timeline(path, time_range.mends_clock)
        self._clock = ClockMender(self._timeline)
        self.tags = kept_tags(self._source.metadata)
        """Of the whole file: title, place, date and others."""
        self._probe = TrackProbe(path, self._timeline)
        self._tracks: dict[Any, Track] = {}
        self._names: dict[Any, str] = {}  # of those that are transcoded
        self._clocks: dict[Any, Clock] = {}
        self._packets_left: Iterator[Packet] = iter(())
        self._next: Packet | None = None

    def add_to(self, out: OutputContainer, video: Any | None, tick: Fraction) -> None:
        """Adds a stream for each track that `out` can hold, the tags and the chapters.

        video: the video stream of `out`, None if it has none; tick: the time base of the video, in seconds.
        """
        source = self._source
        main = main_video(source)
        if main is not None and video is not None:
            copy_description(video, main)
        self._start = round(self._start / tick) * tick  # as it was subtracted from the frames' times
        numbers: dict[str, int] = {}
        for stream in source.streams:
            if stream is main or stream.discard == Discard.all:  # the latter is how MP4 keeps its chapters
                continue
            numbers[stream.type] = numbers.get(stream.type, 0) + 1
            self._add(out, stream, f"{_track_type(stream)} {numbers[stream.type]}")
        for stream in source.streams:
            if stream not in self._tracks:
                cast(Any, stream).discard = Discard.all  # not even read, where the container allows
        if self._suffix == ".gif" and self.tags:
            self.dropped.append(f"tags: {', '.join(sorted(self.tags))}")
        out.metadata.update(self.tags)
        if "video" not in self._timeline.later:  # otherwise it is damage
            self.dropped += ["a sound track that is only at the end of the file"] * len(self._timeline.later)
        chapters = [moved for chapter in source.chapters() if (moved := self._moved(chapter))]
        if chapters:
            out.set_chapters(chapters)
        self._packets_left = self._packets()

    def _add(self, out: OutputContainer, stream: Any, name: str) -> None:
        known = stream.codec_context.codec if stream.codec_context is not None else None
        if stream.type == "attachment" and self._suffix == ".mkv":
            out.add_attachment(stream.name or "attachment", stream.mimetype or "application/octet-stream", stream.data)
        elif stream.type == "audio" and not self._wants_sound:
            pass
        elif stream.type not in ("audio", "subtitle"):
            self.dropped.append(name)
        elif known is None:
            self.dropped.append(f"{name}: its codec is unknown here")
        elif (described := self._probe.described(stream)) is None:
            self.dropped.append(f"{name}: it has no sound, or none that FFmpeg can describe")
        elif can_hold(out.format.name, described, self._probe.first_packet(stream)):
            self._tracks[stream] = Copied(out, described)
            if stream.type == "audio" and self.sound == "none":
                self.sound = "copied"
        elif stream.type == "audio" and self._suffix in SOUND:
            if self._probe.can_decode(stream):
                self._transcode(out, stream, described, name)
            else:
                self._damaged(f"{name} cannot be decoded ({known.canonical_name}) and is left out")
        elif known.canonical_name in TEXT_CODECS and self._suffix in TEXT:
            self._tracks[stream] = Subtitles(
                out, stream, TEXT[self._suffix], lambda what: self.dropped.append(f"{what} in {name}")
            )
        else:
            self.dropped.append(f"{name}: {self._suffix} cannot hold {known.canonical_name}")

    def _transcode(self, out: OutputContainer, stream: Any, described: Any, name: str) -> None:
        codec = SOUND[self._suffix]
        try:
            layout = choose_layout(codec, described.layout)
        except ValueError:
            self.dropped.append(f"{name}: it is not known which loudspeakers its {described.layout.nb_channels} channels are for")
            return

        def report(loss: str) -> None:
            self.dropped.append(f"the layout of {name}, {loss}")

        self._names[stream] = name
        self._tracks[stream] = Sound(out, described, codec, layout, cut=self._time_range.start > 0, report=report)
        self.sound = "transcoded"

    def _moved(self, chapter: Any) -> Any:
        """Returns the chapter on the output's clock, cut to the time range; None if nothing of it is left."""
        tick = chapter["time_base"]
        start, end = chapter["start"] * tick - self._start, chapter["end"] * tick - self._start
        if end <= 0 or (self._time_range.duration is not None and start >= self._time_range.duration):
            return None
        if self._time_range.duration is not None:
            end = min(end, self._time_range.duration)
        metadata = chapter["metadata"]
        if self._suffix in MP4_FAMILY:  # without a title, it would get the one of the next chapter
            metadata = {"title": ""} | metadata
        return chapter | {"metadata": metadata, "start": round(max(Fraction(0), start) / tick), "end": round(end / tick)}

    def _packets(self) -> Iterator[Packet]:
        """Yields the packets to write, in the source's order, as far as the source can be read."""
        if not self._tracks:
            return
        for packet in self._read():
            clock = self._clocks.setdefault(packet.stream, Clock(packet.stream.type == "subtitle"))
            if not clock.set(packet):
                continue
            begin = (packet.pts or 0) * packet.time_base - self._start
            if self._time_range.duration is not None and begin >= self._time_range.duration + SPREAD:
                break
            if self._start and packet.time_base > COARSE:  # AVI's is a packet
                scale = packet.time_base / FINE
                packet.pts, packet.dts = round((packet.pts or 0) * scale), round((packet.dts or 0) * scale)
                packet.duration, packet.time_base = round((packet.duration or 0) * scale), FINE
            ticks = round(self._start / packet.time_base)
            packet.pts, packet.dts = (packet.pts or 0) - ticks, (packet.dts or 0) - ticks
            if self._fits(packet):
                yield from self._tracks[packet.stream].take(packet)
        lost = sum(clock.lost for clock in self._clocks.values())
        if lost:
            self._damaged(f"{count_noun(lost, 'packet')} of sound or subtitles {'is' if lost == 1 else 'are'} out of order")
        for track in self._tracks.values():
            yield from track.take(None)
        for stream, name in self._names.items():
            if undecodable := self._tracks[stream].lost():
                self._damaged(f"{undecodable} packets of {name} cannot be decoded")

    def _read(self) -> Iterator[Packet]:
        packets = self._source.demux(*self._tracks)
        while True:
            try:
                packet = next(packets, None)
            except IndexError:  # PyAV raises it at the end if a stream appeared that the header does not name
                return
            except av.FFmpegError:
                self._damaged("sound or subtitles cannot be read to their end")
                return
            if packet is None:
                return
            if packet.size and packet.time_base and self._clock.shift(packet):
                yield packet

    def _damaged(self, what: str) -> None:
        self.damage = f"{self.damage}; {what}" if self.damage else what

    def _fits(self, packet: Packet) -> bool:
        """Returns whether a part of the packet lies in the time range; text is cut to it."""
        if self._time_range == TimeRange():
            return True
        begin, tick = packet.pts or 0, packet.time_base
        end = begin + (packet.duration or 0)
        last = None if self._time_range.duration is None else round(self._time_range.duration / tick)
        early = -self._tracks[packet.stream].preroll / tick
        if (self._time_range.start and max(end, begin + 1) <= early) or (last is not None and begin >= last):
            return False
        if packet.stream.type == "subtitle" and packet.duration:
            begin = max(begin, 0) if self._time_range.start else begin
            packet.pts = packet.dts = begin
            packet.duration = (end if last is None else min(end, last)) - begin
        return True

    def first_packets(self) -> Iterator[Packet]:
        """Yields the packets to write for the first packet of each track, to find out whether that works; instead of `until`."""
        for stream, track in self._tracks.items():
            packet = self._probe.first_packet(stream)
            if packet is not None and packet.time_base and Clock(stream.type == "subtitle").set(packet):
                packet.pts = packet.dts = 0
                yield from track.take(packet)
            yield from track.take(None)

    def until(self, seconds: Fraction | None) -> Iterator[Packet]:
        """Yields the packets up to this time, or all that are left (None), so that they lie beside the frames in the file."""
        if self._next is None:
            self._next = next(self._packets_left, None)
        while self._next is not None:
            packet = self._next
            if seconds is not None and packet.dts is not None and packet.dts * packet.time_base > seconds:
                return
            yield packet
            self._next = next(self._packets_left, None)

    def __enter__(self) -> SideStreams:
        return self

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._source.close()
        self._probe.__exit__()


def _track_type(stream: Any) -> str:
    if stream.type == "video":
        return "cover image" if stream.disposition & Disposition.attached_pic else "further video track"
    return {"audio": "sound track", "subtitle": "subtitles"}.get(stream.type, f"{stream.type} track")
