"""Checks that a killed and resumed conversion equals an uninterrupted one: `kill -9` at random moments, then the same command.

Each round starts `cyclecast convert`, kills it after a random part of the duration of a whole run, runs it again to the end,
and compares every decoded frame, timestamp and audio packet with those of the uninterrupted run.

    python -m benchmarks.killed CLIP --times 20
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av

from cyclecast.video.convert.job import folder_of


def content(video: Path) -> str:
    """Hashes everything that a player shows and plays: the timestamps and data of all frames and audio packets."""
    digest = hashlib.sha256()
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            digest.update(f"{(frame.pts or 0) * (frame.time_base or 0)}".encode())
            digest.update(frame.to_ndarray().tobytes())
    with av.open(str(video)) as container:
        for packet in container.demux(audio=0) if container.streams.audio else ():
            if packet.size:
                digest.update(f"{(packet.pts or 0) * packet.time_base}".encode())
                digest.update(bytes(packet))
    return digest.hexdigest()


def command(source: Path, output: Path, model: str, preset: str) -> list[str]:
    """Returns the command line of the conversion."""
    return [sys.executable, "-m", "cyclecast", "convert", str(source), str(output), "--model", model, "--preset", preset]


def main() -> None:
    """Prints a line for each round and one JSON object; exit code 1 if an output differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="monet")
    parser.add_argument("--preset", default="ultrafast")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    same, resumed = 0, 0
    with tempfile.TemporaryDirectory() as name:
        whole, output = Path(name) / "whole.mp4", Path(name) / "output.mp4"
        started = time.monotonic()
        subprocess.run(command(args.clip, whole, args.model, args.preset), check=True, capture_output=True)
        duration = time.monotonic() - started
        expected = content(whole)
        for number in range(args.times):
            output.unlink(missing_ok=True)
            after = rng.uniform(0.0, duration)
            process = subprocess.Popen(command(args.clip, output, args.model, args.preset), stderr=subprocess.DEVNULL)
            time.sleep(after)
            process.send_signal(signal.SIGKILL)
            process.wait()
            is_complete = output.exists()
            done = subprocess.run(
                [*command(args.clip, output, args.model, args.preset), "--json", *(["--overwrite"] if is_complete else [])],
                capture_output=True,
                text=True,
                check=True,
            )
            kept = json.loads(done.stdout)["resumed_frames"]
            equal = content(output) == expected and not folder_of(output).exists()
            same, resumed = same + equal, resumed + (kept > 0)
            print(
                f"{number + 1}: killed after {after:.2f} s, {kept} frames kept, {'equal' if equal else 'DIFFERS'}",
                file=sys.stderr,
            )
    print(json.dumps({"clip": args.clip.name, "model": args.model, "killed": args.times, "equal": same, "resumed": resumed}))
    sys.exit(same != args.times)


if __name__ == "__main__":
    main()
