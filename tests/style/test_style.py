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


def test_a_killed_run_resumes_to_the_same_model(
    finished: dict[str, Any], photos: Path, negatives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cyclecast.style import make

    class Killed(BaseException):
        pass

    def kill(stage: str, done: int, total: int) -> None:
        if stage == "training" and done == 5:
            raise Killed

    def save_often(*arguments: Any) -> TrainConfig:
        return dataclasses.replace(training_config(*arguments), save_every=2)

    cut, monkey = tmp_path / "cut.onnx", monkeypatch
    monkey.setattr(make, "training_config", save_often)
    with pytest.raises(Killed):
        make_style([], cut, pairs=(photos, negatives), options=options(steps=8), on_progress=kill)
    assert not cut.exists()
    make_style([], cut, pairs=(photos, negatives), options=options(steps=8))
    assert weights(cut) == weights(Path(finished["output"]))


def test_one_image_becomes_a_model(photos: Path, tmp_path: Path) -> None:
    image, output = tmp_path / "dots.png", tmp_path / "dots.onnx"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (160, 200, 3), np.uint8))
    messages: list[str] = []
    report = make_style([image], output, footage=[photos], options=options(steps=3), on_message=messages.append)
    assert report.recipe == "style_transfer" and report.frames == 6
    assert "dots.png" in output.with_suffix(".md").read_text("utf-8")
    assert any("3 steps" in message for message in messages)


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

    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_style([], output, pairs=(photos, negatives), options=options(steps=2), on_progress=stop)
    with pytest.raises(cyclecast.OutputExistsError, match="another steps"):
        make_style([], output, pairs=(photos, negatives), options=options(steps=3), on_progress=stop)
    with pytest.raises(KeyboardInterrupt):  # it starts anew
        make_style([], output, pairs=(photos, negatives), options=options(steps=3, overwrite=True), on_progress=stop)
    assert json.loads((tmp_path / "n.style" / "plan.json").read_text("utf-8"))["request"]["steps"] == 3
