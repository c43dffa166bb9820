"""`cyclecast evaluate` measures runs and frame models: the figures that their data allow, and errors in one line."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

import cyclecast
from cyclecast.errors import ConfigError, InputError, ModelError
from cyclecast.measure import measure_model
from cyclecast.training import checkpoint
from cyclecast.training.config import TrainConfig, data_settings
from cyclecast.training.data import DigitSet, PairedData, open_domain, to_bytes
from cyclecast.training.evaluate import translation
from cyclecast.training.evaluate.distribution import ImageNetFeatures
from cyclecast.training.evaluate.domains import DomainPaths, replace_domains
from cyclecast.training.evaluate.flicker import warping_error
from cyclecast.training.evaluate.run import evaluate_run
from cyclecast.training.evaluate.translation import evaluate_translation, label_figures
from cyclecast.training.loop import train
from cyclecast.training.recipes.cyclegan import CycleGanConfig
from cyclecast.video.files.reader import VideoFile
from tests.commands import json_of, run_command
from tests.conftest import on_cuda

SmallConfig = Callable[..., TrainConfig]

ALWAYS = {"images", "structure_kept"}
DISTANCES = {"imagenet_fid", "imagenet_kid_mean", "imagenet_kid_std"}
OF_DIGITS = {"classifier_fid", "classifier_kid_mean", "classifier_kid_std"}
FOLDERS = ALWAYS | DISTANCES | {"classified_as_target", "source_classified_as_target"}
LABELS = {"per_pixel", "per_class", "class_iou"}
DIGITS = ALWAYS | OF_DIGITS | {"digit_accuracy", "digit_accuracy_untranslated", "digit_accuracy_of_real_targets"}


@pytest.fixture(autouse=True)
def brief_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second of training for each classifier, not half a minute, and features of small images."""
    monkeypatch.setattr(ImageNetFeatures, "side", 64)
    for name, steps in (("CLASSIFIER_STEPS", 10), ("DIGIT_STEPS", 45), ("SEGMENTATION_STEPS", 14)):
        monkeypatch.setattr(translation, name, steps)
    for name in ("train_classifier", "train_segmentation"):
        monkeypatch.setattr(translation, name, partial(trained_once, getattr(translation, name)))
    monkeypatch.setattr(translation, "ImageNetFeatures", imagenet_features)


@functools.cache
def imagenet_features() -> ImageNetFeatures:
    """Loads the network once; its weights never change."""
    return ImageNetFeatures()


TRAINED: dict[tuple[object, ...], nn.Module] = {}


def trained_once(train_network: Callable[..., nn.Module], images: Tensor, labels: Tensor, **settings: object) -> nn.Module:
    """Trains a network, or returns the one that the same data and settings, seed included, have given before."""
    digests = (hashlib.sha256(tensor.cpu().numpy().tobytes()).digest() for tensor in (images, labels))
    key = (train_network, str(images.device), *digests, *settings.items())
    if key not in TRAINED:
        TRAINED[key] = train_network(images, labels, **settings)
    return TRAINED[key]


def check(figures: dict[str, Any], names: set[str], images: int) -> None:
    """Asserts that there are exactly these figures, each a number, the shares from 0 to 1."""
    assert set(figures) == names and figures["images"] == images
    assert all(math.isfinite(value) for value in figures.values())
    shares = names - DISTANCES - OF_DIGITS - ALWAYS
    assert [name for name in shares if not 0 <= figures[name] <= 1] == []
    assert (
        -1 <= figures["structure_kept"] <= 1 and min(figures.get(name, 0) for name in ("imagenet_fid", "classifier_fid")) > -1e-3
    )


def test_a_run_on_folders_is_evaluated_in_both_directions_on_the_given_data(run: Path, domains: Path) -> None:
    figures = evaluate_run(run, domains)
    assert list(figures) == ["a2b", "b2a"]
    for direction in figures.values():
        check(direction, FOLDERS, images=8)
    with pytest.raises(InputError, match="needs a test split of 8 or more images, or 16 or more .* 4 could be held out"):
        evaluate_run(run)  # what it was trained on: 8 images, of which every second is held back


def test_a_run_of_pix2pix_is_evaluated_in_its_direction(small_config: SmallConfig, side_by_side: Path, tmp_path: Path) -> None:
    train("pix2pix", small_config("pix2pix", tmp_path / "run", direction="b2a", steps=1))
    with pytest.raises(InputError, match="val: evaluate needs 8 or more readable images, got 4"):
        evaluate_run(tmp_path / "run")
    more = tmp_path / "more"
    for part in ("train", "val"):
        (more / part).mkdir(parents=True)
        for copy in range(3):
            for image in (side_by_side / part).iterdir():
                (more / part / f"{copy}-{image.name}").write_bytes(image.read_bytes())
    figures = evaluate_run(tmp_path / "run", more)
    assert list(figures) == ["b2a"]
    check(figures["b2a"], FOLDERS, images=12)
    assert evaluate_run(tmp_path / "run" / checkpoint.NAME, more) == figures  # the file is enough, and nothing is random


def test_a_run_is_evaluated_on_the_domains_that_are_named(run: Path, domains: Path, tmp_path: Path) -> None:
    images = [write_images(tmp_path / name, 16, value) for value, name in enumerate(("a", "b"))]
    named = json_of("evaluate", run, "--domain-a", images[0], "--domain-b", images[1])
    assert [figures["images"] for figures in named.values()] == [8, 8]  # every second one is held out
    only_a = evaluate_run(run, domains, domain_a=images[0])
    assert [figures["images"] for figures in only_a.values()] == [8, 8]
    assert only_a["a2b"]["structure_kept"] == named["a2b"]["structure_kept"]
    assert only_a["b2a"]["structure_kept"] != named["b2a"]["structure_kept"]


def test_errors_about_domains_name_the_flags(
    run: Path, idle_model: Path, small_config: SmallConfig, drawn_digits: Path, tmp_path: Path
) -> None:
    few = write_images(tmp_path / "few", 3)
    with pytest.raises(InputError, match="few: evaluate needs .* --domain-a and --domain-b"):
        evaluate_run(run, domain_a=few, domain_b=few)
    with pytest.raises(InputError, match="none: no such folder or file; .* or this domain with --domain-b"):
        evaluate_run(run, domain_b=tmp_path / "none")
    done = run_command("evaluate", idle_model, "--domain-a", few)
    assert (
        done.returncode == 1 and "do not name domain_b; name the data with --data, or this domain with --domain-b" in done.stderr
    )
    done = run_command("evaluate", idle_model)
    assert done.returncode == 1 and "--domain-a and --domain-b" in done.stderr
    pairs = {"layout": "halves", "domain_a": few, "domain_b": few}
    with pytest.raises(ConfigError, match="pairs side by side, so both domains must be named: add --domain-b"):
        replace_domains(pairs, few, None)
    train("gan", small_config("gan", tmp_path / "gan", domain=drawn_digits / "mnist.npz", image_size=16))
    with pytest.raises(ConfigError, match="gan has one domain: name its images with --data"):
        evaluate_run(tmp_path / "gan", domain_a=few)


def test_a_folder_that_holds_a_file_of_digits_is_digits(drawn_digits: Path, tmp_path: Path) -> None:
    for name in ("mnist", "usps"):
        (tmp_path / name).mkdir()
        shutil.copyfile(drawn_digits / f"{name}.npz", tmp_path / name / f"{name}.npz")
    paths = DomainPaths.from_settings({"domain_a": tmp_path / "mnist", "domain_b": tmp_path / "usps"})
    assert (paths.domain_a, paths.domain_b) == (tmp_path / "mnist" / "mnist.npz", tmp_path / "usps" / "usps.npz")


def test_a_perfect_translator_has_distance_0_and_an_identity_has_none_of_the_target(domains: Path) -> None:
    paths = DomainPaths.from_settings(data_settings(CycleGanConfig, domains))
    target = to_bytes(open_domain(domains / "testB", (32, 32), 32).first(8, 32))
    perfect = evaluate_translation(lambda images: target, "a2b", paths, side=32)
    idle = evaluate_translation(lambda images: images, "a2b", paths, side=32)
    assert perfect["imagenet_fid"] == pytest.approx(0, abs=1e-3) and perfect["classified_as_target"] == 1
    assert idle["imagenet_fid"] > 0.1 and idle["classified_as_target"] == idle["source_classified_as_target"] == 0
    assert idle["structure_kept"] == pytest.approx(1) and perfect["structure_kept"] < 0.999
    back = evaluate_translation(lambda images: images.flip(1), "b2a", paths, side=32)  # B is A with its colors turned round
    assert back["imagenet_fid"] == pytest.approx(0, abs=1e-3) and back["classified_as_target"] == 1


def test_a_run_on_digits_is_evaluated_in_both_directions(small_config: SmallConfig, drawn_digits: Path, tmp_path: Path) -> None:
    files = {"domain_a": drawn_digits / "mnist.npz", "domain_b": drawn_digits / "usps.npz"}
    train("cyclegan", small_config("cyclegan", tmp_path / "run", **files, samples_a=None, samples_b=None))
    figures = evaluate_run(tmp_path / "run")
    assert list(figures) == ["a2b", "b2a"]
    for direction in figures.values():
        check(direction, DIGITS, images=40)
        assert direction["digit_accuracy_of_real_targets"] > 0.6


@pytest.mark.gpu
@on_cuda
def test_runs_on_folders_and_digits_are_evaluated_on_cuda(
    run: Path, small_config: SmallConfig, domains: Path, drawn_digits: Path, tmp_path: Path
) -> None:
    for direction in evaluate_run(run, domains, device=torch.device("cuda")).values():
        check(direction, FOLDERS, images=8)
    files = {"domain_a": drawn_digits / "mnist.npz", "domain_b": drawn_digits / "usps.npz"}
    train("cyclegan", small_config("cyclegan", tmp_path / "run", **files, samples_a=None, samples_b=None))
    for direction in evaluate_run(tmp_path / "run", device=torch.device("cuda")).values():
        check(direction, DIGITS, images=40)


def test_an_identity_on_digits_has_the_accuracy_of_its_input(drawn_digits: Path) -> None:
    paths = DomainPaths(domain_a=drawn_digits / "mnist.npz", domain_b=drawn_digits / "usps.npz")
    idle = evaluate_translation(lambda images: images, "a2b", paths, side=32)
    assert idle["digit_accuracy"] == idle["digit_accuracy_untranslated"]
    held = DigitSet(drawn_digits / "usps.npz", 32, "test")
    real = to_bytes(held.tensor(range(len(held))))
    perfect = evaluate_translation(lambda images: real, "a2b", paths, side=32)  # the labels of both go 0, 1, 2 ...
    assert perfect["digit_accuracy"] == perfect["digit_accuracy_of_real_targets"]
    assert perfect["classifier_fid"] == pytest.approx(0, abs=1e-3) and idle["classifier_fid"] > 0.01
    blank = evaluate_translation(torch.zeros_like, "a2b", paths, side=32)
    assert blank["digit_accuracy"] == 0.1  # one answer for all, and as many of each digit
    assert blank["digit_accuracy_untranslated"] == idle["digit_accuracy_untranslated"] > 0.2


def test_a_run_on_label_maps_is_scored_by_its_labels(small_config: SmallConfig, drawn_streets: Path, tmp_path: Path) -> None:
    places = data_settings(CycleGanConfig, drawn_streets / "camvid")
    train("cyclegan", small_config("cyclegan", tmp_path / "run", **places, steps=1))
    figures = evaluate_run(tmp_path / "run")
    assert list(figures) == ["a2b", "b2a"]
    for direction in figures.values():
        check(direction, FOLDERS | LABELS, images=8)


def test_label_scores_separate_right_from_wrong_in_both_directions(drawn_streets: Path) -> None:
    camvid = drawn_streets / "camvid"
    paths = DomainPaths.from_settings(data_settings(CycleGanConfig, camvid))  # A: photos (negatives of B); B: labels
    labels = paths.label_domain()
    assert labels is not None and labels[0] == "b"

    def scores(translate: Callable[[Tensor], Tensor], direction: str) -> dict[str, float]:
        return label_figures(translate, direction, paths, labels, 64, 0)

    assert scores(negative, "a2b") == dict.fromkeys(LABELS, 1.0)  # pixels without a label do not count
    maps, _ = PairedData(camvid / "val", camvid / "val_labels", (64, 64), 64, flip=False).first(8, 64)
    assert 0.1 < scores(lambda images: to_bytes(maps.flip(0)), "a2b")["per_pixel"] < 0.9
    right, wrong = scores(negative, "b2a"), scores(torch.zeros_like, "b2a")
    assert right["per_pixel"] > max(0.8, wrong["per_pixel"] + 0.1) and right["class_iou"] > 1.5 * wrong["class_iou"]


def negative(images: Tensor) -> Tensor:
    return 255 - images


def test_a_latent_run_is_evaluated_by_its_samples(small_config: SmallConfig, drawn_digits: Path, tmp_path: Path) -> None:
    train("gan", small_config("gan", tmp_path / "run", domain=drawn_digits / "mnist.npz", image_size=16))
    figures = evaluate_run(tmp_path / "run")
    assert list(figures) == ["sample"] and set(figures["sample"]) == {"images"} | OF_DIGITS
    assert figures["sample"]["images"] == 40 and all(math.isfinite(value) for value in figures["sample"].values())
    on_others = evaluate_run(tmp_path / "run", drawn_digits / "usps.npz")
    assert on_others["sample"]["classifier_fid"] != figures["sample"]["classifier_fid"]


def test_samples_of_photos_need_inception(small_config: SmallConfig, domains: Path, tmp_path: Path) -> None:
    train("gan", small_config("gan", tmp_path / "run", domain=domains / "trainA", image_size=16))
    with pytest.raises(InputError, match="trainA: FID of a single domain needs --inception, a file of Inception weights"):
        evaluate_run(tmp_path / "run")


def test_other_folders_and_unknown_recipes_are_errors(run: Path, domains: Path, tmp_path: Path) -> None:
    state = checkpoint.load(run / checkpoint.NAME)
    checkpoint.save(tmp_path / checkpoint.NAME, state | {"recipe": "dogan"})
    with pytest.raises(ConfigError, match="a run of 'dogan', a recipe that this version does not know; there are: gan, "):
        evaluate_run(tmp_path, domains)
    with pytest.raises(ModelError, match="no such checkpoint"):
        evaluate_run(domains)
    with pytest.raises(InputError, match="no such folder"):
        evaluate_run(run, tmp_path / "none")


def write_images(folder: Path, count: int, value: int = 0) -> Path:
    """Writes `count` random images of 48x40 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(value)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}.png"), random.integers(0, 256, (40, 48, 3), np.uint8))
    return folder


NO_TEST_SPLIT = "trainA: evaluate needs a test split of 8 or more images, or 16 or more readable images of which it holds out"


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"trainA": 1, "trainB": 1}, f"{NO_TEST_SPLIT} every second one; 0 could be held out here; add images, or name other"),
        ({"trainA": 1, "trainB": 16}, NO_TEST_SPLIT),
        ({"trainA": 2, "trainB": 2}, NO_TEST_SPLIT),
        ({"trainA": 15, "trainB": 15}, NO_TEST_SPLIT),
        (
            {"trainA": 8, "trainB": 8, "testA": 1, "testB": 1},
            "testA: evaluate needs 8 or more readable images, got 1; add images",
        ),
        (
            {"trainA": 8, "trainB": 8, "testA": 8, "testB": 7},
            "testB: evaluate needs 8 or more readable images, got 7; add images",
        ),
        ({"trainA": 8, "trainB": 8, "testA": 8, "testB": 0}, "testB: no images in it"),
        ({"trainA": 0, "trainB": 8}, "trainA: no images in it"),
        ({}, "neither trainA and trainB in it"),
    ],
)
def test_too_few_images_are_an_error_in_one_line_that_names_the_folder(
    run: Path, idle_model: Path, tmp_path: Path, splits: dict[str, int], message: str
) -> None:
    for name, count in splits.items():
        write_images(tmp_path / name, count)
    with pytest.raises(InputError, match=message):
        evaluate_run(run, tmp_path)
    with cyclecast.load(idle_model, "onnxruntime") as model, pytest.raises(InputError, match=message):
        measure_model(model, tmp_path, None, seconds=4.0, side=32, inception=None, seed=0)


def test_gray_deep_transparent_and_damaged_images_are_read_or_skipped(tmp_path: Path) -> None:
    for name in ("trainA", "trainB"):
        paths = sorted(write_images(tmp_path / name, 16).iterdir())
        images = [np.asarray(cv2.imread(str(path)), np.uint8) for path in paths]
        gray, deep, deep_gray = images[0][..., 0], images[1].astype(np.uint16) * 257, images[2][..., 0].astype(np.uint16) * 257
        transparent, small = np.dstack([images[3], images[3][..., 0]]), cv2.resize(images[4], (33, 90))
        odd: list[np.ndarray[Any, Any]] = [gray, deep, deep_gray, transparent, small, images[5][:8, :8]]
        for index, image in enumerate(odd):
            cv2.imwrite(str(tmp_path / name / f"{index}.png"), image)
        (tmp_path / name / "damaged.png").write_bytes((tmp_path / name / "9.png").read_bytes()[:200])
        (tmp_path / name / "text.jpg").write_bytes(b"not an image")
        write_images(tmp_path / name / "more", 2)
    domains = DomainPaths.from_settings(data_settings(CycleGanConfig, tmp_path))
    figures = evaluate_translation(lambda images: images, "a2b", domains, side=32)
    check(figures, FOLDERS, images=8)  # of 17 readable files, every second one


def test_data_of_another_type_are_an_error_in_one_line(run: Path, idle_model: Path, tmp_path: Path) -> None:
    lines = tmp_path / "losses.jsonl"
    lines.write_text('{"step": 1}\n')
    with pytest.raises(InputError, match="losses.jsonl: a file; expected a folder with trainA and trainB"):
        evaluate_run(run, lines)
    with pytest.raises(ModelError, match="losses.jsonl: cannot be read as a checkpoint"):
        evaluate_run(lines)
    with cyclecast.load(idle_model, "onnxruntime") as model:
        with pytest.raises(InputError, match="losses.jsonl: a file; expected a folder with trainA and trainB"):
            measure_model(model, lines, None, seconds=4.0, side=32, inception=None, seed=0)
        with pytest.raises(InputError, match="losses.jsonl: cannot be read as a video"):
            measure_model(model, None, lines, seconds=4.0, side=32, inception=None, seed=0)


def test_lines_of_another_program_in_a_runs_folder_do_not_matter(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "losses.jsonl").write_text("not JSON\n[1]\n")
    with pytest.raises(InputError, match=NO_TEST_SPLIT):  # it is read as far as its data
        evaluate_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"recipe": None}, ModelError, "not a checkpoint of this version of cyclecast: it names no recipe"),
        ({"recipe": ["cyclegan"]}, ModelError, "recipe must be of type str, got list"),
        ({"config": None}, ModelError, "it names no recipe or holds no settings; use the version that wrote it, or train again"),
        ({"config": [1]}, ModelError, "config must be of type dict, got list"),
        ({"averages": [1]}, ModelError, "averages must be of type dict, got list"),
        ({"exports": {"a2b": [1]}}, ModelError, "a checkpoint without a generator"),
        ({"exports": None}, ModelError, "it holds no generator to export"),
        ({"exports": {"a2b": {"architecture": {"generator": "newer"}, "network": "g"}}}, ModelError, "newer"),
        ({"averages": None}, ModelError, "a checkpoint without a generator"),
        ({"config.crop_size": None}, ModelError, "its settings hold no size of images, got None"),
        ({"config.crop_size": "large"}, ModelError, "its settings hold no size of images, got 'large'"),
        ({"config.crop_size": 8}, InputError, "evaluate needs images of 11x11 pixels or more .*, got 8x8"),
        ({"config.domain_a": None}, InputError, "the settings do not name domain_a; name the data with --data"),
        ({"config.domain_a": 3}, InputError, "the setting domain_a must be a path, got 3"),
        ({"config.domain_a": "/moved/trainA"}, InputError, "/moved/trainA: no such folder or file; if the data was moved"),
        ({"config.domain_a": __file__}, InputError, "one is a folder and one a file"),
    ],
)
def test_a_checkpoint_of_another_version_is_an_error_in_one_line(
    run: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    state = checkpoint.load(run / checkpoint.NAME)
    for key, value in changes.items():
        part, _, name = key.rpartition(".")
        target = state[part] if part else state
        if value is None:
            del target[name]
        else:
            target[name] = value
    checkpoint.save(tmp_path / checkpoint.NAME, state)
    with pytest.raises(error, match=message):
        evaluate_run(tmp_path)


def identity_model(path: Path, metadata: str | None = None) -> Path:
    """A frame model that outputs its input."""
    one, other = (helper.make_tensor_value_info(name, TensorProto.UINT8, [1, "h", "w", 3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [one], [other])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if metadata is not None:
        helper.set_model_props(model, {"cyclecast": metadata})
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("direction", ["sample", "forward", "b2c", "x", 3, ["a2b"]])
def test_a_model_with_an_unknown_direction_is_an_error_in_one_line(direction: Any, domains: Path, tmp_path: Path) -> None:
    path = identity_model(tmp_path / "model.onnx", json.dumps({"direction": direction}))
    with (
        pytest.raises(ModelError, match="direction.*(expected a2b or b2a|expected a text)"),
        cyclecast.load(path, "onnxruntime") as model,
    ):
        measure_model(model, domains, None, seconds=4.0, side=32, inception=None, seed=0)


def test_a_clip_without_two_frames_is_an_error_in_one_line(idle_model: Path, clip: Path, domains: Path) -> None:
    with cyclecast.load(idle_model, "onnxruntime") as model:
        for short, seconds in ((clip, 0.01), (domains / "trainA" / "0.png", 4.0)):
            message = (
                f"{short.name}: flicker compares neighboring frames, so it needs two or more; its first {seconds:g} s hold 1"
            )
            with pytest.raises(InputError, match=message):
                measure_model(model, None, short, seconds=seconds, side=32, inception=None, seed=0)


@pytest.fixture(scope="module")
def idle_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frame model that outputs its input."""
    return identity_model(tmp_path_factory.mktemp("idle") / "idle.onnx")


def test_an_identity_model_has_the_warping_error_and_the_structure_of_its_source(
    idle_model: Path, clip: Path, domains: Path
) -> None:
    with cyclecast.load(idle_model, "onnxruntime") as model:
        figures = measure_model(model, domains, clip, seconds=4.0, side=32, inception=None, seed=0)
    assert list(figures) == ["a2b"]
    found = figures["a2b"]
    assert set(found) == FOLDERS | {"warping_error", "warping_error_of_the_source", "frames"}
    with VideoFile(clip) as video:
        frames = [np.array(frame.image) for frame in video]
    assert found["warping_error"] == found["warping_error_of_the_source"] == pytest.approx(warping_error(frames, frames).mean)
    assert (found["frames"], found["images"]) == (11, 8)
    assert found["structure_kept"] == pytest.approx(1) and found["classified_as_target"] == found["source_classified_as_target"]


def test_the_warping_error_is_measured_over_the_requested_seconds(tiny_model: Path, clip: Path) -> None:
    done = run_command("evaluate", tiny_model, "--clip", clip, "--seconds", 0.2, "--engine", "onnxruntime", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["a2b"]
    assert set(found) == {"warping_error", "warping_error_of_the_source", "frames"}
    assert found["frames"] == 4  # pairs of those that begin at 0, 47, 94, 120 and 167 ms
    assert found["warping_error"] > 0 and found["warping_error"] != found["warping_error_of_the_source"]
    table = run_command("evaluate", tiny_model, "--clip", clip, "--seconds", 0.2)
    assert table.returncode == 0 and table.stdout == ""
    assert all(name in table.stderr for name in found)


def test_an_evaluation_without_data_is_an_error_in_one_line(tiny_model: Path, run: Path, clip: Path) -> None:
    for args, message in (
        ((tiny_model,), "nothing to measure a frame model on: name --judge, --data, --domain-a and --domain-b, or --clip"),
        ((run, "--clip", clip), "flicker is measured on a frame model: export the run, then evaluate that"),
    ):
        done = run_command("evaluate", *args, "--json")
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {message}\n")
