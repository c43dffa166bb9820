"""`cyclecast style`: a look becomes a frame model, a killed run resumes to the same model, and nothing is lost by a mistake."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import cyclecast
from cyclecast.errors import Interrupted
from cyclecast.export.onnx import export_onnx
from cyclecast.runtime.onnx_properties import read_card
from cyclecast.style import StyleOptions, crops, make_style, plan, result, stages
from cyclecast.style.folder import StyleFolder
from cyclecast.training import checkpoint
from cyclecast.training.config import TrainConfig
from cyclecast.training.machine import pick_device
from cyclecast.video.scene import Scene
from tests.commands import run_command
from tests.conftest import different
from tests.style.conftest import read, small_training_config

OWNER = ("--author", "Zoë", "--license", "CC-BY-4.0")


def options(**settings: Any) -> StyleOptions:
    return StyleOptions(**{"steps": 2, "preset": "nano", **settings})


@pytest.fixture
def one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports for frames of the photos' size alone, which takes a third of the time, and times such frames."""
    size = (320, 192)
    monkeypatch.setattr(stages, "export_onnx", partial(export_onnx, size=size))
    monkeypatch.setattr(result, "Scene", lambda width, height, **options: Scene(*size, **options))


class Killed(BaseException):
    """What ends a run at once."""


def kill(*_: object, **__: object) -> None:
    raise Killed


def kill_at(stage: str, done: int) -> Callable[..., None]:
    """Returns an `on_progress` that kills the run there."""

    def on_progress(*at: object) -> None:
        if at[:2] == (stage, done):
            raise Killed

    return on_progress


def save_often(*arguments: Any) -> TrainConfig:
    return dataclasses.replace(small_training_config(*arguments), save_every=2)


@pytest.fixture(scope="module")
def finished(photos: Path, negatives: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of a finished command, after runs that were killed in the middle of cutting, of training and of the export."""

    def write_half(trained: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise Killed

    output = tmp_path_factory.mktemp("finished") / "cut 1.0 é.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "training_config", save_often)
        for place in (("cutting pairs", 3), ("training", 3)):
            with pytest.raises(Killed):
                make_style([], output, pairs=(photos, negatives), options=options(steps=4), on_progress=kill_at(*place))
            assert not output.exists()
        with patch.context() as export_patch, pytest.raises(Killed):
            export_patch.setattr(stages, "export_onnx", write_half)
            make_style([], output, pairs=(photos, negatives), options=options(steps=4))
        assert output.exists()
        done = run_command(
            "style", "--pairs", photos, negatives, "--steps", 4, "--preset", "nano", "--json", "-o", output, *OWNER
        )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_command_writes_model_card_sheet_and_page(finished: dict[str, Any], photos: Path) -> None:
    frame = read(photos / "0.png")
    with cyclecast.load(finished["output"]) as model:
        assert model(frame).shape == frame.shape
    card = Path(finished["card"]).read_text("utf-8")
    assert "6 pairs" in card and "![Before and after](<cut 1.0 é.jpg>)" in card
    assert read(Path(finished["sheet"])).shape[1] > 600  # before and after, side by side
    assert Path(finished["page"]).is_file()
    assert (finished["steps"], finished["pairs"], finished["recipe"]) == (4, 6, "supervised")
    assert finished["figures"]["ms_per_frame"] > 1
    inside = read_card("model", Path(finished["output"]).read_bytes())  # the file alone explains itself
    assert (inside.author, inside.license, inside.title) == ("Zoë", "CC-BY-4.0", "cut 1.0 é")
    assert inside.height == min(frame.shape[:2]) and len(inside.thumbnail) > 1000
    assert "6 pairs" in inside.text and "| license | CC-BY-4.0 |" in inside.text and "| speed |" not in inside.text


def test_a_killed_run_resumes_to_the_same_weights(
    finished: dict[str, Any], photos: Path, negatives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "training_config", save_often)
    monkeypatch.setattr(stages, "export_onnx", kill)
    with pytest.raises(Killed):
        make_style([], tmp_path / "n.onnx", pairs=(photos, negatives), options=options(steps=4))
    folders = Path(finished["output"]).with_suffix(".style"), tmp_path / "n.style"
    assert set(different(*(folder / "run" for folder in folders))) == {"/config/domain_a", "/config/domain_b"}
    cut, uncut = ({path.name: path.read_bytes() for path in (folder / "pairs").rglob("*.png")} for folder in folders)
    assert cut == uncut and len(cut) == 6 * 2


def test_a_finished_run_is_written_again_without_training(
    finished: dict[str, Any], photos: Path, negatives: Path, one_size: None
) -> None:
    """With another strength, from another folder, and although the frames and pairs are gone."""
    output = Path(finished["output"])
    folder = output.with_suffix(".style")
    with pytest.raises(cyclecast.OutputExistsError, match="finished already"):
        make_style([], output, pairs=(photos, negatives), options=options(steps=4))
    shutil.rmtree(folder / "pairs")
    messages: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(photos.parent)
        pairs = Path(photos.name), Path("..") / negatives.relative_to(photos.parent.parent)
        again = options(steps=4, strength=0.0, overwrite=True)
        make_style([], output, pairs=pairs, options=again, on_message=messages.append)
    assert "training: all 4 steps are done" in messages
    frame = read(photos / "0.png")
    with cyclecast.load(output) as model:
        assert np.array_equal(model(frame), frame)
    assert len(list((folder / "pairs" / "before").iterdir())) == 6 * 2


def test_one_image_becomes_a_model_and_files_of_somebody_else_are_kept(photos: Path, tmp_path: Path, one_size: None) -> None:
    image, output = tmp_path / "dots.png", tmp_path / "dots.onnx"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (160, 200, 3), np.uint8))
    theirs = output.with_suffix(".style") / "mine" / "thesis.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious")
    (output.with_suffix(".style") / "plan.json").write_text("damaged")
    messages: list[str] = []
    settings = options(steps=3, overwrite=True)
    report = make_style([image], output, footage=[photos], options=settings, on_message=messages.append)
    assert report.recipe == "style_transfer" and report.frames == 6
    assert "dots.png" in output.with_suffix(".md").read_text("utf-8")
    assert any("3 steps" in message for message in messages)
    assert theirs.read_text() == "precious"


def test_a_teacher_is_imitated_through_its_engine(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "student.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "PAIRS_WITHOUT_TIME", 24)
        report = make_style(["monet"], output, footage=[photos], options=options())
    assert report.pairs == 24
    assert report.figures["psnr_db_of_the_source"] > 10  # measured on the one pair that is held out
    before, after = (read(output.with_suffix(".style") / "pairs" / side / "000000-last.png") for side in ("before", "after"))
    with cyclecast.load("monet") as monet:
        assert np.array_equal(monet(before), after)


def test_steps_are_planned_again_by_the_time_that_the_first_ones_took(
    photos: Path, negatives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measurement fell into a busy minute, and the run is killed after its first part."""
    for name, value in {"FEWEST_STEPS": 8, "REPLANNED_STEPS": 3, "MOST_STEPS": 12}.items():
        monkeypatch.setattr(plan, name, value)
    monkeypatch.setattr(stages, "measure_step_seconds", lambda *_: 100.0)
    messages: list[str] = []

    monkeypatch.setattr(stages, "export_onnx", kill)

    def make(on_progress: Callable[..., None] | None = None) -> None:
        settings = options(steps=None, minutes=5.0)
        with pytest.raises(Killed):
            make_style(
                [], output, pairs=(photos, negatives), options=settings, on_message=messages.append, on_progress=on_progress
            )

    def kill_second_part(stage: str, done: int, total: int) -> None:
        if (stage, total) == ("training", 12):
            raise Killed

    output = tmp_path / "n.onnx"
    make(kill_second_part)
    assert any(f"training on {pick_device('auto')}: 8 steps of 100.00 s" in message for message in messages)
    assert any(message.endswith("12 steps in place of 8") for message in messages)
    make()
    assert checkpoint.load(output.with_suffix(".style") / "run" / checkpoint.NAME)["step"] == 12


@pytest.fixture
def stopped(photos: Path, negatives: Path, tmp_path: Path) -> Path:
    """Returns the output of a run of two steps that Ctrl-C stopped before its first step."""
    output = tmp_path / "n.onnx"
    with pytest.raises(Interrupted, match="type the same command again"):
        make_style([], output, pairs=(photos, negatives), options=options(steps=2), on_message=stop_training)
    return output


def stop_training(message: str) -> None:
    if message.startswith("training"):
        raise KeyboardInterrupt


def test_another_request_in_the_same_folder_is_refused(stopped: Path, photos: Path, negatives: Path) -> None:
    pairs = photos, negatives
    with pytest.raises(cyclecast.OutputExistsError, match="steps 2 in place of 3"):
        make_style([], stopped, pairs=pairs, options=options(steps=3))
    image = read(negatives / "0.png")
    try:
        cv2.imwrite(str(negatives / "0.png"), 255 - image)  # a keyframe was painted anew
        with pytest.raises(cyclecast.OutputExistsError, match="other files of the look"):
            make_style([], stopped, pairs=pairs, options=options(steps=2))
    finally:
        cv2.imwrite(str(negatives / "0.png"), image)
    with pytest.raises(Interrupted):  # it starts anew
        make_style([], stopped, pairs=pairs, options=options(steps=3, overwrite=True), on_message=stop_training)
    plan = stopped.with_suffix(".style") / "plan.json"
    assert json.loads(plan.read_text("utf-8"))["request"]["steps"] == 3
    plan.write_text('{"request": 3}')
    with pytest.raises(cyclecast.ModelError, match="damaged .* --overwrite"):
        make_style([], stopped, pairs=pairs, options=options(steps=3))
    with pytest.raises(Interrupted):
        make_style([], stopped, pairs=pairs, options=options(steps=3, overwrite=True), on_message=stop_training)


def test_ctrl_c_in_the_last_step_stops_before_the_export(photos: Path, negatives: Path, tmp_path: Path) -> None:
    output, messages = tmp_path / "n.onnx", list[str]()

    def press(stage: str, done: int, total: int) -> None:
        if stage == "training" and done == total:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match=r"^stopped after 2 of 2 steps of training, saved; type the same command again"):
        make_style([], output, pairs=(photos, negatives), options=options(steps=2), on_message=messages.append, on_progress=press)
    assert not output.exists() and "training is complete" in messages[-1]
    assert f"training on {pick_device('auto')}: 2 steps" in messages
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted, match="while the time of a step was measured"):
        patch.setattr("cyclecast.training.loop.write_page", lambda *_: signal.raise_signal(signal.SIGINT))
        make_style([], tmp_path / "o.onnx", pairs=(photos, negatives), options=options(steps=10))


def test_two_runs_at_once_and_folders_of_others_are_refused(stopped: Path, photos: Path, negatives: Path) -> None:
    folder = StyleFolder(stopped)
    with folder.lock(), pytest.raises(cyclecast.OutputError, match="another run is writing it"):
        make_style([], stopped, pairs=(photos, negatives), options=options(steps=2))
    folder.plan_file.unlink()
    with pytest.raises(cyclecast.OutputError, match=r"rename it, or choose another --output"):
        make_style([], stopped, pairs=(photos, negatives), options=options(steps=2, overwrite=True))
    assert (folder.root / "pairs").is_dir()


def test_a_full_disk_is_one_line(photos: Path, negatives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for module, name in ((crops, "write_image"), (stages, "train"), (Path, "write_text")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            done = run_command("style", "--pairs", photos, negatives, "--steps", 2, "-o", tmp_path / name / "o.onnx")
        assert done.returncode == 1 and "o.style: cannot be written (No space left on device)" in done.stderr, name
    (tmp_path / "file").write_text("")
    with pytest.raises(cyclecast.OutputError, match="cannot be written"):
        make_style([], tmp_path / "file" / "o.onnx", pairs=(photos, negatives), options=options())


@pytest.mark.parametrize("name", ["", "frames", "pairs", "styles", "run", "run/losses.jsonl", "lock", "teacher.onnx"])
def test_links_that_somebody_else_put_into_the_folder_are_refused(
    photos: Path, negatives: Path, tmp_path: Path, name: str
) -> None:
    """An unpacked archive may hold a folder of this command, plan included."""
    output, home = tmp_path / "out" / "negative.onnx", tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("precious")
    link = output.with_suffix(".style") / name
    link.parent.mkdir(parents=True)
    if name:
        (output.with_suffix(".style") / "plan.json").write_text('{"request": {}}')
    link.symlink_to(home / "thesis.txt" if Path(name).suffix or name == "lock" else home)
    with pytest.raises(cyclecast.OutputError, match="is a symbolic link; remove it|without this command's plan"):
        make_style([], output, pairs=(photos, negatives), options=options(overwrite=True))
    assert [path.name for path in home.iterdir()] == ["thesis.txt"] and (home / "thesis.txt").read_text() == "precious"
