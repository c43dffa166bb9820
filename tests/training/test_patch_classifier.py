"""The patch classifier distinguishes what differs, and `evaluate --judge` reports its shares with controls."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from cyclecast import measure_style
from cyclecast.errors import InputError
from cyclecast.training.evaluate.distribution import ImageNetFeatures
from cyclecast.training.evaluate.patch_classifier import PATCH, fit_logistic_regression, mean_chroma, train_patch_classifier
from cyclecast.video.frame import Image
from tests.commands import run_command


def stripes(seed: int, height: int = 160, width: int = 200) -> Image:
    """Draws colored stripes of a random direction."""
    random = np.random.default_rng(seed)
    angle = random.uniform(0, np.pi)
    y, x = np.mgrid[:height, :width]
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * random.uniform(0.5, 0.8))[..., None]
    return np.asarray(127 + wave * random.uniform(40, 100, 3), np.uint8)


def noise(seed: int, height: int = 160, width: int = 200) -> Image:
    """Draws gray noise."""
    gray = np.random.default_rng(seed).integers(0, 256, (height, width, 1), np.uint8)
    return np.repeat(gray, 3, 2)


def patches(images: list[Image]) -> Tensor:
    random = np.random.default_rng(0)
    return torch.cat([measure_style.cut_patches(image, 2, random) for image in images])


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders: target with stripes, photos with noise, stills with one of each."""
    root = tmp_path_factory.mktemp("sets")
    for name, count in (("target", 8), ("photos", 9), ("stills", 2), ("few", 3)):
        (root / name).mkdir()
        for index in range(count):
            draw = noise if name == "photos" or (name == "stills" and index) else stripes
            cv2.imwrite(str(root / name / f"{index}.png"), draw(index + 100 * count))
    (root / "photos" / "broken.png").write_bytes(b"no image")
    return root


def test_a_classifier_tells_stripes_from_noise_that_it_has_not_seen() -> None:
    classifier = train_patch_classifier(patches([stripes(i) for i in range(6)]), patches([noise(i) for i in range(6)]))
    assert classifier.share(patches([stripes(i) for i in range(50, 54)])) > 0.8
    assert classifier.share(patches([noise(i) for i in range(50, 54)])) < 0.2
    with pytest.raises(InputError, match="patches must be one or more of"):
        classifier.share(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))


def test_the_regression_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression  # half a second, which no other test needs

    random = np.random.default_rng(0)
    features, labels = random.normal(size=(90, 5)), np.arange(90) % 3 == 0
    features[labels] += 0.7
    weight, bias = fit_logistic_regression(torch.from_numpy(features), torch.from_numpy(labels).double(), 0.003)
    expected = LogisticRegression(C=0.003, class_weight="balanced", tol=1e-10, max_iter=10_000).fit(features, labels)
    np.testing.assert_allclose(weight.numpy(), expected.coef_[0], rtol=1e-4, atol=1e-6)
    assert float(bias) == pytest.approx(expected.intercept_[0], abs=1e-5)


def test_chroma_is_the_distance_from_gray() -> None:
    red = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    red[:, 0] = 255
    assert mean_chroma(red) == pytest.approx(104.55, abs=0.1)  # sRGB's red: a* 80.09, b* 67.2
    assert mean_chroma(torch.full((1, 3, 4, 4), 90, dtype=torch.uint8)) == pytest.approx(0, abs=0.1)


def test_images_of_a_set_are_held_out_and_split_by_the_seed(sets: Path) -> None:
    first, again, other = (measure_style.read_set(sets / "photos", 180, seed, lambda *_: None) for seed in (1, 1, 2))
    assert len(first.held_out_paths) == 3 and len(first.training) == 6 * 16 and len(first.held_out) == 3 * 16
    assert torch.equal(first.all, again.all) and not torch.equal(first.all, other.all)


def test_opposite_quarters_of_a_single_image_are_held_out(tmp_path: Path) -> None:
    image = np.zeros((300, 620, 3), np.uint8)
    image[:150, 310:] = image[150:, :310] = 255
    cv2.imwrite(str(tmp_path / "one.png"), image)
    quarters = measure_style.quarter_image(tmp_path / "one.png", 360, 0)
    assert quarters.training.shape == quarters.held_out.shape == (64, 3, PATCH, PATCH)
    assert int(quarters.training.max()) < 10 and int(quarters.held_out.min()) > 245


@pytest.fixture
def brief_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges few patches, and their distance by features of small images."""
    for name, value in (("KID_PATCHES", 8), ("SET_PATCHES", 16), ("QUARTER_PATCHES", 8), ("FRAME_PATCHES", 4)):
        monkeypatch.setattr(measure_style, name, value)
    monkeypatch.setattr(measure_style, "TIMED_SIZE", (64, 48))
    monkeypatch.setattr(ImageNetFeatures, "side", 64)


@pytest.mark.usefixtures("brief_work")
def test_evaluate_judges_frames_with_both_controls(tiny_model: Path, sets: Path, clip: Path) -> None:
    common = ("--height", 256, "--engine", "onnxruntime", "--json")
    target, photos = sets / "target", sets / "photos"
    done = run_command("evaluate", tiny_model, "--judge", target, photos, "--frames", sets / "stills", "--frames", clip, *common)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["a2b"]
    assert figures["judged_frames"] == 2 + measure_style.VIDEO_FRAMES and figures["ms_at_1280x720"] > 0
    assert figures["judge_share_of_real_targets"] > 0.7 and figures["judge_share_of_real_photos"] < 0.3
    assert 0 <= figures["judge_share"] <= 1 and figures["chroma_of_targets"] > 5 and figures["frames_structure_kept"] < 1
    assert figures["patch_kid_of_photos"] > 0


@pytest.mark.usefixtures("brief_work")
def test_a_run_is_judged_in_each_direction_on_the_photos_held_out(run: Path, sets: Path) -> None:
    done = run_command("evaluate", run, "--judge", sets / "target" / "0.png", sets / "photos", "--height", 256, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert list(figures) == ["a2b", "b2a"] and figures["a2b"]["judge_share_of_raw_frames"] < 0.3
    assert figures["a2b"]["judged_frames"] == 3 and figures["a2b"]["chroma"] != figures["b2a"]["chroma"]


def test_what_cannot_be_judged_is_one_line(tiny_model: Path, sets: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    target, photos = sets / "target", sets / "photos"
    for args, message in (
        (("--frames", photos), "--frames needs --judge TARGET PHOTOS"),
        (("--judge", sets / "none", photos), "none: no such image or folder"),
        (("--judge", target, sets / "none"), "none: no such folder; expected a folder of photos"),
        (("--judge", target, target / "0.png"), "0.png: a file; expected a folder of photos"),
        (("--judge", sets / "few", photos), "few: --judge needs 8 or more readable images in a folder, got 3"),
        (("--judge", tmp_path / "empty", photos), "empty: no images in it"),
        (("--judge", tmp_path / "text.mp4", photos), "text.mp4: cannot be read as an image"),
        (("--judge", target, photos, "--frames", tmp_path / "none.jpg"), "none.jpg: no such image, folder or video"),
        (("--judge", target, photos, "--frames", tmp_path / "text.mp4"), "text.mp4: cannot be read as a video"),
        (("--judge", target, photos, "--frames", tmp_path / "empty"), "empty: no images in it"),
    ):
        done = run_command("evaluate", tiny_model, *args, "--json", "--engine", "onnxruntime")
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert (done.returncode, done.stdout, len(errors)) == (1, "", 1) and message in errors[0], done.stderr
