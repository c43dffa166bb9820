"""Whether footage comes through a conversion unharmed: every clip of a folder through a function that gives each frame back.

Compares the output with the source, both decoded anew: frames and their times, sound, color tags, shape, and the PSNR of the
brightness as the files hold it, cut to the range that a screen shows: what is whiter than white, no model is given. Exit code 1
if a promise is broken; what, is in the last column.

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

MILLISECONDS = (".mkv", ".webm")  # containers that know no finer time
SOFTEST = 38.0  # dB of the brightness that a clip must keep
FULL_RANGE = 2
HEARD_RATE = 48_000
BGR_TO_LUMA = np.array([0.114, 0.587, 0.299])


class Same:
    """Gives back what it gets."""

    identity = "same"

    def __call__(self, frame: Image, /) -> Image:
        return frame

    def prepare(self, width: int, height: int) -> None: ...


@dataclass
class Clip:
    """What became of one; pairs are of the source and of the output."""

    clip: str
    frames: tuple[int, int] = (0, 0)
    shift_s: float = 0.0
    """What was taken off every time: sources whose clock begins late."""
    time_error_s: float = 0.0
    """Of the picture that is furthest from its time; 0 is exact."""
    audio: str = "none"
    audio_packets: tuple[int, int] = (0, 0)
    audio_s: tuple[float, float] = (0.0, 0.0)
    sync_error_s: float = 0.0
    """Of a packet that was copied, at most; of sound that was encoded anew, how far its waves have moved."""
    psnr_db: float = 0.0
    worst_psnr_db: float = 0.0
    """Of a single picture."""
    size: tuple[str, str] = ("", "")
    """As displayed."""
    colors: tuple[str, str] = ("", "")
    """Pixel format, then H.273's matrix, range, primaries and transfer."""
    damage: str | None = None
    dropped: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Promises that were not kept."""


def luma(frame: av.VideoFrame) -> NDArray[np.float32]:
    """(H, W) upright brightness as the file holds it, but cut to what is shown, on the scale of 8 bits; of RGB by BT.601."""
    form = frame.format
    if form.is_rgb or form.has_palette:
        return np.asarray(frame.to_ndarray(format="bgr24") @ BGR_TO_LUMA, np.float32)
    plane, depth = frame.planes[0], form.components[0].bits
    samples = np.frombuffer(bytes(cast(Any, plane)), np.uint8 if depth <= 8 else np.uint16)
    samples = samples.reshape(plane.height, -1)[:, : plane.width]
    turned = np.rot90(samples, round(frame.rotation / 90) % 4)
    black, white = (0, 255) if frame.color_range == FULL_RANGE or form.name.startswith("yuvj") else (16, 235)
    return np.asarray(turned / 2 ** (depth - 8), np.float32).clip(black, white)


def brightness(source: av.VideoFrame, output: av.VideoFrame) -> float:
    """Mean square difference; an output's repeated row or column is left out."""
    one = luma(source)
    rgb = source.format.is_rgb or source.format.has_palette
    other = np.asarray(output.to_ndarray(format="bgr24") @ BGR_TO_LUMA, np.float32) if rgb else luma(output)
    return float(np.mean((one - other[: one.shape[0], : one.shape[1]]) ** 2))


def decibels(square: float) -> float:
    """PSNR of 8 bits."""
    return round(float(10 * np.log10(255**2 / max(square, 1e-9))), 2)


def pictures(container: Any) -> Iterator[tuple[av.VideoFrame, Fraction]]:
    """Each that decodes, and when it is shown, in seconds."""
    stream = container.streams.best("video")
    stream.thread_type = "AUTO"
    for packet in container.demux(stream):
        try:
            decoded = packet.decode()
        except av.FFmpegError:
            continue
        yield from ((frame, (frame.pts or 0) * stream.time_base) for frame in decoded)


def sound(film: Path) -> list[tuple[Fraction, Fraction]]:
    """When each packet of the first track begins and how long it lasts, in seconds."""
    with av.open(str(film)) as container:
        if not container.streams.audio:
            return []
        packets = [packet for packet in container.demux(audio=0) if packet.size and packet.pts is not None]
        return [((packet.pts or 0) * packet.time_base, (packet.duration or 0) * packet.time_base) for packet in packets]


def heard(film: Path) -> NDArray[np.float32]:
    """The first track from time 0 on, mixed to one channel at `HEARD_RATE`."""
    with av.open(str(film)) as container:
        resampler = av.AudioResampler("flt", "mono", HEARD_RATE)
        begin: int | None = None
        pieces = []
        for frame in container.decode(audio=0):
            begin = round((frame.pts or 0) * (frame.time_base or 0) * HEARD_RATE) if begin is None else begin
            pieces += [made.to_ndarray()[0] for made in resampler.resample(frame)]
    waves = np.concatenate(pieces)
    begin = begin or 0
    return waves[-begin:] if begin < 0 else np.concatenate([np.zeros(begin, np.float32), waves])


def moved(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Seconds by which these waves come later, where they agree best."""
    length = len(before) + len(after)
    agreement = np.fft.irfft(np.fft.rfft(after, length) * np.fft.rfft(before, length).conj(), length)
    lag = int(agreement.argmax())
    return (lag if lag < len(after) else lag - length) / HEARD_RATE


def compare_sound(source: Path, film: Path, found: Clip) -> None:
    """Fills in all that is heard."""
    before, after = sound(source), sound(film)
    lengths = [float(max(a + b for a, b in spans) - min(a for a, _ in spans)) if spans else 0.0 for spans in (before, after)]
    found.audio_packets, found.audio_s = (len(before), len(after)), (round(lengths[0], 4), round(lengths[1], 4))
    if found.audio == "transcoded":
        found.sync_error_s = abs(moved(heard(source), heard(film)) + found.shift_s)
    elif found.audio == "copied":
        shift = Fraction(found.shift_s).limit_denominator(1_000_000)
        found.sync_error_s = float(max(abs(a - b - shift) for (a, _), (b, _) in zip(before, after, strict=False)))


def colors(stream: Any) -> str:
    """Pixel format, then H.273's code points, once something was decoded; a range that is not named is the limited one."""
    context = stream.codec_context
    tags = (context.colorspace, context.color_range or 1, context.color_primaries, context.color_trc)
    return f"{context.pix_fmt} {'/'.join(str(int(tag)) for tag in tags)}"


def compare_pictures(source: Path, film: Path, found: Clip) -> None:
    """Fills in all that is seen."""
    squares, errors, counts = [], [], [0, 0]
    with av.open(str(source)) as one, av.open(str(film)) as other:
        shift: Fraction | None = None
        for before, after in zip_longest(pictures(one), pictures(other)):
            counts[0] += before is not None
            counts[1] += after is not None
            if before is None or after is None:
                continue
            if shift is None:
                shift = before[1] - after[1]
                height, width = luma(before[0]).shape
                found.size = (f"{width}x{height}", f"{after[0].width}x{after[0].height}")
                if width + width % 2 != after[0].width or height + height % 2 != after[0].height:
                    found.broken.append("size")
                    return
            errors.append(abs(before[1] - after[1] - shift))
            squares.append(brightness(before[0], after[0]))
        found.colors = (colors(one.streams.best("video")), colors(other.streams.best("video")))
    found.frames, found.shift_s = (counts[0], counts[1]), round(float(shift or 0), 6)
    found.time_error_s = float(max(errors, default=Fraction(0)))
    found.psnr_db, found.worst_psnr_db = decibels(float(np.mean(squares))), decibels(max(squares))


def examine(source: Path, folder: Path, suffix: str, options: ConvertOptions) -> Clip:
    """Converts one and compares."""
    found, film = Clip(source.name), folder / f"{source.stem}{suffix}"
    try:
        report = convert_file(source, film, Same(), options)
    except CyclecastError as error:
        found.broken.append(str(error))
        return found
    found.audio, found.dropped, found.notices, found.damage = report.audio, report.dropped, report.notices, report.damage
    compare_pictures(source, film, found)
    compare_sound(source, film, found)
    found.broken += broken(found, suffix)
    film.unlink()
    return found


def broken(found: Clip, suffix: str) -> list[str]:
    """Names of the promises that were not kept."""
    if found.broken:
        return []
    tick = 0.001 if suffix in MILLISECONDS else 0.0
    copied, (packets, made) = found.audio == "copied", found.audio_packets
    before, after = found.colors[0].split(), found.colors[1].split()
    is_rgb = "rgb" in before[0] or "bgr" in before[0] or before[0] in ("pal8", "gbrp")
    promises = {
        "frames": found.frames[0] == found.frames[1],
        "times": found.time_error_s <= tick,
        "sound": (found.audio == "none") == (packets == 0) and (packets == made or not copied),
        "length of the sound": abs(found.audio_s[0] - found.audio_s[1]) < (0.002 if copied else 0.1),
        "sync": found.sync_error_s <= 0.001,
        "brightness": found.psnr_db >= SOFTEST,
        "color tags": is_rgb or before[1] == after[1],
        "damage": found.damage is None,
    }
    return [name for name, kept in promises.items() if not kept]


def table(clips: list[Clip]) -> Table:
    """For people."""
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
    """Prints a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--container", default="mp4", help="of the outputs")
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
            clips.append(examine(source, Path(name), suffix, options))
            print(f"{source.name}: {', '.join(clips[-1].broken) or 'unharmed'}", file=sys.stderr)
    if args.json:
        print(json.dumps({"container": suffix[1:], "crf": args.crf, "clips": [asdict(clip) for clip in clips]}))
    else:
        Console(width=None if sys.stdout.isatty() else 240).print(table(clips))
    sys.exit(any(clip.broken for clip in clips))


if __name__ == "__main__":
    main()
