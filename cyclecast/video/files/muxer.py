"""Joins encoded parts and side streams into the output file. Frames are not encoded again, except for GIF."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import OutputContainer
from av.filter import Graph
from av.video.reformatter import VideoReformatter

from cyclecast.errors import OutputError
from cyclecast.phrases import count_noun
from cyclecast.video.alpha import read_alpha
from cyclecast.video.color import EXACT_COLOR_FLAGS
from cyclecast.video.files.decoding import has_alpha_additions
from cyclecast.video.files.side_streams import SideStreams
from cyclecast.video.files.tags import needs_keys
from cyclecast.video.files.writer import MP4_FAMILY, Part, decoding_times, extend_last, open_output, reason
from cyclecast.video.frame import Alpha, StreamInfo

# Codecs that store the pixel aspect. Matroska could too, but PyAV cannot set `AVStream.sample_aspect_ratio`.
BITSTREAM_ASPECT = ("h264", "hevc")
PRORES_TAGS = ("apch", "ap4h")  # of the profiles 422 HQ and 4444
SHORTEST_GIF_DELAY = 2  # hundredths of a second; browsers show a shorter one for ten


def assemble(parts: Sequence[Part], info: StreamInfo, path: Path, side_streams: SideStreams) -> None:
    """Joins the parts, in order, and the side streams into `path`. Raises OutputError if its container cannot hold them."""
    try:
        with (
            cast(OutputContainer, open_output(path, any_tags=needs_keys(side_streams.tags))) as out,
            _opened(parts[0]) as template,
        ):
            video = template.streams.video[0]
            stream: Any = out.add_stream_from_template(video, opaque=True)
            stream.time_base = info.time_base
            stream.codec_context.sample_aspect_ratio = info.pixel_aspect  # a template read from MP4 does not have it
            tag = video.codec_context.codec_tag
            if path.suffix.lower() in MP4_FAMILY and (tag == "hvc1" or tag in PRORES_TAGS):
                stream.codec_context.codec_tag = tag  # Apple's players open no other; FFmpeg would name another profile of ProRes
            stream.codec_context.framerate = info.rate
            if info.pixel_aspect != 1 and path.suffix.lower() in (".mkv", ".webm") and stream.name not in BITSTREAM_ASPECT:
                side_streams.dropped.append(
                    f"the shape of its pixels, {info.pixel_aspect.numerator}:{info.pixel_aspect.denominator}"
                )
            side_streams.add_to(out, stream, info.time_base)
            if has_alpha_additions(video):
                stream.metadata["alpha_mode"] = "1"  # or players ignore them
            out.start_encoding()
            for packet in _packets(parts, info.time_base, path.suffix.lower() in MP4_FAMILY):
                for other in side_streams.until((packet.dts or 0) * packet.time_base):
                    out.mux(other)
                packet.stream = stream
                out.mux(packet)
            for other in side_streams.until(None):
                out.mux(other)
    except (av.FFmpegError, OSError, ValueError) as error:
        hint = "; if it is the sound, --no-audio leaves it out" if side_streams.sound != "none" else ""
        raise OutputError(f"writing failed ({reason(error)}){hint}") from error


def _packets(parts: Sequence[Part], time_base: Fraction, sums_durations: bool) -> Iterator[av.Packet[Any]]:
    """Yields each packet with its times in the whole video; decoding times are those that one encoder would have set.

    sums_durations: the container takes the end of the last frame from the sum of all durations, as MP4 does.
    """
    depth = max(part.reordered for part in parts)
    before: list[int] = []  # pts of the last `depth` frames: the decoding times of the next
    delay: int | None = None
    last: int | None = None  # pts of the last frame of the part before
    for number, part in enumerate(parts):
        with _opened(part) as container:
            packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
        if len(packets) != part.frames:
            raise OutputError(f"{part.path}: {len(packets)} frames, expected {part.frames}")
        tick = time_base if part.counts_ticks else packets[0].time_base
        scale = time_base / tick  # a part's ticks in one of the video's

        def ticks(of_video: int, scale: Fraction = scale) -> int:
            return round(of_video * scale)

        for packet in sorted(packets, key=lambda packet: packet.pts or 0):
            packet.time_base, packet.pts = tick, (packet.pts or 0) + ticks(part.first)
            if last is not None:  # sources repeat times, between parts too
                packet.pts = max(packet.pts, last + 1)
            last = packet.pts
        shown = sorted(packet.pts for packet in packets if packet.pts is not None)
        if delay is None:
            before = decoding_times(shown, depth)[:depth]
            delay = shown[0] - (before + shown)[0]
        is_last = number == len(parts) - 1
        end = ticks(part.first + part.end if is_last else parts[number + 1].first)
        follows = dict(zip(shown, [*shown[1:], end], strict=True))
        decoded = before + shown
        for packet, dts in zip(packets, decoded, strict=False):
            assert packet.pts is not None
            packet.dts, packet.duration = dts, max(0, follows[packet.pts] - packet.pts)
        if is_last and sums_durations:
            extend_last(packets[-1], end, delay)
        before = decoded[len(decoded) - depth :]
        yield from packets


def assemble_gif(parts: Sequence[Part], info: StreamInfo, path: Path, side_streams: SideStreams) -> None:
    """Joins the parts into an animation that loops; each frame has 256 colors of its own."""
    skipped, is_blended = 0, False
    last = -SHORTEST_GIF_DELAY
    held = round((parts[-1].first + parts[-1].end - parts[-1].last) * info.time_base * 100)
    final = {"final_delay": str(min(held, 65_535))} if held >= SHORTEST_GIF_DELAY else {}
    try:
        with av.open(os.path.abspath(path), "w", format="gif", options=final) as out:
            stream: Any = out.add_stream("gif", rate=info.rate)
            stream.width, stream.height, stream.pix_fmt = info.width, info.height, "pal8"
            stream.time_base = stream.codec_context.time_base = Fraction(1, 100)
            side_streams.add_to(out, stream, Fraction(1, 100))
            opaque, transparent = (_palette_graph(info.width, info.height, has_alpha) for has_alpha in (False, True))
            for frame, alpha, seconds in _frames(parts, info):
                pts = round(seconds * 100)
                if pts < last + SHORTEST_GIF_DELAY:
                    skipped += 1
                    continue
                last = pts
                frame.pts, frame.time_base = pts, Fraction(1, 100)
                graph = opaque if alpha is None else transparent
                is_blended = is_blended or (alpha is not None and bool(((alpha > 0) & (alpha < 255)).any()))
                graph.push(frame)
                painted = cast(av.VideoFrame, graph.pull())
                painted.pts, painted.time_base = pts, Fraction(1, 100)
                out.mux(stream.encode(painted))
            out.mux(stream.encode(None))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise OutputError(f"writing failed ({reason(error)})") from error
    if skipped:
        side_streams.dropped.append(f"{count_noun(skipped, 'frame')} that followed within 0.02 s")
    if is_blended:
        side_streams.dropped.append("partial transparency (.gif has none: its pixels are opaque or fully transparent)")


def _opened(part: Part) -> Any:
    return av.open(os.path.abspath(part.path))  # absolute, or a colon in a name would read as a protocol


def _frames(parts: Sequence[Part], info: StreamInfo) -> Iterator[tuple[av.VideoFrame, Alpha | None, Fraction]]:
    """Yields each frame without the row or column that made its size even, its alpha, and its time in seconds.

    A frame is BGR and its alpha None if it is opaque; otherwise it is BGRA.
    """
    reformatter = VideoReformatter()
    for part in parts:
        with _opened(part) as container:
            for frame in container.decode(video=0):
                converted = reformatter.reformat(frame, format="bgr24", interpolation=EXACT_COLOR_FLAGS)
                image = np.asarray(converted.to_ndarray(), np.uint8)[: info.height, : info.width]
                tick = info.time_base if part.counts_ticks else frame.time_base or 0
                seconds = part.first * info.time_base + (frame.pts or 0) * tick
                alpha = read_alpha(frame)
                if alpha is None or bool((alpha == 255).all()):
                    yield av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24"), None, seconds
                else:
                    alpha = alpha[: info.height, : info.width]
                    yield av.VideoFrame.from_ndarray(np.dstack([image, alpha]), format="bgra"), alpha, seconds


def _palette_graph(width: int, height: int, has_alpha: bool) -> Graph:
    """Chooses 256 colors for each frame; with alpha, one of them is transparent and replaces pixels with an alpha below 128."""
    graph, form = Graph(), av.VideoFormat("bgra" if has_alpha else "bgr24")
    source = graph.add_buffer(width=width, height=height, format=form, time_base=Fraction(1, 100))
    split, palette = graph.add("split"), graph.add("palettegen", f"stats_mode=single:reserve_transparent={int(has_alpha)}")
    use, sink = graph.add("paletteuse", "new=1:dither=sierra2_4a"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
