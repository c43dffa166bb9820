"""Benchmarks run; what they measure is for their own page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def figures_of(name: str, *args: str) -> dict[str, Any]:
    """What a benchmark prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *args], cwd=ROOT, capture_output=True, text=True, check=True
    )
    figures = json.loads(done.stdout)
    assert isinstance(figures, dict)
    return figures


def test_the_training_step_is_measured_against_the_straight_one() -> None:
    figures = figures_of("train_step", "--batch", "1", "--steps", "1", "--turns", "1")
    speeds = [figures[f"{name}_pairs_per_second"] for name in ("ours", "straight")]
    assert all(len(values) == 1 and values[0] > 0 for values in speeds)
    assert figures["ratio_of_medians"] > 0


def test_hd_frames_are_measured_against_the_papers_generator_in_its_plain_loop(tiny_model: Path) -> None:
    figures = figures_of("hd", "--model", str(tiny_model), "--sizes", "64x48", "32x32", "--turns", "2", "--frames", "2")
    assert (figures["model"], figures["frames"]) == ("tiny", {"ours": 2, "reference": 1})
    assert [row["size"] for row in figures["sizes"]] == ["64x48", "32x32"]
    for row in figures["sizes"]:
        assert len(row["ours_ms"]) == len(row["reference_ms"]) == 2 and min(row["ours_ms"] + row["reference_ms"]) > 0
        assert row["ratio_of_medians"] > 0
