"""Whether a conversion that is killed again and again ends as one that was left alone: `kill -9` at random moments, then resumed.

Each round starts `cyclecast convert`, kills it after a random part of the time that a whole run takes, starts it again until
it ends by itself, and compares every decoded picture, every time and every packet of sound with the uninterrupted run's.

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


def content(film: Path) -> str:
    """A hash of all that a player shows and plays: times and pictures, times and packets of sound."""
    digest = hashlib.sha256()
    with av.open(str(film)) as container:
        for frame in container.decode(video=0):
            digest.update(f"{(frame.pts or 0) * (frame.time_base or 0)}".encode())
            digest.update(frame.to_ndarray().tobytes())
    with av.open(str(film)) as container:
        for packet in container.demux(audio=0) if container.streams.audio else ():
            if packet.size:
                digest.update(f"{(packet.pts or 0) * packet.time_base}".encode())
                digest.update(bytes(packet))
    return digest.hexdigest()


def command(source: Path, output: Path, model: str, preset: str) -> list[str]:
    """The conversion."""
    return [sys.executable, "-m", "cyclecast", "convert", str(source), str(output), "--model", model, "--preset", preset]


def main() -> None:
    """Prints a line for each round and one JSON object; exit code 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="monet")
    parser.add_argument("--preset", default="ultrafast")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    dice = random.Random(args.seed)
    same, resumed = 0, 0
    with tempfile.TemporaryDirectory() as name:
        whole, film = Path(name) / "whole.mp4", Path(name) / "film.mp4"
        started = time.monotonic()
        subprocess.run(command(args.clip, whole, args.model, args.preset), check=True, capture_output=True)
        takes = time.monotonic() - started
        expected = content(whole)
        for number in range(args.times):
            film.unlink(missing_ok=True)
            after = dice.uniform(0.0, takes)
            process = subprocess.Popen(command(args.clip, film, args.model, args.preset), stderr=subprocess.DEVNULL)
            time.sleep(after)
            process.send_signal(signal.SIGKILL)
            process.wait()
            appeared = film.exists()
            done = subprocess.run(
                [*command(args.clip, film, args.model, args.preset), "--json", *(["--overwrite"] if appeared else [])],
                capture_output=True,
                text=True,
                check=True,
            )
            kept = json.loads(done.stdout)["resumed_frames"]
            equal = content(film) == expected and not folder_of(film).exists()
            same, resumed = same + equal, resumed + (kept > 0)
            print(
                f"{number + 1}: killed after {after:.2f} s, {kept} frames kept, {'equal' if equal else 'DIFFERS'}",
                file=sys.stderr,
            )
    print(json.dumps({"clip": args.clip.name, "model": args.model, "killed": args.times, "equal": same, "resumed": resumed}))
    sys.exit(same != args.times)


if __name__ == "__main__":
    main()
