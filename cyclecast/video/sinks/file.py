"""Frames into a video file, each at its own time, next to the untouched sound of the source."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import cv2
import numpy as np
from av.container import InputContainer, OutputContainer
from av.video.stream import VideoStream

from cyclecast.errors import ConfigError, InputError, OutputError
from cyclecast.video.codecs import ENCODERS
from cyclecast.video.frame import Colour, Frame, StreamInfo
from cyclecast.video.sources.file import EXACT_COLOURS, open_container

CONTAINERS = {
    ".mp4": "h264",
    ".m4v": "h264",
    ".mov": "h264",
    ".mkv": "h264",
    ".webm": "vp9",
}  # suffix -> codec by default
MP4_FAMILY = (".mp4", ".m4v", ".mov")
# H.273's matrix -> swscale's name of it. Unspecified is taken as BT.601 both ways, so it comes out as it went in.
MATRICES = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020", 10: "BT2020"}
FULL_RANGE = 2


class VideoWriter:
    """Encodes frames and copies the sound of `sound_of` packet by packet. A context manager; `close` finishes the file.

    codec, crf, preset: None takes the container's and the encoder's own. OutputError if the container cannot hold what it
    is given or the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        info: StreamInfo,
        *,
        codec: str | None = None,
        crf: int | None = None,
        preset: str | None = None,
        sound_of: Path | None = None,
    ) -> None:
        if path.suffix.lower() not in CONTAINERS:
            raise OutputError(f"no container of that name; there are: {', '.join(CONTAINERS)}")
        codec = codec or CONTAINERS[path.suffix.lower()]
        if codec not in ENCODERS:
            raise ConfigError(f"no codec named {codec!r}; there are: {', '.join(ENCODERS)}")
        self.path, self.info = path, info
        self.frames = 0
        self.sound = "none"  # or copied
        self.dropped: list[str] = []
        """What of the source's sound could not be taken along, in words."""
        self._last_pts: int | None = None
        self._durations: dict[int, int] = {}  # of frames inside the encoder, by pts: most encoders forget them
        self._end = 0  # of the last frame shown, in ticks
        self._delay: int | None = None  # of the first frame, between decoding and showing, in ticks
        self._sound: Iterator[av.Packet[Any]] = iter(())
        self._open = contextlib.ExitStack()
        try:
            self._container = cast(OutputContainer, self._open.enter_context(self._opened(path)))
            self._stream = self._add_video(codec, crf, preset)
            if sound_of is not None:
                self._add_sound(sound_of)
            self._container.start_encoding()
            self._waiting = next(self._sound, None)  # the first sound packet not written yet
        except (av.FFmpegError, OSError, ValueError) as error:
            self._let_go()
            beside = " beside this sound; try .mkv, or --no-audio" if self.sound == "copied" else ""
            raise OutputError(f"cannot write {codec} video into {path.suffix}{beside} ({_reason(error)})") from error
        except BaseException:
            self._let_go()
            raise

    def _opened(self, path: Path) -> Any:
        # Sound often starts a little before 0 (AAC's priming): shifting everything to hide that would move the pictures.
        options = {"avoid_negative_ts": "disabled"}
        if path.suffix.lower() in MP4_FAMILY:
            options["movflags"] = "+faststart"  # the index in front: a player can begin before the whole file has come
        return av.open(os.path.abspath(path), "w", options=options)

    def _add_video(self, codec: str, crf: int | None, preset: str | None) -> VideoStream:
        encoder = ENCODERS[codec]
        options = {"crf": str(encoder.crf if crf is None else crf)}
        if encoder.name == "libvpx-vp9":
            options |= {"deadline": "good", "cpu-used": preset or "5", "row-mt": "1"}
        elif preset or encoder.preset:
            options["preset"] = preset or str(encoder.preset)
        stream = cast(VideoStream, self._container.add_stream(encoder.name, rate=self.info.rate, options=options))
        context, colour = stream.codec_context, self.info.colour
        # 4:2:0 has no odd sizes: the last row or column is repeated once.
        context.width, context.height = _even(self.info.width), _even(self.info.height)
        context.pix_fmt = "yuv420p"
        context.time_base = stream.time_base = self.info.time_base
        context.sample_aspect_ratio = self.info.pixel_aspect
        context.thread_type = "AUTO"
        # A source in RGB (a GIF) has matrix 0, which 4:2:0 cannot have.
        context.colorspace = colour.matrix if colour.matrix in MATRICES else Colour.matrix
        context.color_range = colour.range
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        try:
            context.open()
        except (av.FFmpegError, ValueError) as error:
            raise OutputError(f"the {codec} encoder does not take these settings ({_reason(error)})") from error
        return stream

    def _add_sound(self, path: Path) -> None:
        source = open_container(path)
        self._open.callback(source.close)
        tracks = {}
        for number, track in enumerate(source.streams.audio, 1):
            if track.codec_context is None:
                self.dropped.append(f"sound track {number}: its codec is unknown here")
                continue
            name = track.codec_context.codec.canonical_name
            if name not in self._container.supported_codecs:
                raise OutputError(f"{self.path.suffix} cannot hold {name} sound; use .mkv, or --no-audio")
            tracks[track] = self._container.add_stream_from_template(track)
            tracks[track].metadata.update(track.metadata)
        if tracks:
            self.sound = "copied"
            self._sound = _packets(path, source, tracks, self.info.start)

    def write(self, frame: Frame) -> None:
        """Encodes one frame; a time that does not move on is moved on by a tick, which is what a player would do."""
        pts = frame.pts if self._last_pts is None else max(frame.pts, self._last_pts + 1)
        self._last_pts = pts
        image = frame.image
        height, width = image.shape[:2]
        if (width, height) != (self.info.width, self.info.height):
            raise OutputError(f"a frame of {width}x{height} in a video of {self.info.width}x{self.info.height}")
        if width % 2 or height % 2:
            image = np.asarray(cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)
        picture = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(
            format="yuv420p",
            dst_colorspace=MATRICES.get(self.info.colour.matrix, "ITU601"),
            dst_color_range="JPEG" if self.info.colour.range == FULL_RANGE else "MPEG",
            interpolation=EXACT_COLOURS,
        )
        colour = self._stream.codec_context
        picture.colorspace, picture.color_range = colour.colorspace, colour.color_range
        picture.color_primaries, picture.color_trc = colour.color_primaries, colour.color_trc
        picture.pts, picture.time_base = pts, self.info.time_base
        self._durations[pts] = frame.duration
        self._encode(picture)
        self._copy_sound(until=pts * self.info.time_base)
        self.frames += 1

    def _encode(self, picture: av.VideoFrame | None) -> None:
        """One picture into the encoder (None: no more), and what comes out of it into the file."""
        try:
            packets = self._stream.encode(picture)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"the encoder failed ({_reason(error)})") from error
        for packet in packets:
            if packet.pts is not None and packet.dts is not None:
                duration = self._durations.pop(packet.pts, 0) or packet.duration or 0
                packet.duration = duration
                self._delay = packet.pts - packet.dts if self._delay is None else self._delay
                self._end = max(self._end, packet.pts + duration)
        if picture is None and packets and self.path.suffix.lower() in MP4_FAMILY:
            # MP4 sums up durations in decoding order, in which the last frame shown seldom is the last.
            last = packets[-1]
            last.duration = max(last.duration or 0, self._end - (last.dts or 0) - (self._delay or 0))
        self._mux(packets)

    def _mux(self, packets: Sequence[av.Packet[Any]]) -> None:
        try:
            self._container.mux(packets)
        except (av.FFmpegError, OSError) as error:
            hint = "; if it is the sound, --no-audio leaves it out" if self.sound == "copied" else ""
            raise OutputError(f"writing failed ({_reason(error)}){hint}") from error

    def _copy_sound(self, until: Any = None) -> None:
        """The packets due by `until` seconds, all that is left if None: sound and picture stay side by side in the file."""
        while self._waiting is not None:
            packet = self._waiting
            if until is not None and packet.dts is not None and packet.dts * packet.time_base > until:
                return
            self._mux([packet])
            self._waiting = next(self._sound, None)

    def close(self) -> None:
        """Flushes the encoder, copies the rest of the sound and finishes the container."""
        try:
            self._encode(None)
            self._copy_sound()
        except BaseException:
            self._let_go()
            raise
        try:
            self._open.close()
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"writing failed ({_reason(error)})") from error

    def _let_go(self) -> None:
        """Closes what is open of a file that is not going to be kept, whatever state it is in."""
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self._open.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            self._let_go()


def _packets(path: Path, source: InputContainer, tracks: dict[Any, Any], start: Fraction) -> Iterator[av.Packet[Any]]:
    """Every packet of these tracks, turned to its output stream, `start` seconds earlier; empty ones are left out."""
    try:
        for packet in source.demux(*tracks):
            if packet.dts is None or packet.pts is None:
                continue
            packet.stream = tracks[packet.stream]
            if start:
                ticks = round(start / packet.time_base)
                packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
            yield packet
    except (av.FFmpegError, IndexError) as error:
        raise InputError(f"{path}: its sound is damaged ({_reason(error)}); --no-audio leaves it out") from error


def _even(length: int) -> int:
    return length + length % 2


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
