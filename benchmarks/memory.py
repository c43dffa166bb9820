"""Compares the peak memory of `cyclecast convert` for a video of 30 minutes with that for one minute.

Both videos repeat a clip's own packets, sound included, up to the requested duration.

    python -m benchmarks.memory CLIP --work-height 144
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av


def repeat_clip(clip: Path, path: Path, seconds: float) -> int:
    """Writes a video that repeats the clip for at least `seconds`; returns its number of frames."""
    with av.open(str(clip)) as source:
        length = Fraction(source.duration or 0, 1_000_000)
        streams = [stream for stream in source.streams if stream.type in ("video", "audio")]
        packets: dict[int, list[tuple[Any, int, int, bytes, bool, int]]] = {stream.index: [] for stream in streams}
        for packet in source.demux(*streams):
            if packet.size and packet.pts is not None and packet.dts is not None:
                fields = (packet.time_base, packet.pts, packet.dts, bytes(packet), packet.is_keyframe, packet.duration or 0)
                packets[packet.stream.index].append(fields)
        frames = 0
        with av.open(str(path), "w") as out:
            copies = {stream.index: out.add_stream_from_template(stream, opaque=True) for stream in streams}
            for turn in range(int(seconds / length) + 1):
                for stream in streams:
                    for time_base, pts, dts, data, key, duration in packets[stream.index]:
                        packet = av.Packet(data)
                        shift = round(turn * length / time_base)
                        packet.pts, packet.dts, packet.time_base = pts + shift, dts + shift, time_base
                        packet.duration, packet.is_keyframe, packet.stream = duration, key, copies[stream.index]
                        out.mux(packet)
                        frames += stream.type == "video"
        return frames


def measure_peak(source: Path, output: Path, options: list[str]) -> tuple[float, int]:
    """Converts a video; returns its peak memory in MiB and the number of frames."""
    program = [sys.executable, "-m", "cyclecast", "convert", str(source), str(output), "--preset", "ultrafast", "--json"]
    process = subprocess.Popen([*program, *options], stdout=subprocess.PIPE)
    assert process.stdout is not None
    output_json = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the conversion of {source.name} failed")
    return used.ru_maxrss / 1024, json.loads(output_json)["frames"]


def main() -> None:
    """Prints one JSON object; exit code 1 if the long video took over 50 MiB more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--work-height", type=int)
    args = parser.parse_args()
    options = ["--work-height", str(args.work_height)] if args.work_height else []
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for minutes in (1.0, args.minutes):
            source = Path(name) / f"{minutes:g}.mp4"
            frames = repeat_clip(args.clip, source, 60 * minutes)
            mib, converted = measure_peak(source, Path(name) / "out.mp4", ["--overwrite", *options])
            assert converted == frames, (converted, frames)
            rows.append({"minutes": minutes, "frames": frames, "peak_mib": round(mib, 1)})
    difference = rows[1]["peak_mib"] - rows[0]["peak_mib"]
    print(json.dumps({"clip": args.clip.name, "work_height": args.work_height, "rows": rows, "more_mib": round(difference, 1)}))
    sys.exit(difference > 50)


if __name__ == "__main__":
    main()
