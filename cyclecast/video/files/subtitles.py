"""Subtitles that are transcoded to the text format of the container."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
from av.container import OutputContainer
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

from cyclecast.video.files.tracks import Packet, copy_description

ONE_AT_A_TIME = frozenset({"mov_text"})  # codecs whose packets must not overlap: a player shows the next one late
SHORTEST = Fraction(3)  # seconds that a text without a duration is shown
FIELDS = 8  # of an ASS dialogue before its text
# ASS draws shapes with commands instead of text, between the tags {\p1} and {\p0}.
DRAWING = re.compile(rb"\{[^}]*\\p[1-9][^}]*\}.*?(\{[^}]*\\p0[^}]*\}|$)", re.DOTALL)
TAGS = re.compile(rb"\{[^}]*\}")


@dataclass
class _Cue:
    """A text and when it is shown, in ticks."""

    begin: int
    end: int
    dialogue: bytes


class Subtitles:
    """Transcodes text subtitles to the container's codec, which may not keep all of their styling.

    Texts that overlap are shown together for as long as they do, in codecs that show one at a time. report: called with a phrase
    for drawings, which are left out.
    """

    preroll = Fraction(0)

    def __init__(self, out: OutputContainer, stream: Any, codec: str, report: Callable[[str], None]) -> None:
        self._context: Any = stream.codec_context
        self._context.open(strict=False)
        self._stream = cast(Any, out.add_stream(codec))
        self._encoder = self._stream.codec_context
        self._encoder.subtitle_header = self._context.subtitle_header
        self._encoder.time_base = self._stream.time_base = Fraction(1, 1000)
        self._merges, self._report = codec in ONE_AT_A_TIME, report
        self._shown: list[_Cue] = []  # from `_at` on, the first one first
        self._at = -(1 << 62)  # everything before this tick is written
        self._tick = Fraction(1, 1000)
        self._drawings = 0
        copy_description(self._stream, stream)

    def take(self, packet: Packet | None) -> Sequence[Packet]:
        """Implements `Track.take`. Leaves out a text that cannot be decoded."""
        if packet is None:
            if self._drawings:
                self._report(f"{self._drawings} drawings")
            return self._write_until(None)
        dialogue = self._decode(packet)
        if dialogue is None:
            return ()
        self._tick, begin = packet.time_base, packet.pts or 0
        cue = _Cue(begin, begin + (packet.duration or round(SHORTEST / packet.time_base)), dialogue)
        if not self._merges:
            return self._encode(begin, cue.end, [cue])
        written = self._write_until(begin)
        self._shown.append(cue)
        return written

    def lost(self) -> int:
        """Implements `Track.lost`: such texts are not counted."""
        return 0

    def _decode(self, packet: Packet) -> bytes | None:
        """Decodes a packet to its ASS dialogue, without drawings; None if it has no text."""
        try:
            decoded = self._context.decode2(packet)
        except av.FFmpegError:  # no player could show it either
            return None
        lines = [rect.ass for rect in decoded or () if isinstance(rect, AssSubtitle)]
        if not lines:
            return None
        dialogue: bytes = _join(lines)
        text = dialogue.split(b",", FIELDS)[-1]
        kept = DRAWING.sub(b"", text)
        if kept != text:
            self._drawings += 1
            if not TAGS.sub(b"", kept).strip():
                return None
        return dialogue[: len(dialogue) - len(text)] + kept

    def _write_until(self, until: int | None) -> list[Packet]:
        """Writes what is shown before this tick (None: all), a packet for each time in which the same texts are shown."""
        packets: list[Packet] = []
        while self._shown and (until is None or self._at < until):
            begin = max(self._at, min(cue.begin for cue in self._shown))
            end = min(cue.end for cue in self._shown)
            end = end if until is None else min(end, until)
            if end > begin:
                packets += self._encode(begin, end, self._shown)
            self._at = max(begin, end)
            self._shown = [cue for cue in self._shown if cue.end > self._at]
        return packets

    def _encode(self, begin: int, end: int, cues: Sequence[_Cue]) -> list[Packet]:
        length_ms = round((end - begin) * self._tick * 1000)
        try:
            encoded = self._encoder.encode_subtitle(SubtitleSet.create(_join([cue.dialogue for cue in cues]), 0, length_ms))
        except av.FFmpegError:
            return []
        encoded.stream, encoded.time_base = self._stream, self._tick
        encoded.pts = encoded.dts = begin
        encoded.duration = end - begin
        return [encoded]


def _join(dialogues: Sequence[bytes]) -> bytes:
    """Joins the texts of all into one dialogue, each on lines of its own and with its own style."""
    first, *others = (dialogue.split(b",", FIELDS) for dialogue in dialogues)
    return b"{\\r}\\N".join([b",".join(first), *(fields[-1] for fields in others)])
