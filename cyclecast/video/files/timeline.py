"""The clock of a recording: where it jumps, as in concatenated files, and how it continues there.

Recordings of broadcasts and discs (MPEG transport and program streams, Ogg) may change their clock anywhere. A scan of all
packets finds the places. Other containers have one clock.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.format import Flags

from cyclecast.errors import InputError
from cyclecast.video.files.opening import open_container

BACK_S = 0.5  # a track's clock that goes back by more has jumped
FORWARD_S = 10.0  # a clock that is ahead of all tracks by more has jumped
TICKS = 90_000  # a second, in MPEG's streams
WRAP_S = (1 << 33) / TICKS  # their clock starts over after this time; FFmpeg adds it to times that lie far back
TAIL = 2 << 20  # bytes at the end of a file in which streams are looked for that its beginning lacks


@dataclass(frozen=True)
class Jump:
    """A place where the clock jumps."""

    seconds: Fraction
    """Negative: back."""
    after: Fraction
    """Seconds of the recording before it."""

    def description(self) -> str:
        """Describes the jump for messages: `back by 4.0 s after 2.0 s`."""
        where = "back" if self.seconds < 0 else "forward"
        return f"{where} by {abs(float(self.seconds)):.1f} s after {float(self.after):.1f} s"


@dataclass(frozen=True)
class Timeline:
    """Where the clock of a file jumps."""

    jumps: tuple[Jump, ...] = ()
    offsets: tuple[Fraction, ...] = ()
    """Seconds to add to the times after each jump, so that the clock continues; none if it is not mended."""
    entries: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Index of a stream -> (position of a packet in bytes, how many jumps are before it), where this number changes."""
    firsts: dict[int, int] = field(default_factory=dict)
    """Index of a stream -> position of its first packet, in bytes."""
    later: tuple[str, ...] = ()
    """The types of streams that are only at the end of the file, so that FFmpeg did not list them."""

    def notice(self) -> str | None:
        """Describes the jumps for the user, in a phrase; None if the clock never jumps."""
        if not self.jumps:
            return None
        more = f", and {len(self.jumps) - 1} more times" if len(self.jumps) > 1 else ""
        result = "the output continues without a gap" if self.offsets else "the output has this gap"
        return f"its clock jumps {self.jumps[0].description()}{more}, as in concatenated files; {result}"


class ClockMender:
    """Puts packets on one clock. They must come in the order of the file, for each stream.

    has_jumped: whether the last packet is the first of its stream after a jump.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._passed: dict[int, int] = {}  # index of a stream -> jumps before its last packet
        self.has_jumped = False
        self.mends = bool(timeline.offsets)
        """Whether some packets get other times."""

    def shift(self, packet: av.Packet[Any]) -> bool:
        """Changes the packet's times. Returns False for one from before a jump that FFmpeg outputs after it: it is left out."""
        if not self.mends:
            return True
        stream = packet.stream.index
        passed = before = self._passed.get(stream, 0)
        if packet.pos is not None:  # None: it is not the first of the packets that a demuxer found together
            entries = self._timeline.entries.get(stream, [])
            place = bisect_right(entries, (packet.pos, len(self._timeline.jumps)))
            passed = entries[place - 1][1] if place else 0
        if passed < before:
            return False
        if passed:
            ticks = round(self._timeline.offsets[passed - 1] / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        self._passed[stream], self.has_jumped = passed, passed > before
        return True


@dataclass
class _Piece:
    """Packets that follow one clock; all times in seconds."""

    position: int
    begin: float = float("inf")
    end: float = float("-inf")
    latest: float = float("-inf")
    """The latest decoding time."""

    def is_near(self, time: float) -> bool:
        """Returns whether a packet with this decoding time may follow the piece's clock."""
        return self.begin - FORWARD_S <= time <= self.latest + FORWARD_S

    def add(self, position: int, time: float, shown: float, duration: float) -> None:
        """Adds a packet."""
        self.position, self.latest = min(self.position, position), max(self.latest, time)
        self.begin, self.end = min(self.begin, shown), max(self.end, shown + duration)


@dataclass
class _Track:
    """A stream on its way through the pieces."""

    piece: int = 0
    last: float | None = None
    """Its last decoding time, in seconds."""
    entries: list[tuple[int, int]] = field(default_factory=list)

    def follow(self, pieces: list[_Piece], position: int, time: float) -> _Piece | None:
        """Returns the piece of the stream's next packet; a new one where no clock continues.

        Returns None for a packet from before a jump that FFmpeg outputs after it: the last one of a stream whose id changes.
        """
        own, newest = pieces[self.piece], pieces[-1]
        if self.entries and position < self.entries[-1][0]:
            return None
        earliest = own.begin - FORWARD_S if self.last is None else self.last - BACK_S
        continues = own.latest < own.begin or earliest <= time <= own.latest + FORWARD_S
        if own is not newest and newest.is_near(time) and (not continues or position > newest.position):
            self._enter(len(pieces) - 1, position)
        elif not continues:
            pieces.append(_Piece(position))
            self._enter(len(pieces) - 1, position)
        self.last = time
        return pieces[self.piece]

    def _enter(self, piece: int, position: int) -> None:
        self.piece = piece
        self.entries.append((position, piece))


def read_timeline(path: Path, mends: bool = True) -> Timeline:
    """Scans the timeline of a video file, only once as long as the file does not change.

    mends: False leaves all times as they are, and raises InputError for a clock that jumps back.
    """
    found = os.stat(path)
    timeline = _scan(Path(os.path.abspath(path)), found.st_size, found.st_mtime_ns)
    if mends:
        return timeline
    for jump in timeline.jumps:
        if jump.seconds < 0:
            advice = "split it there, or leave out --no-mend-clock"
            raise InputError(f"{path}: its clock jumps {jump.description()}, as in concatenated files; {advice}")
    return replace(timeline, offsets=())


@lru_cache(maxsize=16)
def _scan(path: Path, size: int, _modified_ns: int) -> Timeline:
    with open_container(path) as container:
        if not Flags(container.format.flags) & Flags.ts_discont:
            return Timeline()
        tracks = {stream.index: _Track() for stream in (*container.streams.video, *container.streams.audio)}
        pieces, firsts, position = [_Piece(0)], dict[int, int](), 0
        try:
            for packet in container.demux():
                index, position = packet.stream.index, packet.pos or position
                firsts.setdefault(index, position)
                if index in tracks and packet.size and packet.dts is not None:
                    tick = float(packet.time_base)
                    time, shown = packet.dts * tick, (packet.dts if packet.pts is None else packet.pts) * tick
                    piece = tracks[index].follow(pieces, position, time)
                    if piece is not None:
                        piece.add(position, time, shown, (packet.duration or 0) * tick)
        except (av.FFmpegError, IndexError):  # unreadable from here on, or a stream that the beginning lacks
            pass
        later = _later_streams(container, path, position if size - position > TAIL // 32 else size - TAIL)
    jumps, offsets = _join(pieces)
    return Timeline(jumps, offsets, {index: track.entries for index, track in tracks.items()}, firsts, later)


def _join(pieces: list[_Piece]) -> tuple[tuple[Jump, ...], tuple[Fraction, ...]]:
    """Returns the jumps between the pieces, and the seconds to add to each piece but the first to append it to the one before."""
    jumps: list[Jump] = []
    offsets: list[Fraction] = []
    offset = Fraction(0)
    for before, piece in zip(pieces, pieces[1:], strict=False):
        jump = piece.begin - before.end
        after = before.end + float(offset) - pieces[0].begin
        offset += Fraction(round(-jump * TICKS), TICKS)
        offsets.append(offset)
        jump -= WRAP_S if jump > WRAP_S / 2 else 0
        jumps.append(Jump(Fraction(jump), Fraction(after)))
    return tuple(jumps), tuple(offsets)


def _later_streams(container: InputContainer, path: Path, position: int) -> tuple[str, ...]:
    """Returns the types of streams that are in the file from this position on, but not in `container`."""
    if position <= 0:
        return ()
    known = {stream.id for stream in container.streams}
    try:
        with open_container(path, position=position) as tail:
            return tuple(stream.type for stream in tail.streams if stream.id not in known and stream.type in ("audio", "video"))
    except InputError:  # nothing that FFmpeg recognizes
        return ()
