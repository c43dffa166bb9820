"""A run learns, stops on request, and resumes exactly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from cyclecast.errors import ConfigError, EngineUnavailable, ModelError, OutputError, TrainingDiverged
from cyclecast.training import checkpoint
from cyclecast.training.loop import average_decay, rate_factor, train
from cyclecast.training.machine import pick_device
from cyclecast.training.report.sheets import MARGIN
from tests.conftest import different, leaves, tiny_config


def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(domains: Path, tmp_path: Path) -> None:
    train("cyclegan", tiny_config(domains, tmp_path / "whole", steps=8, batch_size=2, log_every=2))

    parts = tiny_config(domains, tmp_path / "parts", steps=8, batch_size=2, log_every=2)
    train("cyclegan", parts, until=5)
    assert checkpoint.load(tmp_path / "parts" / checkpoint.NAME)["step"] == 5
    with (tmp_path / "parts" / "losses.jsonl").open("a") as log:
        log.write('{"step": 6, "torn')  # as a crash would leave it
    report = train("cyclegan", parts, resume=True)

    assert report.steps == 8
    assert different(tmp_path / "whole", tmp_path / "parts") == []
    assert (tmp_path / "whole" / "losses.jsonl").read_text() == (tmp_path / "parts" / "losses.jsonl").read_text()


def test_training_lowers_the_cycle_loss(domains: Path, tmp_path: Path) -> None:
    seen: list[float] = []
    config = tiny_config(domains, tmp_path / "run", steps=40, batch_size=2, learning_rate=2e-3)
    train("cyclegan", config, on_progress=lambda p: seen.append(p.losses["cycle_a"] + p.losses["cycle_b"]))
    assert sum(seen[-5:]) < 0.7 * sum(seen[:5])


def test_a_run_writes_sheets_a_log_and_its_config(domains: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    report = train("cyclegan", tiny_config(domains, out, steps=4, sample_every=2, log_every=2, samples_a=domains / "testA"))
    sheet = cv2.imread(str(out / "a2b.jpg"))
    assert sheet is not None and sheet.shape == (
        3 * 80,
        MARGIN + 6 * 80,
        3,
    )  # originals, step 2, step 4; six images of 40 pixels, doubled
    assert sorted(p.name for p in (out / "samples").iterdir()) == [f"{d}-{n:07d}.png" for d in ("a2b", "b2a") for n in (2, 4)]
    lines = [json.loads(line) for line in (out / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert report.losses.keys() | {"step"} == lines[0].keys()
    state = checkpoint.load(out / checkpoint.NAME)
    assert (state["step"], state["config"]["ngf"]) == (4, 4)


def test_a_new_run_does_not_overwrite_another(domains: Path, run: Path) -> None:
    before = (run / checkpoint.NAME).read_bytes()
    with pytest.raises(OutputError, match="holds a run already"):
        train("cyclegan", tiny_config(domains, run, steps=2))
    assert (run / checkpoint.NAME).read_bytes() == before


def test_resume_needs_a_checkpoint_of_the_same_network(domains: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such checkpoint"):
        train("cyclegan", tiny_config(domains, tmp_path / "none", steps=2), resume=True)
    with pytest.raises(ConfigError, match="another shape"):
        train("cyclegan", tiny_config(domains, run, steps=3, ngf=8), resume=True)
    with pytest.raises(ConfigError, match="trained at crop_size 32, which a resumed run keeps"):
        train("cyclegan", tiny_config(domains, run, steps=3, crop_size=36), resume=True)


def test_a_full_disk_is_an_error_in_one_line_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c.pt", {"step": 1})
    code = (
        "import resource, signal, torch; from pathlib import Path; from cyclecast.training import checkpoint\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999))\n"
        f"checkpoint.save(Path({str(tmp_path / 'c.pt')!r}), {{'x': torch.zeros(99999)}})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "OutputError" in done.stderr.splitlines()[-1] and "cannot save the checkpoint" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"] and checkpoint.load(tmp_path / "c.pt")["step"] == 1


def test_a_nan_loss_stops_the_run_and_keeps_the_last_good_checkpoint(domains: Path, tmp_path: Path) -> None:
    config = tiny_config(domains, tmp_path / "run", steps=1, save_every=1)
    train("cyclegan", config)
    config = tiny_config(domains, tmp_path / "run", steps=50, save_every=1, learning_rate=1e38)
    with pytest.raises(TrainingDiverged, match="not.*number.*; the checkpoint before it is kept"):
        train("cyclegan", config, resume=True)
    kept = leaves(checkpoint.load(tmp_path / "run" / checkpoint.NAME))
    assert all(bool(torch.isfinite(v).all()) for v in kept.values() if isinstance(v, torch.Tensor))


def test_the_error_of_a_run_that_diverges_before_a_checkpoint_says_that_none_was_saved(domains: Path, tmp_path: Path) -> None:
    config = tiny_config(domains, tmp_path / "run", steps=50, learning_rate=1e38)
    with pytest.raises(TrainingDiverged, match="not.*number.*; nothing was saved before it"):
        train("cyclegan", config)
    assert not (tmp_path / "run" / checkpoint.NAME).exists()


def test_learning_rates_and_average_decays_follow_their_schedules() -> None:
    assert [rate_factor(step, 200) for step in (0, 99, 100, 150, 199)] == [1.0, 1.0, 1.0, 0.5, pytest.approx(0.01)]
    quarters = [rate_factor(step, 200, schedule) for schedule in ("cosine", "step", "constant") for step in (0, 50, 100, 150)]
    assert quarters == pytest.approx([1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 1.0, 0.1, 0.01, 0.001, 1.0, 1.0, 1.0, 1.0])
    assert rate_factor(199, 200, "cosine") < 1e-4
    assert average_decay(0, 0.999) == pytest.approx(0.1)
    assert average_decay(100_000, 0.999) == 0.999
    assert average_decay(5, 0.0) == 0.0


def test_an_unknown_or_absent_device_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no device named"):
        pick_device("toaster")
    with pytest.raises(EngineUnavailable, match="not on this machine"):
        pick_device("cuda:99")


def test_a_file_that_is_not_a_checkpoint_is_an_error_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "text.pt"
    text.write_text("hello")
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        checkpoint.load(text)
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="not a cyclecast checkpoint"):
        checkpoint.load(tmp_path / "other.pt")


class Runs:
    """Pickled, it would make a file when loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_a_checkpoint_that_runs_code_is_rejected(tmp_path: Path) -> None:
    torch.save({"format": checkpoint.FORMAT, "x": Runs(tmp_path / "made")}, tmp_path / "evil.pt")
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        checkpoint.load(tmp_path / "evil.pt")
    assert not (tmp_path / "made").exists()
