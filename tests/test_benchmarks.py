"""Benchmarks run; what they measure is for their own page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_the_training_step_is_measured_against_the_straight_one() -> None:
    command = [sys.executable, "-m", "benchmarks.train_step", "--batch", "1", "--steps", "1", "--turns", "1"]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    speeds = [figures[f"{name}_pairs_per_second"] for name in ("ours", "straight")]
    assert all(len(values) == 1 and values[0] > 0 for values in speeds)
    assert figures["ratio_of_medians"] > 0
