"""Parts of a film on workers of Ray: a local cluster of two, one of which is killed midway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.killed import content
from cyclecast.video.convert import PART_FRAMES
from cyclecast.video.job import folder_of

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")


def command(clip: Path, out: Path, model: Path, *more: str) -> list[str]:
    program = [sys.executable, "-m", "cyclecast", "convert"]
    return [*program, str(clip), str(out), "-m", str(model), "--preset", "slower", "--json", *more]


def workers_of(process: int) -> Iterator[int]:
    """Processes below this one that are making a part."""
    parents, making = {}, []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            if Path(f"/proc/{entry}/cmdline").read_text().startswith("ray::make_part"):
                making.append(int(entry))
        except OSError:  # it has ended
            continue
    for worker in making:
        above = worker
        while above in parents and above != process:
            above = parents[above]
        if above == process:
            yield worker


def test_a_worker_that_dies_is_replaced_and_the_film_is_the_same(long_clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    alone, spread = tmp_path / "alone.mp4", tmp_path / "spread.mp4"
    subprocess.run(command(long_clip, alone, tiny_model), check=True, capture_output=True)
    process = subprocess.Popen(
        command(long_clip, spread, tiny_model, "--cluster", "auto"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    killed = None
    while killed is None and process.poll() is None:
        if list(folder_of(spread).glob("0*.mp4")):
            killed = next(workers_of(process.pid), None)
        time.sleep(0.005)
    assert killed is not None, process.communicate()
    os.kill(killed, signal.SIGKILL)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    report = json.loads(out)
    assert report["frames"] == 3 * PART_FRAMES + 10 and report["damage"] is None
    assert "Ray, 1 machine" in errors
    assert content(spread) == content(alone)
    assert spread.read_bytes() == alone.read_bytes()


def test_no_cluster_there_is_one_clear_line(clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command(clip, tmp_path / "out.mp4", tiny_model, "--cluster", "127.0.0.1:1"), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no Ray cluster at 127.0.0.1:1" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())
