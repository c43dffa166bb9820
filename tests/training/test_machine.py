"""A run picks the best device, and leaves torch and the process as it found them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cyclecast.cli import app
from cyclecast.errors import ConfigError, EngineUnavailable, Interrupted
from cyclecast.training import checkpoint
from cyclecast.training.config import TrainConfig
from cyclecast.training.log import LossLog
from cyclecast.training.loop import Progress, train
from cyclecast.training.machine import cpu_features, has_native_bf16, pick_device, pick_precision, stop_on_signal
from tests.commands import run_command

SmallConfig = Callable[..., TrainConfig]


def stand_in(monkeypatch: pytest.MonkeyPatch, *present: str) -> None:
    """Makes torch look as it does on a machine with these devices."""
    for name in ("cuda", "mps", "xpu"):
        backend = torch.backends.mps if name == "mps" else getattr(torch, name)
        monkeypatch.setattr(backend, "is_available", lambda name=name: name in present)
        if name != "mps":
            monkeypatch.setattr(backend, "device_count", lambda name=name: int(name in present))


@pytest.mark.parametrize(
    ("present", "expected"),
    [((), "cpu"), (("cuda",), "cuda:0"), (("mps",), "mps"), (("xpu",), "xpu:0"), (("cuda", "mps", "xpu"), "cuda:0")],
)
def test_auto_is_the_best_device_present(present: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, *present)
    assert str(pick_device("auto")) == expected
    assert str(pick_device("cpu")) == "cpu"


@pytest.mark.parametrize("name", ["cuda", "gpu", "cuda:3", "mps", "xpu"])
def test_an_absent_device_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    with pytest.raises(EngineUnavailable, match="was requested and is not on this machine"):
        pick_device(name)


@pytest.mark.parametrize("name", ["toaster", "meta", ""])
def test_an_unknown_device_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match="no device named .*; expected auto, cpu, cuda, cuda:N, mps or xpu"):
        pick_device(name)


def test_the_processors_features_are_known_without_torchs_private_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_tile": True, "avx512_bf16": False, "num_sockets": 1})
    assert cpu_features() == {"amx_tile"} and not has_native_bf16(cpu)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert has_native_bf16(cpu)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "flags : sse avx512_bf16 amx_tile\n")
    assert {"avx512_bf16", "amx_tile"} <= cpu_features() and has_native_bf16(cpu)


def test_the_commands_print_the_device_that_they_picked(small_config: SmallConfig, tmp_path: Path) -> None:
    config = small_config("dcgan", tmp_path / "run", steps=1)
    settings = [f"--set={key}={value}" for key, value in config.to_dict().items() if value is not None and key != "out"]
    done = CliRunner().invoke(app, ["train", "dcgan", "--out", str(tmp_path / "run"), *settings])
    assert done.exit_code == 0, done.output
    expected = pick_device("auto")
    assert f"training dcgan on {expected}, {pick_precision('fp32', expected)}" in done.output


def test_a_run_restores_the_state_of_torch_and_the_signal_handlers(small_config: SmallConfig, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    flags = (
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
    )
    train("dcgan", small_config("dcgan", tmp_path / "run", steps=2))
    assert torch.equal(torch.rand(3), expected)
    assert flags == (
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_after_the_step_and_saves(
    number: signal.Signals, small_config: SmallConfig, tmp_path: Path
) -> None:
    def press(progress: Progress) -> None:
        if progress.step == 2:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match="stopped at step [23] of 9, saved; continue with --resume"):
        train("dcgan", small_config("dcgan", tmp_path / "run", steps=9), on_progress=press)
    assert train("dcgan", small_config("dcgan", tmp_path / "run", steps=9), resume=True).steps == 9


@pytest.mark.parametrize("at", ["before the last step", "after the last step", "while the log is closed"])
@pytest.mark.parametrize("until", [None, 2])
def test_a_signal_at_the_end_does_not_make_a_complete_run_an_interrupted_one(
    at: str, until: int | None, small_config: SmallConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, messages, pressed_at = until or 3, list[str](), -1
    if at == "while the log is closed":
        close = LossLog.close

        def press_and_close(log: LossLog) -> None:
            signal.raise_signal(signal.SIGINT)
            close(log)

        monkeypatch.setattr(LossLog, "close", press_and_close)
    else:
        pressed_at = last - 1 if at == "before the last step" else last

    def press(progress: Progress) -> None:
        if progress.step == pressed_at:
            signal.raise_signal(signal.SIGINT)

    config = small_config("dcgan", tmp_path / "run", steps=3)
    try:
        report = train("dcgan", config, until=until, on_progress=press, on_message=messages.append)
    except KeyboardInterrupt:
        pytest.fail("interrupted, although all was done")
    assert (report.steps, report.stop_requested) == (last, True)
    ending = "all is saved" if until else "training is complete"
    assert messages[-1] == f"step {last} of 3 was the last one: {ending}"
    assert checkpoint.load(tmp_path / "run")["step"] == last


def test_ctrl_c_in_the_last_step_ends_the_command_with_exit_code_0(digits: Path, tmp_path: Path) -> None:
    small = [part for setting in ("batch_size=4", "image_size=8", "latent=4", "precision=fp32") for part in ("--set", setting)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cyclecast.training.loop.write_page", lambda *_: signal.raise_signal(signal.SIGINT))
        done = run_command("train", "gan", "--data", digits, "--out", tmp_path / "run", "--steps", 2, *small, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["stop_requested"], done.stderr
    assert "step 2 of 2 was the last one: training is complete" in done.stderr.splitlines()


def test_a_second_ctrl_c_ends_at_once(small_config: SmallConfig, tmp_path: Path) -> None:
    def press(progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train("dcgan", small_config("dcgan", tmp_path / "run", steps=9), on_progress=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_a_second_ctrl_c_ends_the_command_while_a_step_is_still_running() -> None:
    code = (
        "import time\n"
        "from cyclecast.training.machine import stop_on_signal\n"
        "with stop_on_signal(lambda message: print(message, flush=True)):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert "press Ctrl-C again to end at once" in process.stdout.readline()
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode != 0 and time.monotonic() - start < 10


def test_outside_the_main_thread_signal_handlers_stay() -> None:
    seen: list[object] = []

    def work() -> None:
        with stop_on_signal() as stopped:
            seen.append((stopped.is_set(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, signal.getsignal(signal.SIGINT))]
