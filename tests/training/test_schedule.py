"""A run shows itself soon: sheets and page by time, too, and after Ctrl-C; the weights do not depend on it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from cyclecast.errors import Interrupted
from cyclecast.training import checkpoint
from cyclecast.training.loop import Progress, train
from cyclecast.training.report import SheetSchedule, schedule
from tests.conftest import different, tiny_config


def times_of(seconds_per_step: float, steps: int, every: int = 10**9) -> list[float]:
    sheets = SheetSchedule(every)
    return [step * seconds_per_step for step in range(1, steps + 1) if sheets.is_due(step, step * seconds_per_step)]


@pytest.mark.parametrize("seconds_per_step", [0.5, 7.0, 45.0])
def test_the_first_sheet_is_due_within_two_minutes_and_the_waits_grow(seconds_per_step: float) -> None:
    times = times_of(seconds_per_step, int(4 * 3600 / seconds_per_step))
    assert times[0] <= 110
    waits = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert 3 <= len(times) <= 12 and all(after > before for before, after in zip(waits[:4], waits[1:5], strict=True))
    assert max(waits) <= schedule.LONGEST_S + seconds_per_step


def test_a_step_of_minutes_is_followed_by_a_sheet() -> None:
    assert times_of(200.0, 8) == [200.0, 400.0, 800.0, 1600.0]


def test_sheets_by_steps_stay() -> None:
    assert times_of(1.0, 90, every=30) == [30.0, 60.0, 90.0]


def test_a_run_with_sheets_by_time_has_the_weights_of_one_without(
    domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("cyclegan", tiny_config(domains, tmp_path / "without", steps=6))
    assert len(list((tmp_path / "without" / "samples").iterdir())) == 2  # at the end

    monkeypatch.setattr(schedule, "FIRST_S", 0.0)
    shown: list[bool] = []
    config = tiny_config(domains, tmp_path / "with", steps=6)
    page = tmp_path / "with" / "index.html"
    train("cyclegan", config, until=4, on_progress=lambda progress: shown.append(page.exists()))
    train("cyclegan", config, resume=True)
    assert shown == [False, True, True, True]
    assert len(list((tmp_path / "with" / "samples").iterdir())) == 2 * 6
    assert different(tmp_path / "without", tmp_path / "with") == []


def test_a_run_that_is_stopped_shows_its_last_step(domains: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="stopped at step 3 of 9, saved"):
        train("cyclegan", tiny_config(domains, tmp_path, steps=9), on_progress=stop)
    assert checkpoint.load(tmp_path)["step"] == 3
    assert "3 of 9" in (tmp_path / "index.html").read_text("utf-8")
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["a2b-0000003.png", "b2a-0000003.png"]


def test_the_time_left_shrinks_to_nothing(domains: Path, tmp_path: Path) -> None:
    left: list[float] = []
    train("cyclegan", tiny_config(domains, tmp_path, steps=9), until=3, on_progress=lambda p: left.append(p.seconds_left))
    assert len(left) == 3 and left[0] > left[1] > left[2] == 0
