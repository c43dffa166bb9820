"""`cyclecast style`: a look becomes a frame model, a killed run resumes to the same model, and bad input is one line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

import cyclecast
from cyclecast.style import StyleOptions, make_style
from cyclecast.style.plan import training_config
from cyclecast.training.config import TrainConfig
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene
from tests.commands import run_command


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of the demo's scene, 320x192."""
    folder = tmp_path_factory.mktemp("photos")
    for number, frame in enumerate(Scene(320, 192, seconds=3, rate=2)):
        cv2.imwrite(str(folder / f"{number}.png"), frame.image)
    return folder


@pytest.fixture(scope="module")
def negatives(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The negatives of the photos, under the same names."""
    folder = tmp_path_factory.mktemp("negatives")
    for path in photos.iterdir():
        cv2.imwrite(str(folder / path.name), 255 - read(path))
    return folder


def read(path: Path) -> Image:
    """(H, W, 3) uint8 BGR."""
    return np.asarray(cv2.imread(str(path)), np.uint8)


def weights(model: Path) -> list[bytes]:
    return [tensor.raw_data for tensor in onnx.load(str(model)).graph.initializer]


def options(**settings: Any) -> StyleOptions:
    return StyleOptions(**{"steps": 6, "preset": "nano", **settings})


def test_one_image_becomes_a_model_with_card_and_sheet(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "dots.onnx"
    image = tmp_path / "dots.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (160, 200, 3), np.uint8))
    messages: list[str] = []
    report = make_style([image], output, footage=[photos], options=options(), on_message=messages.append)
    assert report.recipe == "style_transfer" and report.steps == 6 and report.frames == 6
    frame = read(photos / "0.png")
    with cyclecast.load(output) as model:
        assert model(frame).shape == frame.shape
    assert "dots.png" in output.with_suffix(".md").read_text("utf-8")
    assert read(output.with_suffix(".jpg")).shape[1] > 600  # before and after, side by side
    assert Path(report.page).is_file()
    assert any("minutes" in message for message in messages)


def test_pairs_teach_what_was_done_to_them(photos: Path, negatives: Path, tmp_path: Path) -> None:
    output = tmp_path / "negative.onnx"
    report = make_style([], output, pairs=(photos, negatives), options=options(steps=60))
    frame = read(photos / "1.png")
    with cyclecast.load(output) as model:
        distance = np.abs(model(frame).astype(int) - (255 - frame)).mean()
    assert distance < 30
    assert np.abs(frame.astype(int) - (255 - frame)).mean() > 50
    assert report.pairs == 6 and report.recipe == "supervised"


def test_a_teacher_is_imitated_through_its_engine(photos: Path, tmp_path: Path) -> None:
    from cyclecast.style import make

    output = tmp_path / "student.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "PAIRS_OF_STEPS", 24)
        report = make_style(["monet"], output, footage=[photos], options=options())
    assert report.pairs == 24
    assert report.figures["psnr_db_of_the_source"] > 10  # measured on the one pair that is held out
    before, after = (read(output.with_suffix(".style") / "pairs" / side / "000000-last.png") for side in ("before", "after"))
    with cyclecast.load("monet") as monet:
        assert np.array_equal(monet(before), after)


def test_a_killed_run_resumes_to_the_same_model(
    photos: Path, negatives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cyclecast.style import make

    whole, cut = tmp_path / "whole.onnx", tmp_path / "cut.onnx"
    make_style([], whole, pairs=(photos, negatives), options=options(steps=8))

    class Killed(BaseException):
        pass

    def kill(stage: str, done: int, total: int) -> None:
        if stage == "training" and done == 5:
            raise Killed

    def save_often(*arguments: Any) -> TrainConfig:
        return dataclasses.replace(training_config(*arguments), save_every=2)

    monkeypatch.setattr(make, "training_config", save_often)
    with pytest.raises(Killed):
        make_style([], cut, pairs=(photos, negatives), options=options(steps=8), on_progress=kill)
    assert not cut.exists()
    make_style([], cut, pairs=(photos, negatives), options=options(steps=8))
    assert weights(cut) == weights(whole)


@pytest.fixture
def bad(photos: Path, tmp_path: Path) -> dict[str, list[object]]:
    """Name -> arguments of a command that must fail in one line."""
    tiny, noise, one, sizes, empty = (tmp_path / name for name in ("tiny.png", "noise.png", "one", "sizes", "empty"))
    for folder in (one, sizes, empty):
        folder.mkdir()
    (empty / "notes.txt").write_text("no image")
    cv2.imwrite(str(tiny), np.zeros((40, 60, 3), np.uint8))
    noise.write_bytes(b"\x89PNG not really")
    cv2.imwrite(str(one / "a.png"), np.zeros((200, 200, 3), np.uint8))
    for path in photos.iterdir():
        cv2.imwrite(str(sizes / path.name), np.zeros((100, 100, 3), np.uint8))
    picture = one / "a.png"
    return {
        "too small": [tiny, "--footage", photos],
        "cannot be read as an image": [noise, "--footage", photos],
        "expected at least 2": [one, "--footage", photos],
        "one size": ["--pairs", photos, sizes],
        "no file names in common": ["--pairs", photos, one],
        "no images and no videos": [picture, "--footage", empty],
        "no such file or folder": [picture, "--footage", tmp_path / "missing"],
        "expected --footage": [picture],
        "expected a LOOK": ["--footage", photos],
        "got both": [picture, "--footage", photos, "--minutes", 5, "--steps", 5],
        "expected one generator": ["monet", "ukiyoe", "--footage", photos],
        "either LOOK or --pairs": [picture, "--pairs", photos, photos],
    }


def test_bad_input_is_one_line_and_leaves_nothing(bad: dict[str, list[object]], tmp_path: Path) -> None:
    for reason, arguments in bad.items():
        done = run_command("style", *arguments, "-o", tmp_path / "out.onnx")
        lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert done.returncode == 1 and len(lines) == 1 and reason in lines[0], (reason, done.stderr)
        assert not (tmp_path / "out.onnx").exists() and not (tmp_path / "out.style").exists(), reason


def test_a_classifier_is_refused_as_a_teacher(photos: Path, tmp_path: Path) -> None:
    scores = onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 3, 1, 1])
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 224, 224])
    graph = onnx.helper.make_graph([onnx.helper.make_node("GlobalAveragePool", ["image"], ["scores"])], "c", [image], [scores])
    path = tmp_path / "classifier.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), str(path))
    done = run_command("style", path, "--footage", photos, "-o", tmp_path / "out.onnx")
    assert done.returncode == 1 and "classifier.onnx" in done.stderr


def test_another_request_in_the_same_folder_is_refused(photos: Path, negatives: Path, tmp_path: Path) -> None:
    output = tmp_path / "n.onnx"
    make_style([], output, pairs=(photos, negatives), options=options(steps=2))
    output.unlink()
    output.with_suffix(".md").unlink()
    output.with_suffix(".jpg").unlink()
    with pytest.raises(cyclecast.OutputExistsError, match="another steps"):
        make_style([], output, pairs=(photos, negatives), options=options(steps=3))
    report = make_style([], output, pairs=(photos, negatives), options=options(steps=3, overwrite=True))
    assert report.steps == 3


def test_json_has_the_files_and_the_figures(photos: Path, negatives: Path, tmp_path: Path) -> None:
    arguments = ["--pairs", photos, negatives, "--steps", 2, "--preset", "nano", "--json"]
    done = run_command("style", *arguments, "-o", tmp_path / "n.onnx")
    report = json.loads(done.stdout)
    assert Path(report["output"]).is_file() and Path(report["card"]).is_file() and Path(report["sheet"]).is_file()
    assert report["steps"] == 2 and report["figures"]["ms_per_frame"] > 0
