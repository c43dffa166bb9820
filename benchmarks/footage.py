"""Checks that `convert` keeps footage intact: converts every clip of a folder with an identity model and compares.

Decodes source and output again and compares frames and timestamps, sound, color tags, size, and the PSNR of the luma as stored.
Luma is clipped to the displayed range, because a model never receives values beyond it. Exit code 1 if a check fails; the last
column names the failed checks.

    python -m benchmarks.footage FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cyclecast.errors import CyclecastError
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.frame import Image

MILLISECOND_CONTAINERS = (".mkv", ".webm")  # their timestamps are whole milliseconds
MIN_PSNR_DB = 38.0  # of the luma
FULL_RANGE = 2
SAMPLE_RATE = 48_000
BGR_TO_LUMA = np.array([0.114, 0.587, 0.299])


class Identity:
    """A frame function that returns its input."""

    identity = "same"

    def __call__(self, frame: Image, /) -> Image:
        return frame

    def prepare(self, width: int, height: int) -> None: ...


@dataclass
class Clip:
    """The comparison of one clip; pairs are (source, output)."""

    clip: str
    frames: tuple[int, int] = (0, 0)
    shift_s: float = 0.0
    """Subtracted from every timestamp, for sources that start after 0."""
    time_error_s: float = 0.0
    """The largest error of a frame's timestamp; 0 is exact."""
    audio: str = "none"
    audio_packets: tuple[int, int] = (0, 0)
    audio_s: tuple[float, float] = (0.0, 0.0)
    sync_error_s: float = 0.0
    """Copied sound: the largest error of a packet's timestamp. Transcoded sound: the shift of its waveform."""
    psnr_db: float = 0.0
    worst_psnr_db: float = 0.0
    """Of a single frame."""
    size: tuple[str, str] = ("", "")
    """As displayed."""
    colors: tuple[str, str] = ("", "")
    """Pixel format, then H.273's matrix, range, primaries and transfer."""
    damage: str | None = None
    dropped: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Names of the failed checks."""


def luma(frame: av.VideoFrame) -> NDArray[np.float32]:
    """Returns (H, W) upright luma as stored, clipped to the displayed range, on the scale of 8 bits; RGB by BT.601."""
    form = frame.format
    if form.is_rgb or form.has_palette:
        return np.asarray(frame.to_ndarray(format="bgr24") @ BGR_TO_LUMA, np.float32)
    plane, depth = frame.planes[0], form.components[0].bits
    samples = np.frombuffer(bytes(cast(Any, plane)), np.uint8 if depth <= 8 else np.uint16)
    samples = samples.reshape(plane.height, -1)[:, : plane.width]
    turned = np.rot90(samples, round(frame.rotation / 90) % 4)
    black, white = (0, 255) if frame.color_range == FULL_RANGE or form.name.startswith("yuvj") else (16, 235)
    return np.asarray(turned / 2 ** (depth - 8), np.float32).clip(black, white)


def luma_error(source: av.VideoFrame, output: av.VideoFrame) -> float:
    """Computes the mean square difference of the luma, without the row or column that pads an output to an even size."""
    one = luma(source)
    rgb = source.format.is_rgb or source.format.has_palette
    other = np.asarray(output.to_ndarray(format="bgr24") @ BGR_TO_LUMA, np.float32) if rgb else luma(output)
    return float(np.mean((one - other[: one.shape[0], : one.shape[1]]) ** 2))


def psnr_from_mse(mse: float) -> float:
    """Returns the PSNR in dB on the scale of 8 bits."""
    return round(float(10 * np.log10(255**2 / max(mse, 1e-9))), 2)


def timed_frames(container: Any) -> Iterator[tuple[av.VideoFrame, Fraction]]:
    """Yields each frame that decodes and its timestamp in seconds."""
    stream = container.streams.best("video")
    stream.thread_type = "AUTO"
    for packet in container.demux(stream):
        try:
            decoded = packet.decode()
        except av.FFmpegError:
            continue
        yield from ((frame, (frame.pts or 0) * stream.time_base) for frame in decoded)


def audio_packets(video: Path) -> list[tuple[Fraction, Fraction]]:
    """Lists start and duration, in seconds, of each packet of the first audio track."""
    with av.open(str(video)) as container:
        if not container.streams.audio:
            return []
        packets = [packet for packet in container.demux(audio=0) if packet.size and packet.pts is not None]
        return [((packet.pts or 0) * packet.time_base, (packet.duration or 0) * packet.time_base) for packet in packets]


def decode_audio(video: Path) -> NDArray[np.float32]:
    """Decodes the first audio track from time 0 on, mixed to one channel at `SAMPLE_RATE`."""
    with av.open(str(video)) as container:
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
        begin: int | None = None
        pieces = []
        for frame in container.decode(audio=0):
            begin = round((frame.pts or 0) * (frame.time_base or 0) * SAMPLE_RATE) if begin is None else begin
            pieces += [resampled.to_ndarray()[0] for resampled in resampler.resample(frame)]
    waves = np.concatenate(pieces)
    begin = begin or 0
    return waves[-begin:] if begin < 0 else np.concatenate([np.zeros(begin, np.float32), waves])


def waveform_shift(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Seconds by which `after` lags `before`, at the peak of their cross-correlation."""
    length = len(before) + len(after)
    correlation = np.fft.irfft(np.fft.rfft(after, length) * np.fft.rfft(before, length).conj(), length)
    lag = int(correlation.argmax())
    return (lag if lag < len(after) else lag - length) / SAMPLE_RATE


def compare_sound(source: Path, output: Path, result: Clip) -> None:
    """Fills in the fields about sound."""
    before, after = audio_packets(source), audio_packets(output)
    lengths = [float(max(a + b for a, b in spans) - min(a for a, _ in spans)) if spans else 0.0 for spans in (before, after)]
    result.audio_packets, result.audio_s = (len(before), len(after)), (round(lengths[0], 4), round(lengths[1], 4))
    if result.audio == "transcoded":
        result.sync_error_s = abs(waveform_shift(decode_audio(source), decode_audio(output)) + result.shift_s)
    elif result.audio == "copied":
        shift = Fraction(result.shift_s).limit_denominator(1_000_000)
        result.sync_error_s = float(max(abs(a - b - shift) for (a, _), (b, _) in zip(before, after, strict=False)))


def colors(stream: Any) -> str:
    """Returns the pixel format, then H.273's code points, of a stream of which a frame was decoded. Without a range: limited."""
    context = stream.codec_context
    tags = (context.colorspace, context.color_range or 1, context.color_primaries, context.color_trc)
    return f"{context.pix_fmt} {'/'.join(str(int(tag)) for tag in tags)}"


def compare_frames(source: Path, output: Path, result: Clip) -> None:
    """Fills in the fields about frames."""
    square_errors, errors, counts = [], [], [0, 0]
    with av.open(str(source)) as one, av.open(str(output)) as other:
        shift: Fraction | None = None
        for before, after in zip_longest(timed_frames(one), timed_frames(other)):
            counts[0] += before is not None
            counts[1] += after is not None
            if before is None or after is None:
                continue
            if shift is None:
                shift = before[1] - after[1]
                height, width = luma(before[0]).shape
                result.size = (f"{width}x{height}", f"{after[0].width}x{after[0].height}")
                if width + width % 2 != after[0].width or height + height % 2 != after[0].height:
                    result.broken.append("size")
                    return
            errors.append(abs(before[1] - after[1] - shift))
            square_errors.append(luma_error(before[0], after[0]))
        result.colors = (colors(one.streams.best("video")), colors(other.streams.best("video")))
    result.frames, result.shift_s = (counts[0], counts[1]), round(float(shift or 0), 6)
    result.time_error_s = float(max(errors, default=Fraction(0)))
    result.psnr_db, result.worst_psnr_db = (
        psnr_from_mse(float(np.mean(square_errors))),
        psnr_from_mse(max(square_errors)),
    )


def check_clip(source: Path, folder: Path, suffix: str, options: ConvertOptions) -> Clip:
    """Converts one clip and compares the output with it."""
    result, output = Clip(source.name), folder / f"{source.stem}{suffix}"
    try:
        report = convert_file(source, output, Identity(), options)
    except CyclecastError as error:
        result.broken.append(str(error))
        return result
    result.audio, result.dropped, result.notices, result.damage = (
        report.audio,
        report.dropped,
        report.notices,
        report.damage,
    )
    compare_frames(source, output, result)
    compare_sound(source, output, result)
    result.broken += failed_checks(result, suffix)
    output.unlink()
    return result


def failed_checks(result: Clip, suffix: str) -> list[str]:
    """Names of the failed checks."""
    if result.broken:
        return []
    tick = 0.001 if suffix in MILLISECOND_CONTAINERS else 0.0
    copied, (packets, output_packets) = result.audio == "copied", result.audio_packets
    before, after = result.colors[0].split(), result.colors[1].split()
    is_rgb = "rgb" in before[0] or "bgr" in before[0] or before[0] in ("pal8", "gbrp")
    checks = {
        "frames": result.frames[0] == result.frames[1],
        "times": result.time_error_s <= tick,
        "sound": (result.audio == "none") == (packets == 0) and (packets == output_packets or not copied),
        "length of the sound": abs(result.audio_s[0] - result.audio_s[1]) < (0.002 if copied else 0.1),
        "sync": result.sync_error_s <= 0.001,
        "luma": result.psnr_db >= MIN_PSNR_DB,
        "color tags": is_rgb or before[1] == after[1],
        "damage": result.damage is None,
    }
    return [name for name, passed in checks.items() if not passed]


def table(clips: list[Clip]) -> Table:
    """Returns the comparison as a table for the terminal."""
    out = Table("clip", "frames", "times", "sound", "packets", "seconds", "sync", "dB", "worst", "size", "colors", "remarks")
    for clip in clips:
        remarks = [*clip.broken, *clip.dropped, *clip.notices, *([clip.damage] if clip.damage else [])]
        out.add_row(
            clip.clip,
            _pair(clip.frames),
            f"{clip.time_error_s:g}",
            clip.audio,
            _pair(clip.audio_packets),
            _pair(clip.audio_s),
            f"{clip.sync_error_s:.2g}",
            f"{clip.psnr_db:.1f}",
            f"{clip.worst_psnr_db:.1f}",
            _pair(clip.size),
            _pair(clip.colors),
            ", ".join(remarks) or "-",
            style="red" if clip.broken else "",
        )
    return out


def _pair(values: tuple[Any, Any]) -> str:
    return str(values[0]) if values[0] == values[1] else f"{values[0]} -> {values[1]}"


def main() -> None:
    """Prints a table or one JSON object; exit code 1 if a check fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--container", default="mp4", help="container of the outputs (default mp4)")
    parser.add_argument("--codec")
    parser.add_argument("--crf", type=int, default=14)
    parser.add_argument("--preset")
    parser.add_argument("--pix-fmt")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    options = ConvertOptions(codec=args.codec, crf=args.crf, preset=args.preset, pix_fmt=args.pix_fmt, encoder="software")
    suffix = "." + args.container.lstrip(".")
    sources = sorted(path for path in args.folder.iterdir() if path.is_file() and not path.name.startswith("."))
    with tempfile.TemporaryDirectory() as name:
        clips = []
        for source in sources:
            clips.append(check_clip(source, Path(name), suffix, options))
            print(f"{source.name}: {', '.join(clips[-1].broken) or 'intact'}", file=sys.stderr)
    if args.json:
        print(json.dumps({"container": suffix[1:], "crf": args.crf, "clips": [asdict(clip) for clip in clips]}))
    else:
        Console(width=None if sys.stdout.isatty() else 240).print(table(clips))
    sys.exit(any(clip.broken for clip in clips))


if __name__ == "__main__":
    main()
