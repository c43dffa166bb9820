"""Experiments with few steps on drawn data: one page with the results, no repeated work, errors in one line."""

from __future__ import annotations

import json
import math
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cyclecast.errors import ConfigError, InputError, Interrupted
from cyclecast.training import search
from cyclecast.training.evaluate.classifier import SmallClassifier
from cyclecast.training.evaluate.labels import LabelScores
from cyclecast.training.reproduce import EXPERIMENTS
from cyclecast.training.reproduce.digits import FIGURES, FOLDERS, VARIANTS
from cyclecast.training.reproduce.experiment import Experiment
from cyclecast.training.reproduce.latent import EXAMPLES, TITLES, draw_tsne, interpolate, latent_arithmetic
from cyclecast.training.reproduce.street import ABLATIONS, METHODS, PAPER, agreement
from tests.commands import run_command
from tests.training.conftest import draw_digits

EFFORT = {"digits": 0.0014, "latent": 0.0005, "street": 0.0005}  # 2 or 3 steps of each CycleGAN
METHODS_OF = {"digits": [*VARIANTS], "latent": [*TITLES.values()], "street": [*METHODS, *ABLATIONS]}
TIMES = {"seconds", "minutes"}

Calls = list[tuple[str, int, int]]


def experiment(out: Path, calls: Calls | None = None, effort: float = 0.0014, **settings: Any) -> Experiment:
    """Creates an experiment of a few steps; in fp32, because engines compute bf16 in the same process."""

    def record(*stage: Any) -> None:
        if calls is not None:
            calls.append(stage)

    chosen: dict[str, Any] = {"device": "cpu", "precision": "fp32", "effort": effort, "on_progress": record}
    return Experiment(out, **chosen | settings)


@pytest.fixture(scope="module", autouse=True)
def brief_search() -> Iterator[None]:
    """CoGAN searches the latent of an image in 2 steps instead of 100, which would take half of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "STEPS", 2)
        yield


@pytest.fixture(scope="module")
def streets(drawn_streets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn streets with three photos for validation."""
    folder = shutil.copytree(drawn_streets, tmp_path_factory.mktemp("streets") / "data")
    for path in folder.glob("*/val*/*"):
        if int(path.stem) >= 3:
            path.unlink()
    return folder


@pytest.fixture(scope="module")
def finished(drawn_digits: Path, streets: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a whole experiment, made once."""
    folder = tmp_path_factory.mktemp("experiments")

    def out(name: str) -> Path:
        if not (folder / name).exists():
            data = streets if name == "street" else drawn_digits
            assert EXPERIMENTS[name](data, experiment(folder / name, effort=EFFORT[name])) == folder / name / "index.html"
        return folder / name

    return out


def tables(page: str) -> list[list[list[str]]]:
    """Reads the cells of every table of a page, its head left out."""
    found = []
    for body in re.findall(r"<tbody>(.*?)</tbody>", page, re.DOTALL):
        rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
        found.append([[unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in rows])
    return found


def shows_value(cell: str, value: float | None) -> bool:
    """Returns whether a cell shows the value, to all the digits that it has; an empty one shows none."""
    if value is None or not cell:
        return value is None and not cell
    digits, _, exponent = cell.partition("e")
    last = 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    return math.isfinite(value) and abs(float(cell) - value) <= 0.51 * last


def figures(out: Path) -> dict[str, Any]:
    """Reads results.json, and asserts that every reader of JSON can."""

    def reject(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    value = json.loads((out / "results.json").read_text("utf-8"), parse_constant=reject)
    assert isinstance(value, dict)
    return value


def untimed(value: Any) -> Any:
    """Returns the same nested figures without how long anything took."""
    return {key: untimed(item) for key, item in value.items() if key not in TIMES} if isinstance(value, dict) else value


def kept(out: Path) -> dict[Path, tuple[int, bytes]]:
    """Returns, for each network that an experiment has trained, when its file was written, and its content."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(out.rglob("*.pt"))}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_writes_one_page_that_names_every_method(name: str, finished: Callable[[str], Path]) -> None:
    page = (finished(name) / "index.html").read_text("utf-8")
    text = unescape(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL))
    assert [method for method in METHODS_OF[name] if method not in text] == []
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(addresses) > len(METHODS_OF[name])  # an image of each, or more
    assert [address[:40] for address in addresses if not address.startswith("data:")] == []
    assert not re.search(r"https?:|url\(|@import|fetch\(", re.sub(r"base64,[^\"]*", "", page))


def test_the_page_of_digits_shows_its_results(finished: Callable[[str], Path]) -> None:
    results, (table,) = figures(finished("digits")), tables((finished("digits") / "index.html").read_text("utf-8"))
    rows = {f"{way}, {by}": cells for way, by, *cells in table}
    assert len(rows) == 2 * (2 + len(VARIANTS) + 1)
    for row, cells in rows.items():
        assert list(results[row]) == list(FIGURES)
        assert all(shows_value(*pair) for pair in zip(cells, results[row].values(), strict=True)), row
        assert 0 <= results[row]["accuracy"] <= 1
    assert set(results["seconds"]) == set(VARIANTS) and all(value > 0 for value in results["seconds"].values())
    assert set(results) == {*rows, "seconds"}


def test_the_page_of_latents_shows_its_results(finished: Callable[[str], Path]) -> None:
    page = (finished("latent") / "index.html").read_text("utf-8")
    results, (table,) = figures(finished("latent")), tables(page)
    distances = ("classifier_fid", "classifier_kid_mean", "classifier_kid_std")
    assert [row[0] for row in table] == ["other real digits", *TITLES.values()]
    for (_, *cells), scores in zip(table, (results["real"], *(results[recipe] for recipe in TITLES)), strict=True):
        values = [*(scores[key] for key in distances), scores.get("classes", 10), scores.get("steps"), scores.get("minutes")]
        assert all(shows_value(*pair) for pair in zip(cells, values, strict=True)), (cells, values)
    assert "20 samples against 20 real test digits" in page  # half of the 40 that there are
    for recipe in TITLES:
        tried, digit, bolder = (results[recipe][f"arithmetic_{key}"] for key in ("tried", "digit", "bolder"))
        assert f"Of {tried} such sums, {digit} show the expected digit and {bolder} show more ink" in page


def test_the_page_of_streets_shows_its_results_and_those_of_the_paper(finished: Callable[[str], Path]) -> None:
    results, found = figures(finished("street")), tables((finished("street") / "index.html").read_text("utf-8"))
    assert [len(table) for table in found] == [6, 5, 6, 5]  # the upper limit is of photos alone
    for index, table in enumerate(found):
        way, column = (("labels_to_photo", 0), ("photo_to_labels", 1))[index % 2]
        for method, *cells in table:
            scores = results[way]["real photos" if method.startswith("real photos") else method]
            assert set(scores) == {"per_pixel", "per_class", "class_iou"}
            paper = PAPER[method][column] if method in PAPER else (None,) * 3
            minutes = results["seconds"][method] / 60 if method in PAPER else None
            values = [*scores.values(), *paper, minutes]
            assert all(shows_value(*pair) for pair in zip(cells, values, strict=True)), (method, cells, values)
    assert set(results["photo_to_labels"]) == set(METHODS) | set(ABLATIONS) == set(results["seconds"])
    assert (results["side"], results["steps"], results["seed"]) == (64, 2, 0)


@pytest.mark.parametrize("name", ["digits", "street"])  # latent: below, with parts deleted
def test_a_repeated_experiment_trains_nothing_and_has_the_same_results(
    name: str, finished: Callable[[str], Path], drawn_digits: Path, streets: Path
) -> None:
    out, calls = finished(name), Calls()
    before, found = kept(out), figures(out)
    assert len(before) >= len(METHODS_OF[name])
    EXPERIMENTS[name](streets if name == "street" else drawn_digits, experiment(out, calls, effort=EFFORT[name]))
    assert calls == [] and kept(out) == before and figures(out) == found


def test_an_interrupted_experiment_resumes_and_ends_with_the_same_figures(
    finished: Callable[[str], Path], drawn_digits: Path, tmp_path: Path
) -> None:
    """By Ctrl-C in the middle of a run, and in its last step, after which the experiment stops, too."""
    first, *others = FOLDERS.values()
    calls = Calls()

    def press_ctrl_c_at(at: int) -> Callable[[str, int, int], None]:
        def on_progress(stage: str, step: int, steps: int) -> None:
            calls.append((stage, step, steps))
            if (stage, step) == (first, at):
                signal.raise_signal(signal.SIGINT)

        return on_progress

    with pytest.raises(Interrupted, match="stopped at step 2 of 3"):
        EXPERIMENTS["digits"](drawn_digits, experiment(tmp_path / "out", on_progress=press_ctrl_c_at(1)))
    before = kept(tmp_path / "out")
    calls.clear()
    with pytest.raises(Interrupted, match=f"stopped after {first}, which is complete; the same command continues"):
        EXPERIMENTS["digits"](drawn_digits, experiment(tmp_path / "out", on_progress=press_ctrl_c_at(3)))
    assert calls == [(first, 3, 3)] and not (tmp_path / "out" / "index.html").exists()
    calls.clear()
    EXPERIMENTS["digits"](drawn_digits, experiment(tmp_path / "out", calls))
    assert calls == [(run, step, 3) for run in others for step in (1, 2, 3)]
    after = kept(tmp_path / "out")
    assert [path.parent.name for path in before if before[path] != after[path]] == [first]
    assert untimed(figures(tmp_path / "out")) == untimed(figures(finished("digits")))


def test_only_a_deleted_run_or_classifier_is_trained_again(
    finished: Callable[[str], Path], drawn_digits: Path, tmp_path: Path
) -> None:
    out, calls = tmp_path / "out", Calls()
    shutil.copytree(finished("latent"), out)
    shutil.rmtree(out / "dcgan")
    (out / "classifier.pt").unlink()
    before = kept(out)
    EXPERIMENTS["latent"](drawn_digits, experiment(out, calls, effort=EFFORT["latent"]))
    assert {stage for stage, _, _ in calls} == {"classifier", "dcgan"}
    assert len(before) >= 2 and before.items() <= kept(out).items()
    assert untimed(figures(out)) == untimed(figures(finished("latent")))


def test_a_folder_with_another_seed_effort_or_classifier_is_an_error(
    finished: Callable[[str], Path], drawn_digits: Path, tmp_path: Path
) -> None:
    out, calls = finished("digits"), Calls()
    before = kept(out)
    with pytest.raises(ConfigError, match="classifier-mnist.pt: started with seed 0, not 1; choose another folder"):
        EXPERIMENTS["digits"](drawn_digits, experiment(out, calls, seed=1))
    with pytest.raises(ConfigError, match="classifier-mnist.pt: started with effort 0.0014, not 0.001; choose another folder"):
        EXPERIMENTS["digits"](drawn_digits, experiment(out, calls, effort=0.001))
    torch.save({"seed": 0, "weights": SmallClassifier(3).state_dict()}, tmp_path / "classifier-mnist.pt")
    with pytest.raises(ConfigError, match="classifier-mnist.pt: not a classifier of this experiment"):
        EXPERIMENTS["digits"](drawn_digits, experiment(tmp_path, calls))
    (tmp_path / "classifier-mnist.pt").write_bytes(b"no network")
    with pytest.raises(ConfigError, match="classifier-mnist.pt: not a classifier of this experiment"):
        EXPERIMENTS["digits"](drawn_digits, experiment(tmp_path, calls))
    assert calls == [] and kept(out) == before


@pytest.mark.parametrize(
    ("name", "lost", "message"),
    [
        ("digits", "mnist.npz", "mnist.npz: no such file"),
        ("digits", "usps.npz", "usps.npz: no such file"),
        ("latent", "mnist.npz", "mnist.npz: no such file"),
        ("street", "camvid", "camvid: no classes.csv in it"),
        ("street", "camvid/classes.csv", "camvid: no classes.csv in it"),
        ("street", "camvid/train", "train: no such folder"),
        ("street", "camvid/train_labels", "train_labels: no such folder"),
        ("street", "camvid/val", "val: no such folder"),
        ("street", "facades/val", "val: no such folder"),
    ],
)
def test_missing_data_are_an_error_before_anything_is_trained(
    name: str, lost: str, message: str, drawn_digits: Path, drawn_streets: Path, tmp_path: Path
) -> None:
    data, calls = tmp_path / "data", Calls()
    shutil.copytree(drawn_streets if name == "street" else drawn_digits, data)
    shutil.rmtree(data / lost) if (data / lost).is_dir() else (data / lost).unlink()
    with pytest.raises(InputError, match=message):
        EXPERIMENTS[name](data, experiment(tmp_path / "out", calls))
    assert calls == [] and not (tmp_path / "out").exists()


def test_too_few_test_digits_are_an_error_before_anything_is_trained(tmp_path: Path) -> None:
    images, labels = draw_digits(23, 28, 0)
    np.savez(tmp_path / "mnist.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(InputError, match="mnist.npz: the experiment needs 24 or more test digits, got 23"):
        EXPERIMENTS["latent"](tmp_path, experiment(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def scored(per_pixel: dict[str, float]) -> dict[str, LabelScores]:
    return {name: LabelScores(per_pixel=value, per_class=0.0, class_iou=0.0) for name, value in per_pixel.items()}


@pytest.mark.parametrize("methods", [METHODS, ABLATIONS])
@pytest.mark.parametrize("column", [0, 1])
def test_agreement_counts_the_pairs_in_the_papers_order(methods: tuple[str, ...], column: int) -> None:
    paper = {name: PAPER[name][column][0] or 0.0 for name in methods}
    assert agreement(scored(paper), column, methods) == "By per-pixel accuracy, 10 of 10 pairs are in the paper's order."
    reversed_order = scored({name: 1 - value for name, value in paper.items()})
    nothing = agreement(reversed_order, column, methods)
    assert nothing.startswith("By per-pixel accuracy, 0 of 10 pairs") and nothing.count(" and ") == 10
    lowest, second = sorted(methods, key=lambda name: paper[name])[:2]
    one, other = sorted((lowest, second), key=methods.index)
    for value in (paper[second] + 1e-3, paper[second]):  # ahead of what it should follow, or beside it
        sentence = agreement(scored(paper | {lowest: value}), column, methods)
        assert sentence == f"By per-pixel accuracy, 9 of 10 pairs are in the paper's order; not: {one} and {other}."


def test_interpolation_is_linear_between_its_latents() -> None:
    start, end = torch.randn(2, 6, 100, generator=torch.Generator().manual_seed(0))
    walk = interpolate(start, end, 5).reshape(6, 5, 100)
    assert torch.equal(walk[:, 0], start) and torch.equal(walk[:, -1], end)
    torch.testing.assert_close(walk[:, 2], (start + end) / 2)
    torch.testing.assert_close(walk[:, 1] - walk[:, 0], walk[:, 4] - walk[:, 3])


class Plain(nn.Module):
    """(N, 11) -> (N, 1, 4, 4): a pixel for each digit, as bright as its value, and six of ink, for the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(11, 16)
        nn.init.constant_(self.linear.bias, -0.5)
        self.linear.weight.data = torch.eye(11)[[*range(10), *[10] * 6]]

    def forward(self, latents: Tensor) -> Tensor:
        pixels: Tensor = self.linear(latents)
        return pixels.reshape(-1, 1, 4, 4)


class Reader(SmallClassifier):
    """Reads those images. always: its answer for any image."""

    def __init__(self, always: int | None = None) -> None:
        super().__init__(10, 1)
        self.always = always

    def forward(self, x: Tensor) -> Tensor:
        scores_of_digits = x[:, 0].flatten(1)[:, :10]
        return scores_of_digits if self.always is None else torch.eye(10)[self.always].expand_as(scores_of_digits)


def plain_latents(of_each: int) -> tuple[Tensor, Tensor]:
    """Latents of so many images of each digit, from thin to bold, and the digits."""
    digits = torch.arange(10).repeat_interleave(of_each)
    return torch.cat([torch.eye(10)[digits], torch.linspace(0, 1, of_each).repeat(10)[:, None]], 1), digits


def test_vector_arithmetic_on_a_linear_generator_outputs_the_bold_digit() -> None:
    latents, digits = plain_latents(3 * EXAMPLES)
    image, found = latent_arithmetic(Plain(), latents, digits, Reader())
    assert found == {"arithmetic_tried": 10, "arithmetic_digit": 10, "arithmetic_bolder": 10}
    assert image.shape == (10 * 64, 4 * 64, 3)
    # Row p, as ink: bold p, thin p, thin q, and bold again.
    ink = [image[32:64, column : column + 60].max() for column in (0, 64, 128, 196)]
    assert ink[1] == ink[2] < ink[0] and abs(int(ink[3]) - int(ink[0])) <= 1


def test_vector_arithmetic_counts_correct_outputs_of_digits_with_enough_samples() -> None:
    latents, digits = plain_latents(3 * EXAMPLES)
    assert latent_arithmetic(Plain(), latents, digits, Reader(always=3))[1]["arithmetic_digit"] == 1
    faint = latents.clone()
    faint[:, 10] = 0  # thin and bold are alike
    assert latent_arithmetic(Plain(), faint, digits, Reader())[1]["arithmetic_bolder"] == 0
    fewer = torch.where((digits == 4) | (digits == 9), 3, digits)
    assert latent_arithmetic(Plain(), latents, fewer, Reader())[1]["arithmetic_tried"] == 8
    image, found = latent_arithmetic(Plain(), latents, torch.full_like(digits, 7), Reader())
    assert set(found.values()) == {0} and image.ndim == 2


@pytest.mark.parametrize("by_features", [False, True])
def test_tsne_draws_few_latents_and_a_model_with_one_output(by_features: bool) -> None:
    torch.manual_seed(0)
    classifier = SmallClassifier(10, 2).eval() if by_features else None
    spread = draw_tsne(Plain(), plain_latents(2)[0], classifier, side=200)
    latents = torch.zeros(20, 11)
    latents[:, 10] = 1.5
    heap = draw_tsne(Plain(), latents, classifier, side=200)
    assert spread.shape == heap.shape == (200, 200)
    assert (heap == 255).sum() == 6 < 2 * 6 < (spread > 0).sum()


def test_an_unknown_experiment_is_an_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    done = run_command("reproduce", "faces", "--data", tmp_path, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "") and not (tmp_path / "out").exists()
    assert "no experiment named 'faces'" in done.stderr and "digits, latent, street" in done.stderr
