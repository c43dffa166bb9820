"""Looks into the tracks of a source before they are muxed: what they hold, and parameters that the header lacks."""

from __future__ import annotations

import io
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import av

from cyclecast.errors import InputError
from cyclecast.video.files.opening import open_container
from cyclecast.video.files.timeline import Timeline
from cyclecast.video.files.tracks import Copied, Packet

LOOK_AHEAD = 1000  # packets of the file among which the first of each track is searched
LOOK_AHEAD_BYTES = 16 << 20
BEFORE = (0, 1 << 16, 1 << 20)  # bytes before a packet at which to look for the tables that describe a transport stream


def can_hold(format_name: str, stream: Any, packet: Packet | None = None) -> bool:
    """Returns whether a container of this format can hold the stream as it is: FFmpeg's lists are wrong.

    Writes a header to find out, and a copy of `packet` if there is one: some packets are rejected only then.
    """
    trial: Any = av.open(io.BytesIO(), "w", format=format_name)
    try:
        track = Copied(trial, stream)
        trial.start_encoding()
        if packet is not None:
            copy: Packet = av.Packet(bytes(packet))
            copy.pts = copy.dts = 0
            copy.duration, copy.time_base = packet.duration, packet.time_base
            trial.mux(track.take(copy))
            trial.close()
    except (av.FFmpegError, ValueError):
        return False
    finally:
        with suppress(av.FFmpegError):
            trial.close()
    return True


class TrackProbe:
    """Reads a file beside the one that muxes it. A context manager."""

    def __init__(self, path: Path, timeline: Timeline) -> None:
        self._path, self._timeline = path, timeline
        self._first_packets: dict[int, Packet] | None = None
        self._open = ExitStack()

    def described(self, stream: Any) -> Any | None:
        """Returns the stream, opened where its sound begins if the header does not describe it; None if nothing describes it.

        A broadcast lists sound that begins later than FFmpeg looks ahead: then it has no sampling rate and no channels.
        """
        if stream.type != "audio" or (stream.codec_context.sample_rate and stream.codec_context.layout.nb_channels):
            return stream
        if not self._timeline.firsts:  # not a broadcast
            return stream
        position = self._timeline.firsts.get(stream.index)
        for before in () if position is None else BEFORE:
            with suppress(InputError):
                container = self._open.enter_context(open_container(self._path, position=max(1, (position or 0) - before)))
                for other in container.streams.audio:
                    if other.id == stream.id and other.codec_context.sample_rate:
                        return other
        return None

    def first_packet(self, stream: Any) -> Packet | None:
        """Returns the first packet of the stream; None if it begins late in the file."""
        if self._first_packets is None:
            self._first_packets = {}
            with open_container(self._path) as container, suppress(av.FFmpegError, IndexError):
                for count, packet in enumerate(container.demux()):
                    if packet.size:
                        self._first_packets.setdefault(packet.stream.index, packet)
                    if count >= LOOK_AHEAD or (packet.pos or 0) > LOOK_AHEAD_BYTES:
                        break
        return self._first_packets.get(stream.index)

    def can_decode(self, stream: Any) -> bool:
        """Returns whether any packet of the stream can be decoded. Reads on until one can."""
        with open_container(self._path) as container, suppress(av.FFmpegError, IndexError):
            own: Any = container.streams[stream.index]
            for packet in container.demux(own):
                with suppress(av.FFmpegError):
                    if own.codec_context.decode(packet):
                        return True
        return False

    def __enter__(self) -> TrackProbe:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
