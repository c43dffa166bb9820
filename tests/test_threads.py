"""`--threads` and `--background`: how many cores a run takes, and who gets them first."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import cyclecast
from cyclecast.cli import LONG_COMMANDS
from cyclecast.errors import ConfigError
from cyclecast.priority import BELOW_NORMAL, lower_priority
from cyclecast.runtime.bench import measure_engines
from cyclecast.runtime.engine import SynchronousEngine
from cyclecast.runtime.engines import ENGINES
from cyclecast.runtime.engines.onnxruntime import OnnxRuntimeEngine
from cyclecast.runtime.engines.openvino import OpenVinoEngine
from cyclecast.runtime.engines.tensorrt import TensorRtEngine
from cyclecast.runtime.machine import usable_cores
from tests.commands import run_command
from tests.conftest import moving_frames

CORES = usable_cores()


def threads_of(engine: Any, frame: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> int:
    """Returns the number of CPU threads with which the engine computes a frame, as its library reports it."""
    if engine.name == "torch":
        import torch

        seen, graph = [], engine._graph

        def record(sent: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            output: torch.Tensor = graph(sent)
            return output

        monkeypatch.setattr(engine, "_graph", record)
        engine.run(frame)
        return seen[0]
    if engine.name == "openvino":
        engine.run(frame)
        compiled = engine._requests.get(frame.shape[1], frame.shape[0])[0]._request.get_compiled_model()
        return int(compiled.get_property("INFERENCE_NUM_THREADS"))
    return int(engine._open({}).get_session_options().intra_op_num_threads)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "torch"])
def test_an_engine_computes_the_same_frame_with_the_requested_threads(
    name: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = moving_frames(1)[0]
    with (
        cyclecast.load(tiny_model, name, "cpu", "fp32") as free,
        cyclecast.load(tiny_model, name, "cpu", "fp32", threads=1) as limited,
    ):
        expected = free(frame)
        assert threads_of(limited.engine, frame, monkeypatch) == 1
        np.testing.assert_array_equal(limited(frame), expected)
    with cyclecast.load(tiny_model, name, "cpu", "fp32", threads=CORES) as model:  # compiled models in the cache do not matter
        assert threads_of(model.engine, frame, monkeypatch) == CORES


def test_a_torch_engine_limits_only_its_own_frames(tiny_model: Path) -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(CORES)
    try:
        with cyclecast.load(tiny_model, "torch", "cpu", threads=1) as model:
            model(moving_frames(1)[0])
        assert torch.get_num_threads() == CORES
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [0, -1, CORES + 1])
@pytest.mark.parametrize("name", ["auto", "onnxruntime", "torch"])
def test_more_threads_than_cores_and_less_than_one_are_refused(threads: int, name: str, tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=f"{threads} CPU threads: expected 1"):
        cyclecast.load(tiny_model, name, threads=threads)
    for call in (cyclecast.stream, lambda *args, **more: cyclecast.convert(args[0], "out.mp4", args[1], **more)):
        with pytest.raises(ConfigError, match=f"{threads} CPU threads: expected 1"):
            call("pattern://64x48@20", tiny_model, threads=threads)


def test_threads_for_an_open_model_come_too_late(tiny_model: Path, clip: Path, tmp_path: Path) -> None:
    with cyclecast.load(tiny_model) as model:
        with pytest.raises(ConfigError, match=r"pass threads to cyclecast\.load"):
            cyclecast.stream("pattern://64x48@20", model, threads=1)
        with pytest.raises(ConfigError, match=r"pass threads to cyclecast\.load"):
            cyclecast.convert(clip, tmp_path / "out.mp4", model, threads=1)


class OnGpu(SynchronousEngine):
    """An engine that computes on a GPU."""

    name, device, precision, size, metadata, closed = "openvino", "Some GPU", "fp32", None, None, 0

    def __init__(self, model: object, device: str, precision: str) -> None: ...

    def close(self) -> None:
        type(self).closed += 1


def test_threads_on_a_gpu_are_an_error_that_says_what_to_type(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "no effect on openvino, which computes on Some GPU: leave --threads out, or add --device cpu"
    monkeypatch.setitem(ENGINES, "openvino", OnGpu)
    with pytest.raises(ConfigError, match=expected):
        cyclecast.load(tiny_model, "openvino", threads=1)
    assert OnGpu.closed == 1
    done = run_command("demo", "-m", tiny_model, "--engine", "openvino", "--threads", 1)
    assert (done.returncode, done.stderr) == (1, f"error: a number of CPU threads has {expected}\n")
    lines: list[str] = []
    report = measure_engines(tiny_model, moving_frames(1), count=1, threads=1, on_message=lines.append)
    assert [row.engine for row in report.rows] == ["onnxruntime"]  # what nobody asked for is left out
    assert any(expected in line for line in lines)
    with pytest.raises(ConfigError, match=expected):
        measure_engines(tiny_model, moving_frames(1), ["openvino"], threads=1)
    tensorrt = TensorRtEngine.__new__(TensorRtEngine)
    tensorrt.device = "cuda:0"
    with pytest.raises(ConfigError, match="no effect on tensorrt, which computes on cuda:0"):
        tensorrt.limit_threads(1)


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The threads that are requested of engines from now on: (engine, threads)."""
    calls: list[tuple[str, int]] = []
    for engine in (OpenVinoEngine, OnnxRuntimeEngine):
        limit: Any = engine.limit_threads

        def record(self: Any, threads: int, limit: Any = limit) -> None:
            calls.append((self.name, threads))
            limit(self, threads)

        monkeypatch.setattr(engine, "limit_threads", record)
    return calls


COMMANDS = {  # words -> the engines that they open
    "convert {clip} {out}/styled.mp4 -m {model} --preset ultrafast": ["openvino"],
    "demo --out {out} -m {model} --seconds 0.2": ["openvino"],
    "live pattern://96x96@20 -m {model} --sink null --seconds 0.1": ["openvino"],
    "bench -m {model} --size 64x48 --frames 1 --engine onnxruntime": ["onnxruntime", "onnxruntime"],
    "models pencil --try {image} -o {out}/sheet.png": ["openvino"],
    "verify {model} --size 64x48": ["openvino", "onnxruntime"],
    "evaluate {model} --clip {clip} --seconds 0.1 --precision fp32": ["openvino"],
}


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words.partition(" ")[0])
def test_every_command_that_runs_a_model_has_threads(
    words: str, requested: list[tuple[str, int]], tiny_model: Path, clip: Path, domains: Path, tmp_path: Path
) -> None:
    paths = {"clip": clip, "model": tiny_model, "image": domains / "testA" / "0.png", "out": tmp_path}
    typed = [word.format(**paths) for word in words.split()]
    done = run_command(*typed, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert requested == [(engine, 1) for engine in COMMANDS[words]]
    requested.clear()
    done = run_command(*typed, "--overwrite" if typed[0] in ("convert", "demo", "models", "live") else "--json", "--threads", 999)
    assert done.returncode == 1 and "error: 999 CPU threads: expected 1" in done.stderr.splitlines()[-1]
    assert run_command(*typed, "--threads", 0).returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has priority classes")
def test_a_low_priority_holds_for_threads_and_processes_and_is_never_raised() -> None:
    code = (
        "import os, subprocess, sys, threading\n"
        "from cyclecast.priority import lower_priority\n"
        "os.nice(int(sys.argv[1]))\n"
        "lower_priority()\n"
        "lower_priority()\n"
        "seen = [os.nice(0)]\n"
        "thread = threading.Thread(target=lambda: seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))\n"
        "thread.start(), thread.join()\n"
        "print(*seen, subprocess.check_output([sys.executable, '-c', 'import os; print(os.nice(0))'], text=True))"
    )
    for before, expected in ((0, "10"), (15, "15")):
        nice = max(0, before - os.getpriority(os.PRIO_PROCESS, 0))
        done = subprocess.run([sys.executable, "-c", code, str(nice)], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [expected] * 3


def test_windows_gets_a_priority_class(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[tuple[int, int]] = []
    answers = iter((1, 0))

    def set_class(process: int, priority: int) -> int:
        calls.append((process, priority))
        return next(answers)

    library = SimpleNamespace(GetCurrentProcess=lambda: -1, SetPriorityClass=set_class)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "WinDLL", lambda *names, **options: library, raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: 5, raising=False)
    lower_priority()
    assert calls == [(-1, BELOW_NORMAL)] and not caplog.records
    lower_priority()
    assert "the priority cannot be lowered (error 5" in caplog.text


def test_long_commands_lower_their_priority_before_they_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []
    monkeypatch.setattr("cyclecast.cli.lower_priority", lambda: calls.append("lowered"))
    for command in LONG_COMMANDS:
        assert "--background" in run_command(command.__name__, "--help").stdout
    assert run_command("convert", tmp_path / "none.mp4", tmp_path / "out.mp4", "--background").returncode == 1
    assert calls == ["lowered"]
    assert run_command("convert", tmp_path / "none.mp4", tmp_path / "out.mp4").returncode == 1
    assert run_command("bench", "--background").returncode == 2
    assert calls == ["lowered"]
