"""Benchmarks run; what they measure is for their own page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cyclecast.training.loop import train
from tests.conftest import on_cuda

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


@pytest.fixture(scope="module")
def teacher(smallest: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A painter that has learnt next to nothing."""
    run = tmp_path_factory.mktemp("teacher") / "run"
    train("cyclegan", smallest("cyclegan", run, steps=1, norm="none"))
    return run


def test_shapes_of_the_frame_generator_are_timed_and_judged(teacher: Path, domains: Path, tmp_path: Path) -> None:
    small = ["--steps", "2", "--shapes", "8x3x4", "8x3x8", "--size", "64x48", "--turns", "2"]
    places = ["--teacher", str(teacher), "--data", str(domains), "--direction", "b2a", "--out", str(tmp_path / "shapes")]
    figures = figures_of("frame_shapes", *places, *small)
    assert [row["shape"] for row in figures["rows"]] == ["8x3x4", "8x3x8"]
    assert all(row["ms"] > 0 and row["psnr_db"] > 0 and row["bytes"] < 200_000 for row in figures["rows"])
    page = (tmp_path / "shapes" / "index.html").read_text("utf-8")
    assert "factor 4" in page and "factor 8" in page


def test_students_are_set_beside_their_teachers(
    teacher: Path, smallest: Callable[..., Any], domains: Path, clip: Path, tmp_path: Path
) -> None:
    student = tmp_path / "student"
    settings = {"teacher": teacher, "direction": "b2a", "online": False, "teacher_scale": 0.5, "width": 8, "blocks": 3}
    train("distill", smallest("distill", student, steps=2, **settings))
    places = [str(student), "--others", str(teacher), "--clips", str(clip), "--out", str(tmp_path / "sheets")]
    places += ["--real", str(domains / "testA")]
    figures = figures_of("students", *places, "--photos", "8", "--seconds", "0.2")["student"]
    assert set(figures) == {"teacher", "student", teacher.name, "photo itself"}
    assert figures["photo itself"]["structure_kept"] == 1
    assert figures["teacher"] == figures[teacher.name]  # one run under two names
    assert figures["student"]["kid"] != figures["teacher"]["kid"]
    assert all(row["warping_error"][clip.stem] >= 0 for row in figures.values())
    assert (tmp_path / "sheets" / "student.jpg").stat().st_size > 10_000


def test_a_run_that_would_take_the_teachers_row_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks.students", "runs/student", "--others", "runs/teacher", "--out", "sheets"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "rename the folder: teacher" in done.stderr


def test_latency_is_measured_against_the_models_time_and_by_the_clock_in_the_picture() -> None:
    figures = figures_of("latency", "--size", "320x240", "--fps", "20", "--seconds", "1.5", "--slow-ngf", "4")
    assert [row["model"].rpartition("/")[2] for row in figures["rows"]] == ["monet", "resnet9-4.onnx"]
    for row in figures["rows"]:
        assert row["captured"] == row["shown"] + row["skipped"] and row["shown"] > 0
        assert row["allowed_p99_ms"] == pytest.approx(row["model_ms"]["p99"] + 100, abs=0.1)
        assert row["p99_over_allowed"] == pytest.approx(row["latency_ms"]["p99"] / row["allowed_p99_ms"], abs=0.01)
    assert figures["clock"]["largest_difference_ms"] < 50  # a frame


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_a_soak_counts_memory_threads_and_handles() -> None:
    places = ["--minutes", "0.1", "--every", "0.2", "--settled", "1.5", "--first", "1.5"]
    figures = figures_of("soak", *places, "--", "pattern://160x96@20", "--sink", "null")
    assert figures["samples"] > 10
    for name in ("mib", "threads", "handles"):
        assert figures[name]["first"] > 0 and figures[name]["last"] > 0
    assert figures["report"]["shown"] > 50


def test_the_steady_picture_is_measured_against_none(clip: Path, tiny_model: Path) -> None:
    small = ["--noise", "3", "--sizes", "64x48", "--turns", "1", "--seconds", "0.5"]
    figures = figures_of("steady", str(clip), "--models", str(tiny_model), *small)
    assert figures["clips"].keys() == {clip.name}
    assert figures["sizes"][0]["median_ms"]["steady"] > 0


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, on_cuda])])
def test_engines_are_held_against_the_devices_matrix_rate(device: str) -> None:
    figures = figures_of("engines", "--device", device, "--generator", "frame", "--sizes", "64x48", "--frames", "2")
    assert {row["engine"] for row in figures["rows"]} >= {"torch eager", "onnxruntime"}
    assert set(figures["tera_operations_per_second"]) == {"fp32", "bf16" if device == "cpu" else "fp16"}
    for row in figures["rows"]:
        assert row["share_of_matrix_rate"] > 0 and row["ms"]["p50"] <= row["ms"]["p95"] and row["fps"] > 0
