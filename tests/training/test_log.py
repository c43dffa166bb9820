"""The log of losses, TensorBoard and the page of a run show the same numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from cyclecast.errors import OutputError
from cyclecast.training.config import TrainConfig
from cyclecast.training.log import LossLog
from cyclecast.training.loop import train

Scalars = dict[str, list[tuple[int, Any]]]


def board(run: Path) -> Scalars:
    """Reads name -> (step, mean) of each point that TensorBoard shows."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag.removeprefix("loss/"): [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def logged(run: Path) -> Scalars:
    """Reads name -> (step, mean) of each value in losses.jsonl."""
    out: Scalars = {}
    for line in map(json.loads, (run / "losses.jsonl").read_text().splitlines()):
        for name in line.keys() - {"step"}:
            out.setdefault(name, []).append((line["step"], line[name]))
    return out


def test_lines_are_means_and_tensorboard_shows_the_same(small_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    config = small_config("dcgan", tmp_path / "run", steps=7, log_every=3, tensorboard=True)
    train("dcgan", config, on_progress=lambda progress: seen.append(progress.losses))
    shown = logged(config.out)
    assert sorted(shown) == ["discriminator", "generator"]
    for name, points in shown.items():
        means = [sum(losses[name] for losses in seen[first : first + 3]) / 3 for first in (0, 3)]
        assert points == [(3, pytest.approx(means[0], abs=1e-5)), (6, pytest.approx(means[1], abs=1e-5))]
    assert board(config.out) == shown


def test_a_resumed_run_shows_each_step_once(small_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = small_config("dcgan", tmp_path / "run", steps=9, log_every=2, save_every=5, tensorboard=True)

    def crash(progress: object) -> None:
        if len(logged(config.out).get("generator", [])) == 4:  # at step 8, three after the checkpoint
            raise RuntimeError("the lights went out")

    with pytest.raises(RuntimeError, match="lights"):
        train("dcgan", config, on_progress=crash)
    before = logged(config.out)
    assert board(config.out) == before and [step for step, _ in before["generator"]] == [2, 4, 6, 8]
    train("dcgan", config, resume=True)
    assert logged(config.out) == before and board(config.out) == before  # the same steps, and the same numbers


def test_a_run_without_tensorboard_leaves_no_events(small_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    train("dcgan", small_config("dcgan", tmp_path / "run", steps=1, tensorboard=False))
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_started_mean_of_the_log_survives_a_stop(tmp_path: Path) -> None:
    log = LossLog(tmp_path, 4, tensorboard=False)
    log.open(0)
    for step in (1, 2, 3, 4, 5, 6):
        log.add(step, {"loss": float(step)})
    (tmp_path / "losses.jsonl").write_text('{"step": 4, "torn')
    again = LossLog(tmp_path, 4, tensorboard=False)
    again.load_state_dict(log.state_dict())
    again.open(6)
    for step in (7, 8):
        again.add(step, {"loss": float(step)})
    assert logged(tmp_path) == {"loss": [(4, 2.5), (8, 6.5)]}
    assert again.curves() == {"loss": ([4, 8], [2.5, 6.5])}


def test_a_log_that_cannot_be_written_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "losses.jsonl").mkdir()
    with pytest.raises(OutputError, match="losses.jsonl: cannot be written"):
        LossLog(tmp_path, 1, tensorboard=False).open(0)


@pytest.mark.parametrize("recipe", ["wgan", "cyclegan"])
def test_the_page_names_recipe_and_losses_and_needs_nothing_else(
    recipe: str, small_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = small_config(recipe, tmp_path / "my <run>", steps=2, log_every=1)
    report = train(recipe, config)
    html = Path(report.page).read_text("utf-8")
    assert report.page == str(config.out / "index.html")
    assert f"A {recipe} run" in html and "my &lt;run&gt;" in html and "2 of 2" in html
    for name in logged(config.out):
        assert name in html
    for name in config.to_dict():
        assert name in html
    sources = re.findall(r'<img[^>]* src="([^"]{0,30})', html)
    assert len(sources) == len(list(config.out.glob("*.jpg"))) and all(uri.startswith("data:image/") for uri in sources)
    assert not re.search(r"https?:|//\w+\.|url\(|@import|fetch\(", re.sub(r"base64,[^\"]*", "", html))
