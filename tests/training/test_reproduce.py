"""Experiments, at toy effort on drawn data: one page that holds the figures, work that is never done twice, clear refusals."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cyclecast.errors import ConfigError, InputError
from cyclecast.training import search
from cyclecast.training.evaluate.classifier import SmallClassifier
from cyclecast.training.evaluate.labels import LabelScores
from cyclecast.training.reproduce import EXPERIMENTS
from cyclecast.training.reproduce.digits import FIGURES, FOLDERS, VARIANTS
from cyclecast.training.reproduce.experiment import Experiment
from cyclecast.training.reproduce.latent import EXAMPLES, TITLES, draw_tsne, interpolate, latent_arithmetic
from cyclecast.training.reproduce.street import ABLATIONS, METHODS, PAPER, agreement
from tests.training.conftest import draw_digits

PROGRAM = Path(sys.executable).parent / "cyclecast"
METHODS_OF = {"digits": [*VARIANTS], "latent": [*TITLES.values()], "street": [*METHODS, *ABLATIONS]}
TIMES = {"seconds", "minutes"}

Told = list[tuple[str, int, int]]
ALONE = """
import signal, sys
from pathlib import Path
from cyclecast.training.reproduce import EXPERIMENTS
from cyclecast.training.reproduce.experiment import Experiment

def tell(stage, done, total):
    print(stage, done, total)
    if f"{stage} {done}" == sys.argv[3]:
        signal.raise_signal(signal.SIGINT)

experiment = Experiment(Path(sys.argv[2]), device="cpu", precision="fp32", effort=0.0014, on_progress=tell)
EXPERIMENTS["digits"](Path(sys.argv[1]), experiment)
"""


def experiment(out: Path, told: Told | None = None, effort: float = 0.0014, **settings: Any) -> Experiment:
    """Three steps of 4,000; in fp32, beside engines that compute bf16 in the same process."""

    def tell(*stage: Any) -> None:
        if told is not None:
            told.append(stage)

    chosen: dict[str, Any] = {"device": "cpu", "precision": "fp32", "effort": effort, "on_progress": tell}
    return Experiment(out, **chosen | settings)


@pytest.fixture(scope="module", autouse=True)
def brief_search() -> Iterator[None]:
    """CoGAN looks for the latent of a picture in 2 steps of 100: half of the time would go there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "STEPS", 2)
        yield


@pytest.fixture(scope="module")
def finished(drawn_digits: Path, drawn_streets: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a whole experiment, made once."""
    folder = tmp_path_factory.mktemp("experiments")

    def out(name: str) -> Path:
        if not (folder / name).exists():
            data = drawn_streets if name == "street" else drawn_digits
            assert EXPERIMENTS[name](data, experiment(folder / name)) == folder / name / "index.html"
        return folder / name

    return out


def tables(page: str) -> list[list[list[str]]]:
    """The cells of every table of a page, its head left out."""
    found = []
    for body in re.findall(r"<tbody>(.*?)</tbody>", page, re.DOTALL):
        rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
        found.append([[unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in rows])
    return found


def says(cell: str, value: float | None) -> bool:
    """Whether a cell shows the value, to all the digits that it has; an empty one shows none."""
    if value is None or not cell:
        return value is None and not cell
    digits, _, exponent = cell.partition("e")
    last = 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    return math.isfinite(value) and abs(float(cell) - value) <= 0.51 * last


def figures(out: Path) -> dict[str, Any]:
    """results.json, which every reader of JSON can read."""

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    value = json.loads((out / "results.json").read_text("utf-8"), parse_constant=refuse)
    assert isinstance(value, dict)
    return value


def untimed(value: Any) -> Any:
    """The same nested figures without how long anything took."""
    return {key: untimed(item) for key, item in value.items() if key not in TIMES} if isinstance(value, dict) else value


def kept(out: Path) -> dict[Path, tuple[int, bytes]]:
    """Of each network that an experiment has trained: when its file was written, and the file."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(out.rglob("*.pt"))}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_one_file_that_names_every_method(name: str, finished: Callable[[str], Path]) -> None:
    page = (finished(name) / "index.html").read_text("utf-8")
    text = unescape(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL))
    assert [method for method in METHODS_OF[name] if method not in text] == []
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(addresses) > len(METHODS_OF[name])  # a picture of each, or more
    assert [address[:40] for address in addresses if not address.startswith("data:")] == []
    assert not re.search(r"https?:|url\(|@import|fetch\(", re.sub(r"base64,[^\"]*", "", page))


def test_the_page_of_digits_says_what_its_results_say(finished: Callable[[str], Path]) -> None:
    results, (table,) = figures(finished("digits")), tables((finished("digits") / "index.html").read_text("utf-8"))
    rows = {f"{way}, {by}": cells for way, by, *cells in table}
    assert len(rows) == 2 * (2 + len(VARIANTS) + 1)
    for row, cells in rows.items():
        assert list(results[row]) == list(FIGURES)
        assert all(says(*pair) for pair in zip(cells, results[row].values(), strict=True)), row
        assert 0 <= results[row]["accuracy"] <= 1
    assert set(results["seconds"]) == set(VARIANTS) and all(value > 0 for value in results["seconds"].values())
    assert set(results) == {*rows, "seconds"}


def test_the_page_of_latents_says_what_its_results_say(finished: Callable[[str], Path]) -> None:
    page = (finished("latent") / "index.html").read_text("utf-8")
    results, (table,) = figures(finished("latent")), tables(page)
    distances = ("classifier_fid", "classifier_kid_mean", "classifier_kid_std")
    assert [row[0] for row in table] == ["other real digits", *TITLES.values()]
    for (_, *cells), scores in zip(table, (results["real"], *(results[recipe] for recipe in TITLES)), strict=True):
        values = [*(scores[key] for key in distances), scores.get("classes", 10), scores.get("steps"), scores.get("minutes")]
        assert all(says(*pair) for pair in zip(cells, values, strict=True)), (cells, values)
    assert "20 samples against 20 real test digits" in page  # half of the 40 that there are
    for recipe in TITLES:
        tried, digit, bolder = (results[recipe][f"arithmetic_{key}"] for key in ("tried", "digit", "bolder"))
        assert f"Of {tried} such sums, {digit} show the expected digit and {bolder} show more ink" in page


def test_the_page_of_streets_says_what_its_results_and_the_paper_say(finished: Callable[[str], Path]) -> None:
    results, found = figures(finished("street")), tables((finished("street") / "index.html").read_text("utf-8"))
    assert [len(table) for table in found] == [6, 5, 6, 5]  # the judge's limit is of photos alone
    for index, table in enumerate(found):
        way, column = (("labels_to_photo", 0), ("photo_to_labels", 1))[index % 2]
        for method, *cells in table:
            scores = results[way]["real photos" if method.startswith("real photos") else method]
            assert set(scores) == {"per_pixel", "per_class", "class_iou"}
            paper = PAPER[method][column] if method in PAPER else (None,) * 3
            minutes = results["seconds"][method] / 60 if method in PAPER else None
            values = [*scores.values(), *paper, minutes]
            assert all(says(*pair) for pair in zip(cells, values, strict=True)), (method, cells, values)
    assert set(results["photo_to_labels"]) == set(METHODS) | set(ABLATIONS) == set(results["seconds"])
    assert (results["side"], results["steps"], results["seed"]) == (64, 4, 0)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_second_time_trains_nothing_and_finds_the_same(
    name: str, finished: Callable[[str], Path], drawn_digits: Path, drawn_streets: Path
) -> None:
    out, told = finished(name), Told()
    before, found = kept(out), figures(out)
    assert len(before) >= len(METHODS_OF[name])
    EXPERIMENTS[name](drawn_streets if name == "street" else drawn_digits, experiment(out, told))
    assert told == [] and kept(out) == before and figures(out) == found


def alone(data: Path, out: Path, press_at: str = "") -> subprocess.CompletedProcess[str]:
    """The experiment in a process of its own, as a user's is: Ctrl-C is pressed in it at "STAGE STEP"."""
    return subprocess.run([sys.executable, "-c", ALONE, str(data), str(out), press_at], capture_output=True, text=True)


def test_what_was_stopped_goes_on_there_and_ends_the_same(drawn_digits: Path, tmp_path: Path) -> None:
    first, *others = FOLDERS.values()
    stopped = alone(drawn_digits, tmp_path / "out", press_at=f"{first} 1")
    assert "Interrupted: stopped at step 2 of 3" in stopped.stderr
    assert not (tmp_path / "out" / "index.html").exists()
    before = kept(tmp_path / "out")
    gone_on = alone(drawn_digits, tmp_path / "out")
    assert gone_on.stdout.splitlines() == [f"{first} 3 3", *(f"{run} {step} 3" for run in others for step in (1, 2, 3))]
    after = kept(tmp_path / "out")
    assert [path.parent.name for path in before if before[path] != after[path]] == [first]
    assert alone(drawn_digits, tmp_path / "whole").returncode == 0
    assert untimed(figures(tmp_path / "out")) == untimed(figures(tmp_path / "whole"))


def test_a_run_or_a_judge_that_is_gone_is_made_again_alone(
    finished: Callable[[str], Path], drawn_digits: Path, tmp_path: Path
) -> None:
    out, told = tmp_path / "out", Told()
    shutil.copytree(finished("latent"), out)
    shutil.rmtree(out / "dcgan")
    (out / "classifier.pt").unlink()
    EXPERIMENTS["latent"](drawn_digits, experiment(out, told))
    assert {stage for stage, _, _ in told} == {"classifier", "dcgan"}
    assert untimed(figures(out)) == untimed(figures(finished("latent")))


def test_what_was_begun_otherwise_is_not_passed_off_as_this(
    finished: Callable[[str], Path], drawn_digits: Path, tmp_path: Path
) -> None:
    out, told = finished("digits"), Told()
    before = kept(out)
    with pytest.raises(ConfigError, match="classifier-mnist.pt: started with seed 0, not 1; choose another folder"):
        EXPERIMENTS["digits"](drawn_digits, experiment(out, told, seed=1))
    with pytest.raises(ConfigError, match="classifier-mnist.pt: started with effort 0.0014, not 0.001; choose another folder"):
        EXPERIMENTS["digits"](drawn_digits, experiment(out, told, effort=0.001))
    torch.save({"seed": 0, "weights": SmallClassifier(3).state_dict()}, tmp_path / "classifier-mnist.pt")
    with pytest.raises(ConfigError, match="classifier-mnist.pt: not a classifier of this experiment"):
        EXPERIMENTS["digits"](drawn_digits, experiment(tmp_path, told))
    (tmp_path / "classifier-mnist.pt").write_bytes(b"no network")
    with pytest.raises(ConfigError, match="classifier-mnist.pt: not a classifier of this experiment"):
        EXPERIMENTS["digits"](drawn_digits, experiment(tmp_path, told))
    assert told == [] and kept(out) == before


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
def test_missing_data_are_named_before_anything_is_trained(
    name: str, lost: str, message: str, drawn_digits: Path, drawn_streets: Path, tmp_path: Path
) -> None:
    data, told = tmp_path / "data", Told()
    shutil.copytree(drawn_streets if name == "street" else drawn_digits, data)
    shutil.rmtree(data / lost) if (data / lost).is_dir() else (data / lost).unlink()
    with pytest.raises(InputError, match=message):
        EXPERIMENTS[name](data, experiment(tmp_path / "out", told))
    assert told == [] and not (tmp_path / "out").exists()


def test_too_few_digits_to_judge_by_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
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
        told = agreement(scored(paper | {lowest: value}), column, methods)
        assert told == f"By per-pixel accuracy, 9 of 10 pairs are in the paper's order; not: {one} and {other}."


def test_a_walk_begins_and_ends_at_its_latents_and_goes_straight() -> None:
    start, end = torch.randn(2, 6, 100, generator=torch.Generator().manual_seed(0))
    walk = interpolate(start, end, 5).reshape(6, 5, 100)
    assert torch.equal(walk[:, 0], start) and torch.equal(walk[:, -1], end)
    torch.testing.assert_close(walk[:, 2], (start + end) / 2)
    torch.testing.assert_close(walk[:, 1] - walk[:, 0], walk[:, 4] - walk[:, 3])


class Plain(nn.Module):
    """(N, 11) -> (N, 1, 4, 4): a pixel for each digit, as bright as its number says, and six of ink, for the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(11, 16)
        nn.init.constant_(self.linear.bias, -0.5)
        self.linear.weight.data = torch.eye(11)[[*range(10), *[10] * 6]]

    def forward(self, latents: Tensor) -> Tensor:
        pixels: Tensor = self.linear(latents)
        return pixels.reshape(-1, 1, 4, 4)


class Reader(SmallClassifier):
    """Reads those pictures; `always`: or what it says of any."""

    def __init__(self, always: int | None = None) -> None:
        super().__init__(10, 1)
        self.always = always

    def forward(self, x: Tensor) -> Tensor:
        said = x[:, 0].flatten(1)[:, :10]
        return said if self.always is None else torch.eye(10)[self.always].expand_as(said)


def plain_latents(of_each: int) -> tuple[Tensor, Tensor]:
    """Latents of so many pictures of each digit, from thin to bold, and the digits."""
    digits = torch.arange(10).repeat_interleave(of_each)
    return torch.cat([torch.eye(10)[digits], torch.linspace(0, 1, of_each).repeat(10)[:, None]], 1), digits


def test_vector_arithmetic_on_a_linear_generator_gives_the_bold_digit_that_was_asked_for() -> None:
    latents, digits = plain_latents(3 * EXAMPLES)
    picture, found = latent_arithmetic(Plain(), latents, digits, Reader())
    assert found == {"arithmetic_tried": 10, "arithmetic_digit": 10, "arithmetic_bolder": 10}
    assert picture.shape == (10 * 64, 4 * 64, 3)
    # Row p, as ink: bold p, thin p, thin q, and bold again.
    ink = [picture[32:64, column : column + 60].max() for column in (0, 64, 128, 196)]
    assert ink[1] == ink[2] < ink[0] and abs(int(ink[3]) - int(ink[0])) <= 1


def test_vector_arithmetic_counts_only_what_comes_out_and_tries_what_was_made_often_enough() -> None:
    latents, digits = plain_latents(3 * EXAMPLES)
    assert latent_arithmetic(Plain(), latents, digits, Reader(always=3))[1]["arithmetic_digit"] == 1
    faint = latents.clone()
    faint[:, 10] = 0  # thin and bold are alike
    assert latent_arithmetic(Plain(), faint, digits, Reader())[1]["arithmetic_bolder"] == 0
    fewer = torch.where((digits == 4) | (digits == 9), 3, digits)
    assert latent_arithmetic(Plain(), latents, fewer, Reader())[1]["arithmetic_tried"] == 8
    picture, found = latent_arithmetic(Plain(), latents, torch.full_like(digits, 7), Reader())
    assert set(found.values()) == {0} and picture.ndim == 2


@pytest.mark.parametrize("by_features", [False, True])
def test_a_map_shows_few_latents_and_a_model_that_makes_one_picture_alone(by_features: bool) -> None:
    torch.manual_seed(0)
    judge = SmallClassifier(10, 2).eval() if by_features else None
    apart = draw_tsne(Plain(), plain_latents(2)[0], judge, side=200)
    latents = torch.zeros(20, 11)
    latents[:, 10] = 1.5
    heap = draw_tsne(Plain(), latents, judge, side=200)
    assert apart.shape == heap.shape == (200, 200)
    assert (heap == 255).sum() == 6 < 2 * 6 < (apart > 0).sum()


def test_reproduce_has_help_with_an_example_and_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    helped = subprocess.run([str(PROGRAM), "reproduce", "--help"], capture_output=True, text=True, timeout=120)
    assert helped.returncode == 0 and "Example: cyclecast reproduce digits --data" in " ".join(helped.stdout.split())
    command = [str(PROGRAM), "reproduce", "faces", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "") and not (tmp_path / "out").exists()
    assert done.stderr == "error: no experiment named 'faces'; there are: digits, latent, street\n"
