"""`cyclecast style`: a look becomes a frame model, a killed run resumes to the same model, and nothing is lost by a mistake."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

import cyclecast
from cyclecast.errors import Interrupted
from cyclecast.style import StyleOptions, StyleReport, crops, make_style, plan, stages
from cyclecast.style.folder import StyleFolder
from cyclecast.style.plan import training_config
from cyclecast.training.config import TrainConfig
from cyclecast.training.machine import pick_device
from tests.commands import run_command
from tests.style.conftest import read


def weights(model: Path) -> list[bytes]:
    return [tensor.raw_data for tensor in onnx.load(str(model)).graph.initializer]


def options(**settings: Any) -> StyleOptions:
    return StyleOptions(**{"steps": 6, "preset": "nano", **settings})


@pytest.fixture(scope="module")
def finished(photos: Path, negatives: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of a finished command, and where it began."""
    output = tmp_path_factory.mktemp("finished") / "negative.onnx"
    arguments = ["--pairs", photos, negatives, "--steps", 8, "--preset", "nano", "--json"]
    done = run_command("style", *arguments, "-o", output)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_command_writes_model_card_sheet_and_page(finished: dict[str, Any], photos: Path) -> None:
    frame = read(photos / "0.png")
    with cyclecast.load(finished["output"]) as model:
        assert model(frame).shape == frame.shape
    assert "6 pairs" in Path(finished["card"]).read_text("utf-8")
    assert read(Path(finished["sheet"])).shape[1] > 600  # before and after, side by side
    assert Path(finished["page"]).is_file()
    assert (finished["steps"], finished["pairs"], finished["recipe"]) == (8, 6, "supervised")
    assert finished["figures"]["ms_per_frame"] > 1


class Killed(BaseException):
    """What ends a run at once."""


def test_a_killed_run_resumes_to_the_same_model(
    finished: dict[str, Any], photos: Path, negatives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of cutting, of training, and of the export."""

    def kill_at(stage: str, done: int) -> Callable[..., None]:
        def on_progress(*at: object) -> None:
            if at[:2] == (stage, done):
                raise Killed

        return on_progress

    def write_half(trained: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise Killed

    def save_often(*arguments: Any) -> TrainConfig:
        return dataclasses.replace(training_config(*arguments), save_every=2)

    def make(**arguments: Any) -> StyleReport:
        return make_style([], cut, pairs=(photos, negatives), options=options(steps=8), **arguments)

    cut = tmp_path / "cut 1.0 é.onnx"
    monkeypatch.setattr(stages, "training_config", save_often)
    for place in (("cutting pairs", 3), ("training", 5)):
        with pytest.raises(Killed):
            make(on_progress=kill_at(*place))
        assert not cut.exists()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(stages, "export_onnx", write_half)
        make()
    assert cut.exists()
    make()
    assert weights(cut) == weights(Path(finished["output"]))
    assert "![Before and after](<cut 1.0 é.jpg>)" in cut.with_suffix(".md").read_text("utf-8")


def test_a_finished_run_is_written_again_without_training(finished: dict[str, Any], photos: Path, negatives: Path) -> None:
    """With another strength, from another folder, and although the frames and pairs are gone."""
    output = Path(finished["output"])
    folder = output.with_suffix(".style")
    with pytest.raises(cyclecast.OutputExistsError, match="finished already"):
        make_style([], output, pairs=(photos, negatives), options=options(steps=8))
    shutil.rmtree(folder / "pairs")
    messages: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(photos.parent)
        pairs = Path(photos.name), Path("..") / negatives.relative_to(photos.parent.parent)
        again = options(steps=8, strength=0.0, overwrite=True)
        make_style([], output, pairs=pairs, options=again, on_message=messages.append)
    assert "training: all 8 steps are done" in messages
    frame = read(photos / "0.png")
    with cyclecast.load(output) as model:
        assert np.array_equal(model(frame), frame)
    assert len(list((folder / "pairs" / "before").iterdir())) == 6 * 2


def test_one_image_becomes_a_model(photos: Path, tmp_path: Path) -> None:
    image, output = tmp_path / "dots.png", tmp_path / "dots.onnx"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (160, 200, 3), np.uint8))
    messages: list[str] = []
    report = make_style([image], output, footage=[photos], options=options(steps=3), on_message=messages.append)
    assert report.recipe == "style_transfer" and report.frames == 6
    assert "dots.png" in output.with_suffix(".md").read_text("utf-8")
    assert any("3 steps" in message for message in messages)


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

    def make(on_progress: Callable[..., None] | None = None) -> StyleReport:
        settings = options(steps=None, minutes=5.0)
        return make_style(
            [], output, pairs=(photos, negatives), options=settings, on_message=messages.append, on_progress=on_progress
        )

    def kill(stage: str, done: int, total: int) -> None:
        if (stage, total) == ("training", 12):
            raise Killed

    output = tmp_path / "n.onnx"
    with pytest.raises(Killed):
        make(kill)
    assert any(f"training on {pick_device('auto')}: 8 steps of 100.00 s" in message for message in messages)
    assert any(message.endswith("12 steps in place of 8") for message in messages)
    assert make().steps == 12


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


def test_files_of_somebody_else_in_the_folder_are_kept(photos: Path, negatives: Path, tmp_path: Path) -> None:
    folder = tmp_path / "negative.style"
    (folder / "mine").mkdir(parents=True)
    (folder / "mine" / "thesis.txt").write_text("precious")
    (folder / "plan.json").write_text("damaged")
    make_style([], folder.with_suffix(".onnx"), pairs=(photos, negatives), options=options(steps=1, overwrite=True))
    assert (folder / "mine" / "thesis.txt").read_text() == "precious"
