"""GAN, DCGAN and WGAN on MNIST: samples through training, and interpolation and arithmetic in the latent space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cyclecast.errors import InputError
from cyclecast.training.checkpoint import generate, latent_generator_from_checkpoint
from cyclecast.training.data import DigitSet, to_bytes
from cyclecast.training.evaluate.classifier import SmallClassifier, classify, train_classifier
from cyclecast.training.evaluate.distribution import ClassifierFeatures, fid_kid
from cyclecast.training.report import Page, tile
from cyclecast.training.reproduce.experiment import Experiment, load_state, loss_curves, training_seconds, training_sheet

SIDE = 28
STEPS = {"gan": 12000, "dcgan": 7000, "wgan": 1000}
SETTINGS: dict[str, dict[str, Any]] = {
    "gan": {},
    "dcgan": {"ngf": 32, "ndf": 32},
    # To save time: four times the authors' learning rate, and no extra critic steps at the start.
    "wgan": {"ngf": 32, "ndf": 32, "warm_up": False, "learning_rate": 2e-4},
}
TITLES = {"gan": "GAN", "dcgan": "DCGAN", "wgan": "WGAN"}
SAMPLES = 5000  # compared with as many real test digits; at most half of the test digits
MIN_SAMPLES = 12  # the ends of six interpolations
EXAMPLES = 12  # latents that each mean of the vector arithmetic averages


def reproduce_latent(data: Path, experiment: Experiment) -> Path:
    """Trains the three models and a classifier, writes the page and returns its path.

    data: folder with mnist.npz. Raises InputError if the file is missing, or has too few test digits.
    """
    train, test = DigitSet(data / "mnist.npz", SIDE), DigitSet(data / "mnist.npz", SIDE, "test")
    count = min(SAMPLES, len(test) // 2)
    if count < MIN_SAMPLES:
        raise InputError(f"{test.path}: the experiment needs {2 * MIN_SAMPLES} or more test digits, got {len(test)}")
    classifier = experiment.load_or_train(
        "classifier",
        SmallClassifier(10),
        lambda on_progress: train_classifier(
            *train.bytes(),
            classes=10,
            steps=experiment.steps(1500),
            shift=2,
            seed=experiment.seed,
            on_progress=on_progress,
        ),
    )
    real = test.bytes()[0][: 2 * count]
    runs = {}
    for recipe, steps in STEPS.items():
        scaled = experiment.steps(steps)
        schedule = {"steps": scaled, "sample_every": max(1, scaled // 6), "save_every": max(1, scaled // 6)}
        settings = {"domain": data / "mnist.npz", "image_size": SIDE} | schedule | SETTINGS[recipe]
        runs[recipe] = experiment.train_run(recipe, recipe, settings)
    noise = torch.randn(count, 100, generator=torch.Generator().manual_seed(experiment.seed + 1))
    baseline = fid_kid(real[:count], real[count:], ClassifierFeatures(classifier), seed=experiment.seed)
    rows: list[list[Any]] = [["other real digits", baseline.fid, baseline.kid_mean, baseline.kid_std, 10, None, None]]
    results: dict[str, Any] = {"real": baseline.named()}
    page = Page("Digits from noise", "GAN, DCGAN and WGAN on MNIST, with interpolation and arithmetic of latents")
    sections = []
    for recipe, run in runs.items():
        network = latent_generator_from_checkpoint(load_state(run))
        generated = to_bytes(generate(network, noise))
        predicted = classify(classifier, generated)
        scores = fid_kid(real[:count], generated, ClassifierFeatures(classifier), seed=experiment.seed)
        classes = int((torch.bincount(predicted, minlength=10) > count / 100).sum())
        minutes = training_seconds(run) / 60
        rows.append(
            [TITLES[recipe], scores.fid, scores.kid_mean, scores.kid_std, classes, experiment.steps(STEPS[recipe]), minutes]
        )
        results[recipe] = scores.named() | {"classes": classes, "minutes": minutes, "steps": experiment.steps(STEPS[recipe])}
        sections.append((recipe, run, network, predicted))
    page.text(
        "FID and KID use the features of a classifier of digits that was trained here, not those of Inception. They compare "
        "these models with each other, and cannot be compared with published numbers."
    )
    page.table(
        ["model", "classifier FID", "classifier KID", "KID deviation", "digit classes", "steps", "minutes"],
        rows,
        caption=f"{count} samples against {count} real test digits, seed {experiment.seed}. Digit classes: of 1 % or more.",
    )
    for recipe, run, network, predicted in sections:
        results[recipe] |= _section(page, recipe, run, network, noise, predicted, classifier)
    return experiment.finish(page, results)


def _section(
    page: Page, recipe: str, run: Path, network: nn.Module, noise: Tensor, predicted: Tensor, classifier: SmallClassifier
) -> dict[str, Any]:
    """Adds one model's images to the page; returns the figures of its vector arithmetic."""
    page.heading(TITLES[recipe])
    page.image(tile(generate(network, noise[:64]), 16), "64 samples, not selected", scale=0.6)
    page.image(training_sheet(run, "sample"), "The same 16 latents through training", scale=0.6)
    page.curves(loss_curves(run))
    page.image(tile(generate(network, interpolate(noise[:6], noise[6:12], 12)), 12), "Six interpolations between two latents")
    page.image(draw_tsne(network, noise[:400]), f"t-SNE of {len(noise[:400])} latents, each drawn as its image")
    page.image(draw_tsne(network, noise[:400], classifier), "The same images by t-SNE of their features in the classifier")
    image, figures = latent_arithmetic(network, noise, predicted, classifier)
    page.image(
        image, "Vector arithmetic, one sum a row: bold 'p' - thin 'p' + thin 'q' = bold 'q'? Each term is a mean of latents."
    )
    page.text(
        f"Of {figures['arithmetic_tried']} such sums, {figures['arithmetic_digit']} show the expected digit "
        f"and {figures['arithmetic_bolder']} show more ink than the thin digit."
    )
    return figures


def interpolate(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Interpolates linearly, both ends included: (n, Z) and (n, Z) -> (n * steps, Z)."""
    share = torch.linspace(0, 1, steps)[None, :, None]
    return (start[:, None] * (1 - share) + end[:, None] * share).flatten(0, 1)


def draw_tsne(
    network: nn.Module, latents: Tensor, classifier: SmallClassifier | None = None, side: int = 900
) -> NDArray[np.uint8]:
    """Draws t-SNE (van der Maaten and Hinton 2008) of latents, or of their images' classifier features: (side, side) uint8."""
    from sklearn.manifold import TSNE

    generated = generate(network, latents)
    with torch.no_grad():
        points = latents if classifier is None else classifier.features(generated)
    positions = np.zeros((len(points), 2))  # one position for all, if all points are equal (mode collapse)
    if points.std(0).any():
        perplexity = min(15.0, (len(points) - 1) / 3)
        positions = TSNE(init="pca", random_state=0, perplexity=perplexity).fit_transform(points.numpy())
        positions = (positions - positions.min(0)) / np.ptp(positions, axis=0)
    digits = to_bytes(generated)[:, 0].numpy()
    size = digits.shape[1]
    canvas = np.zeros((side, side), np.uint8)
    for digit, (x, y) in zip(digits, positions, strict=True):
        left, top = int(x * (side - size)), int(y * (side - size))
        area = canvas[top : top + size, left : left + size]
        np.maximum(area, digit, out=area)
    return canvas


def latent_arithmetic(
    network: nn.Module, noise: Tensor, predicted: Tensor, classifier: SmallClassifier
) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """Computes bold p - thin p + thin q of digits, each a mean of latents (DCGAN, section 6.3.2); returns image and figures."""
    ink = generate(network, noise).mean((1, 2, 3))
    means: dict[tuple[int, str], Tensor] = {}
    for digit in range(10):
        of_digit = (predicted == digit).nonzero().flatten()
        if len(of_digit) >= 3 * EXAMPLES:
            ordered = of_digit[ink[of_digit].argsort()]
            means[digit, "thin"] = noise[ordered[:EXAMPLES]].mean(0)
            means[digit, "bold"] = noise[ordered[-EXAMPLES:]].mean(0)
    present = sorted({digit for digit, _ in means})
    pairs = [(p, q) for p, q in zip(present, present[1:] + present[:1], strict=True) if p != q]
    if not pairs:
        return np.full((32, 256), 255, np.uint8), {"arithmetic_tried": 0, "arithmetic_digit": 0, "arithmetic_bolder": 0}
    minuends, subtrahends, addends = (
        torch.stack([means[key] for key in keys])
        for keys in (
            [(p, "bold") for p, _ in pairs],
            [(p, "thin") for p, _ in pairs],
            [(q, "thin") for _, q in pairs],
        )
    )
    latents = torch.stack([minuends, subtrahends, addends, minuends - subtrahends + addends], 1).flatten(0, 1)  # (pairs * 4, Z)
    generated = generate(network, latents)
    image = tile(generated, 4)
    cv2.line(image, (image.shape[1] * 3 // 4, 0), (image.shape[1] * 3 // 4, image.shape[0]), (0, 160, 255), 2)
    sums, thin = generated[3::4], generated[2::4]
    expected = torch.tensor([q for _, q in pairs])
    figures = {
        "arithmetic_tried": len(pairs),
        "arithmetic_digit": int((classify(classifier, to_bytes(sums)) == expected).sum()),
        "arithmetic_bolder": int((sums.mean((1, 2, 3)) > thin.mean((1, 2, 3))).sum()),
    }
    return image, figures
