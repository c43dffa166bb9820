"""The progress of a run: lines that fit 80 columns in a terminal, and a line a minute in a log."""

from __future__ import annotations

import os
import pty
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from cyclecast.cli import main
from cyclecast.cli.training_progress import LogLines, format_duration, progress_line, progress_view
from cyclecast.training.loop import Progress
from tests.commands import run_command

LOSSES = {
    f"{name}_{direction}": 12345.6789 for name in ("adversarial", "identity", "discriminator") for direction in ("ab", "ba")
}
LARGE = Progress(1_234_567, 2_000_000, 123.456, 9 * 86400.0, LOSSES | {"cycle_a": 0.123456, "cycle_b": 1e-5})


def test_a_terminal_shows_step_total_time_left_and_one_loss_in_80_columns() -> None:
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(progress_view(LARGE))
    first, *below = capture.get().splitlines()
    for text in ("step 1234567/2000000", "9 d 0:00:00 left", "cycle_a 0.123"):
        assert text in first
    assert max(map(len, (first, *below))) <= 80
    assert "discriminator_ba 1.23e+04" in "\n".join(below) and "123.46 pairs/s" in below[0]


def test_a_line_of_a_log_fits_80_columns() -> None:
    assert progress_line(LARGE) == "step 1234567/2000000, 9 d 0:00:00 left, cycle_a 0.123"
    assert len(progress_line(Progress(10**7, 10**7, 1.0, 1e7, {"discriminator_ab": 1.2345e-05}))) <= 80
    assert progress_line(Progress(1, 2, 1.0, 61.2, {})) == "step 1/2, 0:01:02 left, "
    assert [format_duration(seconds) for seconds in (0, 59.5, 3600, 86399)] == ["0:00:00", "0:01:00", "1:00:00", "23:59:59"]


def test_a_log_gets_a_line_after_some_seconds_and_then_one_a_minute() -> None:
    lines: list[str] = []
    now = 0.0
    report = LogLines(lines.append, lambda: now)
    times = []
    for step in range(1, 301):  # five minutes
        now = float(step)
        count = len(lines)
        report(Progress(step, 300, 1.0, 300 - now, {"generator": 0.5}))
        times += [step] * (len(lines) - count)
    assert times == [10, 70, 130, 190, 250]
    assert lines[0] == "step 10/300, 0:04:50 left, generator 0.5"


def test_a_short_run_without_a_terminal_prints_no_progress(digits: Path, tmp_path: Path) -> None:
    small = [part for setting in ("batch_size=4", "image_size=8", "latent=4", "precision=fp32") for part in ("--set", setting)]
    done = run_command("train", "gan", "--data", digits.parent, "--out", tmp_path / "r", "--steps", 2, *small)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines()] == [
        "training",
        f"{tmp_path}/r/checkpoint.pt:",
        f"{tmp_path}/r/index.html:",
    ]


def read_all(master: int, parts: list[bytes]) -> None:
    """Reads what a terminal shows, until the program closes it."""
    with suppress(OSError):  # the other end is closed
        while part := os.read(master, 65536):
            parts.append(part)


def test_a_terminal_of_80_columns_is_never_overrun(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = [part for setting in ("batch_size=4", "image_size=8", "latent=4", "precision=fp32") for part in ("--set", setting)]
    command = ["cyclecast", "train", "gan", "--data", str(digits), "--out", "r", "--steps", "100", *small]
    monkeypatch.chdir(tmp_path)
    for name, value in {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    master, slave = pty.openpty()
    parts: list[bytes] = []
    reader = threading.Thread(target=read_all, args=(master, parts))
    reader.start()
    with os.fdopen(slave, "w") as terminal:
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, terminal)
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        monkeypatch.undo()
    reader.join()
    os.close(master)
    assert not ended.value.code
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(parts).decode())
    lines = re.split(r"[\r\n]+", text)
    assert any(re.search(r"step \d+/100 .*left.*generator \d", line) for line in lines), lines
    assert max(len(line) for line in lines) <= 80, max(lines, key=len)
