"""Decodes the packets of a file into frames, skips what is broken, and counts it."""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
from av.codec.codec import UnknownCodecError
from av.container import InputContainer
from av.stream import Disposition

from cyclecast.errors import InputError
from cyclecast.phrases import count_noun
from cyclecast.video.files.timeline import ClockMender

LARGEST = 1 << 27  # pixels; a damaged header can ask for more memory than there is
TIMED_AS_DECODED = {("avi", "h264"), ("avi", "hevc")}  # container, codec: packets have decoding times only
LONGEST_GAP = 100_000  # packets; a longer gap is a jump of the clock
NEAR = 4  # packets; when FFmpeg marks one as corrupt in a transport stream, the gap is up to so many packets away
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # codec -> FFmpeg's decoder that also decodes the alpha
TOLERANCE = 1024  # bytes that an AVI file may lack: not all writers count alike
INFERRED = {"mpeg"}  # containers in which FFmpeg infers most times, counting from where it begins to read
PACKED = re.compile(rb"\x00\x00\x01\xb2DivX\d+(Build|b)\d+p")  # MPEG-4's user data, in the first packet of a video
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # how Matroska and WebM begin


@dataclass
class DecodeStats:
    """Counts of what went into a decoder and what came out."""

    packets: int = 0
    frames: int = 0
    entry: int = 0
    """The decoding time of the first packet."""
    first: int | None = None
    """The presentation time of its frame."""
    undecodable: list[int] = field(default_factory=list)
    """Decoding times of the packets at which the decoder reported an error."""
    torn_packets: int = 0
    """Packets that are incomplete in the container, or beside a gap or a splice."""
    gaps: int = 0
    """Packets that are missing beside a torn one, by their times."""
    patched_frames: int = 0
    """Frames in which the decoder filled in parts that it could not read."""
    unreadable: bool = False
    """The file cannot be read to its end."""
    packed: bool = False
    """Packets hold two frames, the second of which is shown first (XviD's packed B-frames), at the packet's decoding time."""

    @property
    def is_damaged(self) -> bool:
        return bool(self.undecodable or self.torn_packets or self.patched_frames)

    def problems(self) -> list[str]:
        """Returns a phrase for each type of damage."""
        phrases = {
            f"{count_noun(len(self.undecodable), 'packet')} cannot be decoded": len(self.undecodable),
            f"{count_noun(self.gaps, 'frame', 'are')} lost": self.gaps,
            f"{count_noun(self.patched_frames, 'frame', 'are')} damaged": self.patched_frames,
        }
        return [phrase for phrase, count in phrases.items() if count]


def main_video(container: InputContainer) -> av.VideoStream | None:
    """Returns the video stream that a player would show, not a cover image or images of chapters."""
    best = container.streams.best("video")
    streams = [stream for stream in (best, *container.streams.video) if isinstance(stream, av.VideoStream)]
    return next((stream for stream in streams if not stream.disposition & Disposition.attached_pic), None)


def main_stream(container: InputContainer, path: Path) -> av.VideoStream:
    """Returns the stream of `main_video`, set up for decoding. Raises InputError if none can be decoded."""
    stream = main_video(container)
    if stream is None:
        raise InputError(f"{path}: has no video stream{', only a cover image' if container.streams.video else ''}")
    if stream.codec_context is None:
        raise InputError(f"{path}: the codec of its video is unknown here")
    if stream.width * stream.height > LARGEST:
        raise InputError(f"{path}: says that its frames are {stream.width}x{stream.height}, more than {LARGEST} pixels")
    stream.codec_context.options = {"max_pixels": str(LARGEST)}
    stream.thread_type = "AUTO"
    return stream


def has_alpha_additions(stream: av.VideoStream) -> bool:
    """Returns whether packets of VP8 or VP9 come with those of an alpha plane, which FFmpeg's own decoders leave out."""
    says_so = any(name.lower() == "alpha_mode" and value == "1" for name, value in stream.metadata.items())
    return says_so and stream.codec_context.codec.canonical_name in ALPHA_DECODERS


def open_alpha_decoder(stream: av.VideoStream) -> av.VideoCodecContext | None:
    """Returns a decoder for a stream of `has_alpha_additions`; None for other streams, or if this FFmpeg has none."""
    if not has_alpha_additions(stream):
        return None
    usual = stream.codec_context
    try:
        decoder = av.CodecContext.create(ALPHA_DECODERS[usual.codec.canonical_name], "r")
    except UnknownCodecError:
        return None
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.extradata, decoder.options, decoder.thread_count = usual.extradata, usual.options, usual.thread_count
    return decoder


def packets_of(container: InputContainer, stream: av.VideoStream, stats: DecodeStats) -> Iterator[av.Packet[Any] | None]:
    """Yields the stream's packets that are not empty, then None, which makes a decoder output the rest."""
    try:
        yield from (packet for packet in container.demux(stream) if packet.size)  # an empty one would end the decoder's work
    except av.FFmpegError:  # unreadable from here on
        stats.unreadable = True
    except IndexError:  # PyAV raises it at the end if a stream appeared that the header does not name
        pass
    yield None


def frames_of(
    container: InputContainer,
    stream: av.VideoStream,
    stats: DecodeStats,
    clock: ClockMender | None = None,
    is_damaged: Callable[[int, int | None], bool] | None = None,
) -> Iterator[av.VideoFrame]:
    """Decodes packet by packet, so that a damaged one costs its own frames only; to the end, whatever the header states.

    clock: puts the packets on one clock. is_damaged: confirms the flag of a corrupt frame, see `FlagCheck.is_damaged`; None: the
    flag decides.
    """
    decoder = open_alpha_decoder(stream) or stream
    is_sorted_here = times_follow_decoding(container, stream)
    is_seekable = can_seek(container, stream) and not (clock and clock.mends)
    times: list[int] = []  # a heap: times of packets whose frames the decoder has not output yet
    before: int | None = None  # decoding time of the packet before
    watched = 0  # look for a gap in so many packets from here
    for packet in packets_of(container, stream, stats):
        if packet is not None:
            if clock and not clock.shift(packet):
                continue
            if not stats.packets:
                stats.entry, stats.first = packet.dts or 0, packet.pts
                stats.packed = container.format.name == "avi" and PACKED.search(bytes(packet)) is not None
            watched = NEAR if packet.is_corrupt and container.format.name == "mpegts" else watched - 1
            stats.gaps += _gap(packet, before) if watched > 0 and not (clock and clock.has_jumped) else 0
            before = packet.dts
            stats.packets += 1
            stats.torn_packets += packet.is_corrupt
            time = packet.dts if stats.packed else packet.pts
            if (is_sorted_here or stats.packed) and time is not None:
                heapq.heappush(times, time)
        try:
            frames = decoder.decode(packet)
        except (av.FFmpegError, MemoryError):
            stats.undecodable.append(before or 0)
            if times:
                heapq.heappop(times)  # of this packet, or of one near it
            continue
        for frame in frames:
            stats.frames += 1
            if frame.is_corrupt:
                stats.patched_frames += is_damaged is None or is_damaged(stats.frames, frame.pts if is_seekable else None)
            if times:
                frame.pts = heapq.heappop(times)
            yield frame


def _gap(packet: av.Packet[Any], before: int | None) -> int:
    """Returns how many packets are missing between the one with decoding time `before` and this one."""
    if before is None or packet.dts is None or not packet.duration:
        return 0
    missing = round((packet.dts - before) / packet.duration) - 1
    return missing if 0 < missing < LONGEST_GAP else 0


def can_seek(container: InputContainer, stream: av.VideoStream) -> bool:
    """Returns whether frames after a seek have the same times as in a run from the start."""
    return container.format.name not in INFERRED and not times_follow_decoding(container, stream)


def times_follow_decoding(container: InputContainer, stream: av.VideoStream) -> bool:
    """Returns whether packets have decoding times only; in sorted order these are the presentation times."""
    return (container.format.name, stream.codec_context.codec.canonical_name) in TIMED_AS_DECODED


def missing_bytes(path: Path) -> int:
    """Returns how many bytes a Matroska, WebM or AVI file is shorter than its header says; 0 if it says nothing."""
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
        end = int.from_bytes(head[4:8], "little") - TOLERANCE
    return max(0, end - os.path.getsize(path))


def _ebml_size(data: bytes, at: int) -> tuple[int | None, int]:
    """Reads a length in EBML's coding (RFC 8794, section 6). Returns it and where it ends; None for an unknown length."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    unknown = length > 8 or at + length > len(data) or value == (1 << 7 * length) - 1
    return None if unknown else value, at + length
