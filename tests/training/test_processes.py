"""Two processes that torchrun starts train as one with twice the batch would."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cyclecast.errors import ConfigError
from cyclecast.training import checkpoint
from cyclecast.training.config import TrainConfig
from cyclecast.training.loop import train

SETTINGS = {"log_every": 1, "save_every": 10**6, "sample_every": 10**6, "ema_decay": 0.5, "device": "cpu"}
LONG = 10**6  # steps: longer than any test


def start(*args: object) -> subprocess.Popen[str]:
    """Starts `cyclecast train` in two processes, in fp32 on the CPU."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cyclecast"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*torchrun, "train", *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def lines(run: Path) -> list[dict[str, float]]:
    """Reads the complete lines of the log."""
    path = run / "losses.jsonl"
    return (
        [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []
    )


def files(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def two_processes_run(small_config: Callable[..., TrainConfig], domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two processes with one image each, stopped after 3 steps. This process is the first of them."""
    out = tmp_path_factory.mktemp("processes") / "run"
    config = small_config("cyclegan", out, steps=LONG, **SETTINGS)
    settings = {key: value for key, value in config.to_dict().items() if value is not None and key != "out"}
    with socket.create_server(("localhost", 0)) as server:
        group = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(server.getsockname()[1])}
    command = [sys.executable, "-m", "cyclecast", "train", "cyclegan", "--out", str(out), "--until", "3"]
    command += [f"--set={key}={value}" for key, value in settings.items()]
    second = {**os.environ, **group, "RANK": "1", "LOCAL_RANK": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=second)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**group, "RANK": "0", "LOCAL_RANK": "0"}.items():
            patch.setenv(name, value)
        join = torch.distributed.init_process_group
        patch.setattr(torch.distributed, "init_process_group", partial(join, timeout=timedelta(seconds=120)))
        train("cyclegan", config, until=3)
    output = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return out


def test_two_processes_train_as_one_with_twice_the_batch(
    two_processes_run: Path, small_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    train("cyclegan", small_config("cyclegan", alone, steps=LONG, batch_size=2, **SETTINGS), until=3)
    assert [line["step"] for line in lines(two_processes_run)] == [1, 2, 3]
    for mine, theirs in zip(lines(alone), lines(two_processes_run), strict=True):
        assert theirs == pytest.approx(mine, rel=1e-4, abs=2e-5)  # the log's own rounding
    one, two = (checkpoint.load(run / checkpoint.NAME) for run in (alone, two_processes_run))
    assert (one["step"], two["step"]) == (3, 3)
    for part in ("networks", "averages"):
        torch.testing.assert_close(two[part], one[part], atol=2e-5, rtol=1e-3)
    shown = {key: images.shape[0] for key, images in one["pools"][0].items() for images in images.values()}
    assert shown == {"fake_a": 6, "fake_b": 6}
    assert [{key: len(pool["images"]) for key, pool in pools.items()} for pools in two["pools"]] == [
        {"fake_a": 3, "fake_b": 3}
    ] * 2
    assert files(two_processes_run) == files(alone)  # each written once, by one process


def test_processes_stopped_by_sigterm_save_and_resume_in_two_processes_or_one(
    two_processes_run: Path, small_config: Callable[..., TrainConfig]
) -> None:
    process = start("cyclegan", "--out", two_processes_run, "--resume")
    deadline = time.monotonic() + 120
    while len(lines(two_processes_run)) < 5 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    state = checkpoint.load(two_processes_run / checkpoint.NAME)
    assert f"error: stopped at step {state['step']} of {LONG}, saved; continue with --resume" in errors
    assert [line["step"] for line in lines(two_processes_run)] == list(range(1, state["step"] + 1)) and state["step"] >= 5
    assert len(state["pools"]) == 2

    report = train(
        "cyclegan", small_config("cyclegan", two_processes_run, steps=LONG, **SETTINGS), resume=True, until=state["step"] + 1
    )
    assert report.steps == state["step"] + 1


def test_several_processes_without_torchrun_are_an_error_in_one_line(
    small_config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ConfigError, match="WORLD_SIZE is 2, but not set by torchrun.*start with torchrun, or unset it"):
        train("cyclegan", small_config("cyclegan", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_one_process_under_torchrun_is_one_process(
    small_config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment: dict[str, Any] = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert train("cyclegan", small_config("cyclegan", tmp_path / "run", steps=1)).steps == 1
