"""Packets of a file into frames, whatever is wrong with some of them, and a count of what was."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

from cyclecast.errors import InputError

LARGEST = 1 << 27  # pixels; a header that was damaged can ask for more memory than there is
TIMED_AS_DECODED = {("avi", "h264"), ("avi", "hevc")}  # container, codec: pictures come out of order, and no time says so
LONGEST_GAP = 100_000  # packets; more are a jump of the clock
NEAR = 4  # packets; a transport stream's reader is so far ahead when it notices
SLOPPY = 1024  # bytes that an AVI file may miss: not all writers count alike
INFERRED = {"mpeg"}  # containers whose packets have few times, the others being made up, from where one begins to read
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # how Matroska and WebM begin


@dataclass
class DecodeStats:
    """What a decoder was given and what it gave."""

    packets: int = 0
    frames: int = 0
    entry: int = 0
    """Decoding time of the first packet."""
    first: int | None = None
    """When its frame is shown."""
    undecodable: list[int] = field(default_factory=list)
    """Decoding times of the packets at which an error came up."""
    torn_packets: int = 0
    """Packets of which the container misses something, or that lie beside a gap or a join."""
    gaps: int = 0
    """Packets that are missing near a torn one, by their times."""
    patched_frames: int = 0
    """Frames in which the decoder filled in what it could not read."""
    unreadable: bool = False
    """The file breaks off in a way that its container does not allow."""

    @property
    def flawed(self) -> bool:
        """Not all was as it should be."""
        return bool(self.undecodable or self.torn_packets or self.patched_frames)

    def told(self) -> list[str]:
        """What was wrong, in words."""
        undecodable = len(self.undecodable)
        counts = (
            (undecodable, "packets cannot be decoded"),
            (self.gaps, "frames are lost"),
            (self.patched_frames, "frames are damaged"),
        )
        return [f"{count} {what}" for count, what in counts if count]


def main_stream(container: InputContainer, path: Path) -> av.VideoStream:
    """Its pictures, ready to be decoded; a cover is none. InputError if there are none that could be."""
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream):
        raise InputError(f"{path}: has no video stream")
    if stream.codec_context is None:
        raise InputError(f"{path}: the codec of its video is unknown here")
    if stream.width * stream.height > LARGEST:
        raise InputError(f"{path}: says that its frames are {stream.width}x{stream.height}, more than {LARGEST} pixels")
    stream.codec_context.options = {"max_pixels": str(LARGEST)}
    stream.thread_type = "AUTO"
    return stream


def packets_of(container: InputContainer, stream: av.VideoStream, count: DecodeStats) -> Iterator[av.Packet[Any] | None]:
    """Those of the stream that are not empty, then None, for which a decoder gives out what it still has."""
    try:
        yield from (packet for packet in container.demux(stream) if packet.size)  # an empty one would end the decoder's work
    except av.FFmpegError:  # unreadable from here on
        count.unreadable = True
    except IndexError:  # how PyAV ends if a stream appeared that the header did not name; all others are through
        pass
    yield None


def frames_of(container: InputContainer, stream: av.VideoStream, count: DecodeStats) -> Iterator[av.VideoFrame]:
    """Packet by packet, so that a damaged one costs its own frames only; to the end, whatever the header says."""
    sorts = times_follow_decoding(container, stream)
    times: list[int] = []  # of packets whose frames have not come: a heap
    before: int | None = None  # decoding time of the packet before
    watched = 0  # for so many packets from here
    for packet in packets_of(container, stream, count):
        if packet is not None:
            if not count.packets:
                count.entry, count.first = packet.dts or 0, packet.pts
            watched = NEAR if packet.is_corrupt and container.format.name == "mpegts" else watched - 1
            count.gaps += _gap(packet, before) if watched > 0 else 0
            before = packet.dts
            count.packets += 1
            count.torn_packets += packet.is_corrupt
            if sorts and packet.pts is not None:
                heapq.heappush(times, packet.pts)
        try:
            frames = stream.decode(packet)
        except (av.FFmpegError, MemoryError):
            count.undecodable.append(before or 0)
            if times:
                heapq.heappop(times)  # its own, or one near it
            continue
        for frame in frames:
            count.frames += 1
            count.patched_frames += frame.is_corrupt
            if times:
                frame.pts = heapq.heappop(times)
            yield frame


def _gap(packet: av.Packet[Any], before: int | None) -> int:
    """How many packets should have come between the one of that decoding time and this."""
    if before is None or packet.dts is None or not packet.duration:
        return 0
    missing = round((packet.dts - before) / packet.duration) - 1
    return missing if 0 < missing < LONGEST_GAP else 0


def can_be_entered(container: InputContainer, stream: av.VideoStream) -> bool:
    """The frames from a key frame on have the times that they have in a run from the start."""
    return container.format.name not in INFERRED and not times_follow_decoding(container, stream)


def times_follow_decoding(container: InputContainer, stream: av.VideoStream) -> bool:
    """Packets have the times at which they are decoded: sorted, those at which frames are shown."""
    return (container.format.name, stream.codec_context.codec.canonical_name) in TIMED_AS_DECODED


def missing_bytes(path: Path) -> int:
    """By how many bytes a Matroska, WebM or AVI file is shorter than it says at its beginning; 0 if it says nothing."""
    with open(path, "rb") as file:
        head = file.read(4096)
    end = 0
    if head[:4] == EBML:
        size, at = _ebml_size(head, 4)
        begin = at + (size or 0)
        if head[begin : begin + 4] == SEGMENT:
            size, at = _ebml_size(head, begin + 4)
            end = 0 if size is None else at + size
    elif head[:4] == b"RIFF" and head[4:8] != b"\xff\xff\xff\xff":
        end = int.from_bytes(head[4:8], "little") - SLOPPY
    return max(0, end - os.path.getsize(path))


def _ebml_size(data: bytes, at: int) -> tuple[int | None, int]:
    """(a length as EBML writes it (RFC 8794, 6), where it ends); None for one that was not known."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    unknown = length > 8 or at + length > len(data) or value == (1 << 7 * length) - 1
    return None if unknown else value, at + length
