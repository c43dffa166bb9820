"""Looks for leaks: runs `cyclecast live` for twenty minutes and samples its memory, threads and file handles.

Counts the command and its capture process together, every few seconds. Compares the peak memory of the first minute of video with
that of the rest, and threads and handles at the end of that minute with the last sample. Everything after `--` goes to
`cyclecast live`. Linux only: it reads /proc.

    python -m benchmarks.soak --minutes 20 -- pattern://640x360@30 --model monet --sink null
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def family(number: int) -> list[int]:
    """Returns the ids of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        children.setdefault(parent, []).append(int(folder.name))
    found = [number]
    for one in found:
        found.extend(children.get(one, []))
    return found


def sample(number: int) -> dict[str, float]:
    """Returns the private and shared memory in MiB, threads and open handles of a process and its descendants."""
    memory, threads, handles = 0.0, 0, 0
    for one in family(number):
        folder = Path("/proc") / str(one)
        try:
            fields = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            memory += sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem")) / 1024
            threads += int(fields["Threads"])
            handles += len(list((folder / "fd").iterdir()))
        except (OSError, KeyError):  # it has ended
            continue
    return {"mib": memory, "threads": threads, "handles": handles}


def soak(arguments: list[str], minutes: float, every: float, settled: float, first_seconds: float) -> dict[str, Any]:
    """Runs the command, samples it, and compares the first stretch with the rest."""
    command = [sys.executable, "-m", "cyclecast", "live", *arguments, "--seconds", str(60 * minutes), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    samples: list[tuple[float, dict[str, float]]] = []
    begin = time.monotonic()
    while process.poll() is None:
        samples.append((time.monotonic() - begin, sample(process.pid)))
        time.sleep(every)
    report = json.loads(process.communicate()[0])
    first = [one for at, one in samples if settled <= at < settled + first_seconds]
    rest = [one for at, one in samples if settled + first_seconds <= at < 60 * minutes]
    names = ("threads", "handles")
    return {
        "command": " ".join(["cyclecast live", *arguments]),
        "minutes": minutes,
        "samples": len(samples),
        "mib": {
            "first": round(max(one["mib"] for one in first), 1),
            "after_it": round(max(one["mib"] for one in rest), 1),
            "last": round(rest[-1]["mib"], 1),
        },
        **{
            name: {"first": int(first[-1][name]), "most": int(max(one[name] for one in rest)), "last": int(rest[-1][name])}
            for name in names
        },
        "report": report,
    }


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--every", type=float, default=5, help="seconds between two samples")
    parser.add_argument("--settled", type=float, default=10, help="seconds for the start and the compilation")
    parser.add_argument("--first", type=float, default=60, help="seconds of the first stretch, with which the rest is compared")
    parser.add_argument("live", nargs="+", help="arguments of cyclecast live, after --")
    args = parser.parse_args()
    print(json.dumps(soak(args.live, args.minutes, args.every, args.settled, args.first)))


if __name__ == "__main__":
    main()
