"""Benchmarks run on small inputs and report consistent figures; what they measure is in benchmarks/README.md.

They run in this process through `main`, which saves an interpreter and PyTorch's import for each.
"""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import cv2
import pytest

from benchmarks import engines, frame_shapes, latency, students, viewers
from cyclecast.export.onnx import export_onnx
from cyclecast.measure import first_frames
from cyclecast.training.evaluate.flicker import warping_error
from cyclecast.training.loop import train
from tests.conftest import on_cuda

ROOT = Path(__file__).parent.parent
NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "__init__")


def run_benchmark(name: str, *args: str) -> tuple[int, str, str]:
    """Runs `python -m benchmarks.NAME ARGS` in this process. Returns exit code, stdout and stderr."""
    stdout, stderr, code, threads = io.StringIO(), io.StringIO(), 0, cv2.getNumThreads()
    main = importlib.import_module(f"benchmarks.{name}").main
    try:
        with patch.object(sys, "argv", [f"benchmarks.{name}", *args]), redirect_stdout(stdout), redirect_stderr(stderr):
            main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        cv2.setNumThreads(threads)
    return code, stdout.getvalue(), stderr.getvalue()


def export_in_size(module: ModuleType, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixes the frame size of the models that a benchmark exports, which takes a third of the time."""
    monkeypatch.setattr(module, "export_onnx", partial(export_onnx, size=size))


def figures_of(name: str, *args: str) -> dict[str, Any]:
    """Returns the JSON object that a benchmark prints."""
    code, stdout, stderr = run_benchmark(name, *args)
    assert code == 0, stderr
    figures = json.loads(stdout)
    assert isinstance(figures, dict)
    return figures


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_help_that_shows_its_command(name: str) -> None:
    code, stdout, _ = run_benchmark(name, "--help")
    assert code == 0 and f"python -m benchmarks.{name}" in stdout


def test_a_benchmark_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "benchmarks.memory", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "python -m benchmarks.memory" in done.stdout


def test_the_training_step_is_compared_with_the_plain_one() -> None:
    figures = figures_of("train_step", "--batch", "1", "--steps", "1", "--turns", "1", "--device", "cpu")
    (ours,), (plain,) = figures["ours_pairs_per_second"], figures["straight_pairs_per_second"]
    assert figures["ratio_of_medians"] == pytest.approx(ours / plain, rel=0.1)  # above 1 if ours is faster


def test_hd_frames_are_compared_with_the_papers_generator(tiny_model: Path) -> None:
    small = ["--sizes", "64x48", "32x32", "--turns", "2", "--frames", "2", "--threads", "1"]
    figures = figures_of("hd", "--model", str(tiny_model), *small)
    assert figures["device"].endswith(", 1 threads")
    assert (figures["model"], figures["frames"]) == ("tiny", {"ours": 2, "reference": 1})
    assert [row["size"] for row in figures["sizes"]] == ["64x48", "32x32"]
    for size in figures["sizes"]:
        assert len(size["reference_ms"]) == 2
        assert size["rows"][-1]["precision"] == "fp32" and size["rows"][-1]["psnr_db"] > 60
        for row in size["rows"]:
            assert row["precision"] in figures["matrix_rate_tera"] and len(row["ms"]) == 2
            assert min(size["reference_ms"]) > max(row["ms"])  # 4 channels against 64
            assert row["ratio_of_medians"] > 1


@pytest.fixture(scope="module")
def teacher(small_config: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CycleGAN run of one step."""
    run = tmp_path_factory.mktemp("teacher") / "run"
    train("cyclegan", small_config("cyclegan", run, steps=1, norm="none", generator="frame", width=8, blocks=3))
    return run


def test_shapes_of_the_frame_generator_are_trained_and_timed(
    teacher: Path, domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_shapes, "SIDE", 64)
    export_in_size(frame_shapes, (64, 48), monkeypatch)
    small = ["--steps", "1", "--shapes", "8x3x4", "8x3x8", "--size", "64x48", "--turns", "2"]
    paths = ["--teacher", str(teacher), "--data", str(domains), "--direction", "b2a", "--out", str(tmp_path / "shapes")]
    figures = figures_of("frame_shapes", *paths, *small)
    first, second = figures["rows"]
    assert (first["shape"], second["shape"]) == ("8x3x4", "8x3x8")
    assert first["bytes"] < second["bytes"] < 200_000  # 8x8 pixels in a cell need wider first and last layers
    assert (tmp_path / "shapes" / "8x3x4" / "checkpoint.pt").exists()
    page = (tmp_path / "shapes" / "index.html").read_text("utf-8")
    assert "factor 4" in page and "factor 8" in page


def test_students_are_compared_with_their_teachers(
    teacher: Path,
    small_config: Callable[..., Any],
    domains: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(students, "SIDE", 64)
    student = tmp_path / "student"
    settings = {"teacher": teacher, "direction": "b2a", "online": False, "teacher_scale": 0.5, "width": 8, "blocks": 3}
    train("distill", small_config("distill", student, steps=1, **settings))
    paths = [str(student), "--others", str(teacher), "--clips", str(clip), "--out", str(tmp_path / "sheets")]
    paths += ["--real", str(domains / "testA")]
    figures = figures_of("students", *paths, "--photos", "8", "--seconds", "0.2")["student"]
    assert set(figures) == {"teacher", "student", teacher.name, "photo itself"}
    assert figures["photo itself"]["structure_kept"] == 1
    assert figures["teacher"] == figures[teacher.name]  # one run under two names
    assert figures["student"]["kid"] != figures["teacher"]["kid"]
    floor = warping_error(first_frames(clip, 0.2), first_frames(clip, 0.2)).mean
    assert figures["photo itself"]["warping_error"][clip.stem] == pytest.approx(1e4 * floor, abs=0.01)
    assert (tmp_path / "sheets" / "student.jpg").stat().st_size > 2_000


def test_a_run_with_the_name_of_a_row_is_an_error() -> None:
    code, _, stderr = run_benchmark("students", "runs/student", "--others", "runs/teacher", "--out", "sheets")
    assert code == 2 and "rename the folder: teacher" in stderr


def test_latency_is_compared_with_the_models_time_and_the_clock_in_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    export_in_size(latency, (160, 120), monkeypatch)
    figures = figures_of("latency", "--size", "160x120", "--fps", "20", "--seconds", "1.2", "--slow-ngf", "4", "--threads", "1")
    assert figures["threads"] == 1
    assert [row["model"].rpartition("/")[2] for row in figures["rows"]] == ["monet", "resnet9-4.onnx"]
    for row in figures["rows"]:
        assert 0 < row["shown"] <= row["captured"] and row["fps"] <= 20 * 1.5
        assert row["allowed_p99_ms"] == pytest.approx(row["model_ms"]["p99"] + 100, abs=0.1)
    assert figures["clock"]["largest_difference_ms"] < 50  # a frame


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_a_soak_counts_memory_threads_and_handles() -> None:
    times = ["--minutes", "0.06", "--every", "0.2", "--settled", "1.2", "--first", "1.2"]
    figures = figures_of("soak", *times, "--", "pattern://160x96@20", "--sink", "null")
    assert figures["samples"] > 8
    assert figures["mib"]["first"] > 20  # an interpreter with its libraries
    assert figures["threads"]["first"] > 2 and figures["handles"]["first"] > 2
    assert figures["report"]["shown"] > 30


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_viewers_of_the_page_are_counted() -> None:
    pytest.importorskip("aiortc", reason="needs the extra web")
    figures = viewers.measure("pattern://160x96@20", mjpeg=2, webrtc=0, seconds=0.5, settle=0.0)
    assert (figures["mjpeg"], figures["webrtc"]) == (2, 0)
    assert figures["cores"] >= 0 and figures["mib"] > 20 and figures["fps"] > 1


def test_temporal_smoothing_is_compared_with_none(clip: Path, tiny_model: Path) -> None:
    small = ["--noise", "3", "--sizes", "64x48", "--turns", "1", "--seconds", "0.5"]
    figures = figures_of("steady", str(clip), "--models", str(tiny_model), *small)
    ((name, by_model),) = figures["clips"].items()
    errors = by_model[str(tiny_model)]["warping_error"]
    assert name == clip.name and errors["steady"] < errors["none"]
    assert [row["size"] for row in figures["sizes"]] == ["64x48"]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, on_cuda])])
def test_engines_are_compared_with_the_devices_matrix_rate(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    export_in_size(engines, (64, 48), monkeypatch)
    monkeypatch.setattr(engines, "matrix_rate", partial(engines.matrix_rate, seconds=0.1))
    figures = figures_of("engines", "--device", device, "--generator", "frame", "--sizes", "64x48", "--frames", "2")
    assert {row["engine"] for row in figures["rows"]} >= {"torch eager", "onnxruntime"}
    assert set(figures["tera_operations_per_second"]) == {"fp32", "bf16" if device == "cpu" else "fp16"}
    for row in figures["rows"]:
        assert row["ms"]["p50"] <= row["ms"]["p95"]
        assert row["share_of_matrix_rate"] is None or 0 < row["share_of_matrix_rate"] < 5  # about 1, on a busy machine too
