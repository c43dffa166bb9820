"""MNIST <-> USPS with CycleGAN, and the ablation without cycle consistency."""

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
from cyclecast.training.reproduce.experiment import Experiment, load_state, loss_curves, training_seconds, training_sheet

SIDE = 32  # pixels: MNIST's 28 and USPS's 16 enlarged
VARIANTS: dict[str, dict[str, Any]] = {
    "CycleGAN": {"variant": "full"},
    "adversarial loss alone": {"variant": "gan_alone"},
}
FIGURES = ("accuracy", "most common answer", "classifier FID", "classifier KID")
FOLDERS = {"CycleGAN": "cyclegan", "adversarial loss alone": "gan-alone"}
DIRECTIONS = {"a2b": ("MNIST", "USPS"), "b2a": ("USPS", "MNIST")}


def reproduce_digits(data: Path, experiment: Experiment) -> Path:
    """Trains both variants and the classifiers, writes the page and returns its path.

    data: folder with mnist.npz and usps.npz. Raises InputError if a file is missing.
    """
    files = {"MNIST": data / "mnist.npz", "USPS": data / "usps.npz"}
    sets = {(name, split): _load(path, split) for name, path in files.items() for split in ("train", "test")}
    classifiers = {name: _digit_classifier(experiment, name, *sets[name, "train"]) for name in files}
    steps = experiment.steps(2000)
    common: dict[str, Any] = {
        "domain_a": files["MNIST"],
        "domain_b": files["USPS"],
        "load_size": SIDE,
        "crop_size": SIDE,
        "generator": "resnet6",
        "ngf": 16,
        "discriminator": "n_layers",
        "discriminator_layers": 0,  # patches of 10x10, a third of a digit, as 70x70 is of 256x256: strokes, not digits
        "tight": True,
        "ndf": 32,
        "batch_size": 16,
        "steps": steps,
        "sample_every": max(1, steps // 5),
        "save_every": 200,
    }
    runs = {name: experiment.train_run(FOLDERS[name], "cyclegan", common | settings) for name, settings in VARIANTS.items()}
    rows: list[list[Any]] = []
    translations = {}
    for direction, (source, target) in DIRECTIONS.items():
        images, labels = sets[source, "test"]
        classifier, real = classifiers[target], sets[target, "test"][0]

        def row(
            by: str, images: Tensor, labels: Tensor, classifier: SmallClassifier = classifier, real: Tensor = real
        ) -> list[Any]:
            count = min(len(images), len(real))
            scores = fid_kid(real[:count], images[:count], ClassifierFeatures(classifier), seed=experiment.seed)
            most_common = float(classify(classifier, images).bincount(minlength=10).max()) / len(images)
            return [by, accuracy(classifier, images, labels), most_common, scores.fid, scores.kid_mean]

        first_row = len(rows)
        rows.append(row("no translation, border kept", *_load(files[source], "test", tight=False)))
        rows.append(row("no translation", images, labels))
        for name, run in runs.items():
            translated = to_bytes(translators_from_checkpoint(load_state(run))[direction](to_unit(images)))
            translations[name, direction] = (images, translated)
            rows.append(row(name, translated, labels))
        rows[first_row:] = [[f"{source} -> {target}", *cells] for cells in rows[first_row:]]
        rows.append([f"{target} itself", "test digits", accuracy(classifier, *sets[target, "test"]), None, None, None])
    results: dict[str, Any] = {f"{cells[0]}, {cells[1]}": dict(zip(FIGURES, cells[2:], strict=True)) for cells in rows}
    results["seconds"] = {name: training_seconds(run) for name, run in runs.items()}
    return experiment.finish(_page(runs, rows, results, translations, steps, experiment.seed), results)


def _load(path: Path, split: Any, tight: bool = True) -> tuple[Tensor, Tensor]:
    """Loads images (N, 3, SIDE, SIDE) uint8 and labels (N,)."""
    return DigitSet(path, SIDE, split, tight).bytes()


def _digit_classifier(experiment: Experiment, name: str, images: Tensor, labels: Tensor) -> SmallClassifier:
    """Trains a classifier of one set's digits, which measures whether translated digits are still readable."""
    steps = experiment.steps(800 if name == "USPS" else 1500)
    return experiment.load_or_train(
        f"classifier-{name.lower()}",
        SmallClassifier(10),
        lambda on_progress: train_classifier(
            images, labels, classes=10, steps=steps, shift=3, seed=experiment.seed, on_progress=on_progress
        ),
    )


def _page(
    runs: dict[str, Path], rows: list[list[Any]], results: dict[str, Any], translations: dict[Any, Any], steps: int, seed: int
) -> Page:
    page = Page(
        "MNIST and USPS, translated both ways", "CycleGAN on two sets of digits without pairs, with and without cycle consistency"
    )
    page.text(
        "A classifier that was trained on real digits of the target set classifies the translated test digits. It is right if "
        "they look like the target set and still show the same digit."
    )
    page.text(
        "MNIST's digits have a blank border, USPS's fill the image. Here both are cropped to the square that holds 99 % of their "
        "ink, then enlarged to 32x32. That alone makes MNIST more like USPS: `border kept` is without it."
    )
    gains = [
        f"{source} to {target}: accuracy {results[row]['accuracy'] - results[before]['accuracy']:+.4f}, FID "
        f"{results[row]['classifier FID'] - results[before]['classifier FID']:+.2f}"
        for source, target in DIRECTIONS.values()
        for row, before in [(f"{source} -> {target}, CycleGAN", f"{source} -> {target}, no translation")]
    ]
    page.text(f"What CycleGAN adds to the cropped but untranslated digits: {'; '.join(gains)}.")
    page.table(
        ["translation", "by", *FIGURES],
        rows,
        caption="Accuracy on the whole test set. Most common answer: the share of the most frequently predicted digit; "
        "near 0.1 if all ten occur, near 1 after mode collapse. FID and KID: to the target's test digits, in the features of its "
        "classifier.",
    )
    for name, run in runs.items():
        page.heading(f"{name}: samples through training")
        page.text(f"{steps} steps of 16 pairs, seed {seed}, {training_seconds(run) / 60:.0f} minutes.")
        for direction, (source, target) in DIRECTIONS.items():
            images, translated = translations[name, direction]
            page.image(training_sheet(run, direction), f"{source} to {target}, the same digits through training", scale=0.7)
            both = to_unit(torch.stack([images[:200:10], translated[:200:10]]).flatten(0, 1))
            page.image(tile(both, 20), f"Twenty test digits of {source}, and below each its translation to {target}", scale=0.7)
        losses = loss_curves(run)
        page.curves({key: value for key, value in losses.items() if key.startswith(("adversarial", "discriminator"))})
    return page
