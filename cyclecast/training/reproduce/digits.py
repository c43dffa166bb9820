"""MNIST <-> USPS with CycleGAN, and what is left of it without the cycle (the seed, section 6.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cyclecast.training.checkpoint import translators_from_checkpoint
from cyclecast.training.data import DigitSet, to_bytes
from cyclecast.training.evaluate.classifier import SmallClassifier, accuracy, classify, to_unit, train_classifier
from cyclecast.training.evaluate.distribution import ClassifierFeatures, fid_kid
from cyclecast.training.report import Page, tile
from cyclecast.training.reproduce.lab import Lab, curves, seconds, sheet, state

SIDE = 32  # pixels: MNIST's 28 and USPS's 16 enlarged
VARIANTS: dict[str, dict[str, Any]] = {
    "CycleGAN": {"variant": "full"},
    "adversarial loss alone": {"variant": "gan_alone"},
}
FIGURES = ("accuracy", "commonest answer", "classifier FID", "classifier KID")
FOLDERS = {"CycleGAN": "cyclegan", "adversarial loss alone": "gan-alone"}
WAYS = {"a2b": ("MNIST", "USPS"), "b2a": ("USPS", "MNIST")}


def reproduce_digits(data: Path, lab: Lab) -> Path:
    """Trains both variants and the judges, writes the page; returns its path. data: folder with mnist.npz and usps.npz.

    InputError if a file is missing.
    """
    files = {"MNIST": data / "mnist.npz", "USPS": data / "usps.npz"}
    sets = {(name, split): _load(path, split) for name, path in files.items() for split in ("train", "test")}
    judges = {name: _judge(lab, name, *sets[name, "train"]) for name in files}
    steps = lab.steps(2000)
    common: dict[str, Any] = {
        "domain_a": files["MNIST"],
        "domain_b": files["USPS"],
        "load_size": SIDE,
        "crop_size": SIDE,
        "generator": "resnet6",
        "ngf": 16,
        "discriminator": "n_layers",
        "discriminator_layers": 0,  # patches of 10x10, a third of a digit, as 70x70 is of 256x256: they judge strokes, not digits
        "tight": True,
        "ndf": 32,
        "batch_size": 16,
        "steps": steps,
        "sample_every": max(1, steps // 5),
        "save_every": 200,
    }
    runs = {name: lab.run(FOLDERS[name], "cyclegan", common | settings) for name, settings in VARIANTS.items()}
    rows: list[list[Any]] = []
    kept = {}
    for way, (source, target) in WAYS.items():
        images, labels = sets[source, "test"]
        judge, real = judges[target], sets[target, "test"][0]

        def row(by: str, made: Tensor, labels: Tensor, judge: SmallClassifier = judge, real: Tensor = real) -> list[Any]:
            count = min(len(made), len(real))
            scores = fid_kid(real[:count], made[:count], ClassifierFeatures(judge), seed=lab.seed)
            commonest = float(classify(judge, made).bincount(minlength=10).max()) / len(made)
            return [by, accuracy(judge, made, labels), commonest, scores.fid, scores.kid_mean]

        submit_frame = len(rows)
        rows.append(row("no translation, border left", *_load(files[source], "test", tight=False)))
        rows.append(row("no translation", images, labels))
        for name, run in runs.items():
            made = to_bytes(translators_from_checkpoint(state(run))[way](to_unit(images)))
            kept[name, way] = (images, made)
            rows.append(row(name, made, labels))
        rows[submit_frame:] = [[f"{source} -> {target}", *line] for line in rows[submit_frame:]]
        rows.append([f"{target} itself", "test digits", accuracy(judge, *sets[target, "test"]), None, None, None])
    results: dict[str, Any] = {f"{line[0]}, {line[1]}": dict(zip(FIGURES, line[2:], strict=True)) for line in rows}
    results["seconds"] = {name: seconds(run) for name, run in runs.items()}
    return lab.finish(_page(runs, rows, results, kept, steps, lab.seed), results)


def _load(path: Path, split: Any, tight: bool = True) -> tuple[Tensor, Tensor]:
    """Images (N, 3, SIDE, SIDE) uint8 and labels (N,)."""
    return DigitSet(path, SIDE, split, tight).bytes()


def _judge(lab: Lab, name: str, images: Tensor, labels: Tensor) -> SmallClassifier:
    """A classifier of the digits of one set, which tells whether those translated into it can still be read."""
    judge = lab.judge(
        f"judge-{name.lower()}",
        SmallClassifier(10),
        lambda tell: train_classifier(
            images, labels, classes=10, steps=lab.steps(800 if name == "USPS" else 1500), shift=3, seed=lab.seed, on_progress=tell
        ),
    )
    assert isinstance(judge, SmallClassifier)
    return judge


def _page(
    runs: dict[str, Path], rows: list[list[Any]], results: dict[str, Any], kept: dict[Any, Any], steps: int, seed: int
) -> Page:
    page = Page(
        "MNIST and USPS, translated both ways", "CycleGAN on two sets of digits without pairs, and what its losses are for"
    )
    page.text(
        "A classifier trained on real digits of the target set reads the translated test digits. It reads them if they look like "
        "the target set and are still the digit that they were."
    )
    page.text(
        "MNIST's digits have a border about them, USPS's fill their picture. Here both are cut to the square that holds 99 % of "
        "their ink, then enlarged to 32x32, which alone makes MNIST easier to read as USPS: `border left` is without it."
    )
    gains = [
        f"{source} to {target}: accuracy {results[row]['accuracy'] - results[before]['accuracy']:+.4f}, FID "
        f"{results[row]['classifier FID'] - results[before]['classifier FID']:+.2f}"
        for source, target in WAYS.values()
        for row, before in [(f"{source} -> {target}, CycleGAN", f"{source} -> {target}, no translation")]
    ]
    page.text(f"What CycleGAN itself adds, against the same cut digits untranslated: {'; '.join(gains)}.")
    page.table(
        ["translation", "by", *FIGURES],
        rows,
        caption="Accuracy on the whole test set. Commonest answer: the share of the digit that is read most often; near 0.1 if "
        "all ten are made, near 1 after a collapse. FID and KID: to the target's test digits, in the features of its judge.",
    )
    for name, run in runs.items():
        page.heading(f"{name}: the fixed set through training")
        page.text(f"{steps} steps of 16 pairs, seed {seed}, {seconds(run) / 60:.0f} minutes.")
        for way, (source, target) in WAYS.items():
            images, made = kept[name, way]
            page.image(sheet(run, way), f"{source} to {target}, the same digits through training", scale=0.7)
            both = to_unit(torch.stack([images[:200:10], made[:200:10]]).flatten(0, 1))
            page.image(tile(both, 20), f"Twenty test digits of {source}, and what became of them as {target}", scale=0.7)
        losses = curves(run)
        page.curves({key: value for key, value in losses.items() if key.startswith(("adversarial", "discriminator"))})
    return page
