"""GAN, DCGAN and WGAN on MNIST: samples through training, and walks through the latent space (the seed, section 6.1)."""

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
from cyclecast.training.reproduce.lab import Lab, curves, seconds, sheet, state

SIDE = 28
STEPS = {"gan": 12000, "dcgan": 7000, "wgan": 1000}
SETTINGS: dict[str, dict[str, Any]] = {
    "gan": {},
    "dcgan": {"ngf": 32, "ndf": 32},
    # Four times the authors' rate, and not the critic's long training in the first steps: both for time.
    "wgan": {"ngf": 32, "ndf": 32, "warm_up": False, "learning_rate": 2e-4},
}
TITLES = {"gan": "GAN", "dcgan": "DCGAN", "wgan": "WGAN"}
JUDGED = 5000  # samples, against as many real test digits; fewer where the file has not twice as many
FEWEST = 12  # samples: the ends of six lines
EXAMPLES = 12  # latents that a mean of the vector arithmetic is taken over


def reproduce_latent(data: Path, lab: Lab) -> Path:
    """Trains the three and a judge, writes the page; returns its path. data: folder with mnist.npz.

    InputError if the file is missing, or has too few test digits.
    """
    train, test = DigitSet(data / "mnist.npz", SIDE), DigitSet(data / "mnist.npz", SIDE, "test")
    judged = min(JUDGED, len(test) // 2)
    if judged < FEWEST:
        raise InputError(f"{test.path}: {len(test)} test digits; the experiment takes {2 * FEWEST} or more")
    judge = lab.judge(
        "judge",
        SmallClassifier(10),
        lambda tell: train_classifier(
            *train.bytes(),
            classes=10,
            steps=lab.steps(1500),
            shift=2,
            seed=lab.seed,
            on_progress=tell,
        ),
    )
    assert isinstance(judge, SmallClassifier)
    real = test.bytes()[0][: 2 * judged]
    runs = {}
    for recipe, steps in STEPS.items():
        given = lab.steps(steps)
        schedule = {"steps": given, "sample_every": max(1, given // 6), "save_every": max(1, given // 6)}
        runs[recipe] = lab.run(recipe, recipe, {"domain": data / "mnist.npz", "image_size": SIDE} | schedule | SETTINGS[recipe])
    noise = torch.randn(judged, 100, generator=torch.Generator().manual_seed(lab.seed + 1))
    floor = fid_kid(real[:judged], real[judged:], ClassifierFeatures(judge), seed=lab.seed)
    rows: list[list[Any]] = [["other real digits", floor.fid, floor.kid_mean, floor.kid_std, 10, None, None]]
    results: dict[str, Any] = {"real": floor.named()}
    page = Page("Digits from noise", "GAN, DCGAN and WGAN on MNIST, and what lies between two latents")
    sections = []
    for recipe, run in runs.items():
        network = latent_generator_from_checkpoint(state(run))
        made = to_bytes(generate(network, noise))
        read = classify(judge, made)
        scores = fid_kid(real[:judged], made, ClassifierFeatures(judge), seed=lab.seed)
        kinds = int((torch.bincount(read, minlength=10) > judged / 100).sum())
        minutes = seconds(run) / 60
        rows.append([TITLES[recipe], scores.fid, scores.kid_mean, scores.kid_std, kinds, lab.steps(STEPS[recipe]), minutes])
        results[recipe] = scores.named() | {"kinds": kinds, "minutes": minutes, "steps": lab.steps(STEPS[recipe])}
        sections.append((recipe, run, network, read))
    page.text(
        "The distances are taken in the features of a classifier of digits that was trained here, not of Inception: they compare "
        "these models with each other, as far as each was trained here, and with no number from elsewhere."
    )
    page.table(
        ["model", "classifier FID", "classifier KID", "its spread", "kinds of digits made", "steps", "minutes"],
        rows,
        caption=f"{judged} samples against {judged} real test digits, seed {lab.seed}. Kinds: digits that make up 1 % or more.",
    )
    for recipe, run, network, read in sections:
        results[recipe] |= _section(page, recipe, run, network, noise, read, judge)
    return lab.finish(page, results)


def _section(
    page: Page, recipe: str, run: Path, network: nn.Module, noise: Tensor, read: Tensor, judge: SmallClassifier
) -> dict[str, Any]:
    """One model's pictures; returns the figures of its vector arithmetic."""
    page.heading(TITLES[recipe])
    page.image(tile(generate(network, noise[:64]), 16), "64 samples, not chosen", scale=0.6)
    page.image(sheet(run, "sample"), "The same 16 latents through training", scale=0.6)
    page.curves(curves(run))
    page.image(tile(generate(network, between(noise[:6], noise[6:12], 12)), 12), "Along the line between two latents, six times")
    page.image(map_of_latents(network, noise[:400]), f"t-SNE of {len(noise[:400])} latents, each shown as its picture")
    page.image(map_of_latents(network, noise[:400], judge), "The same pictures by t-SNE of the judge's features of them")
    picture, figures = arithmetic(network, noise, read, judge)
    page.image(picture, "Vector arithmetic, a row each: bold 'p' - thin 'p' + thin 'q' = bold 'q'? Each is the mean of latents.")
    page.text(
        f"Of {figures['arithmetic_tried']} such sums, {figures['arithmetic_digit']} show the digit that was asked for "
        f"and {figures['arithmetic_bolder']} show more ink than the thin one that they began with."
    )
    return figures


def between(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """(n, Z) and (n, Z) -> (n * steps, Z): points along each line, ends included."""
    share = torch.linspace(0, 1, steps)[None, :, None]
    return (start[:, None] * (1 - share) + end[:, None] * share).flatten(0, 1)


def map_of_latents(
    network: nn.Module, latents: Tensor, judge: SmallClassifier | None = None, side: int = 900
) -> NDArray[np.uint8]:
    """(side, side) uint8: t-SNE (van der Maaten and Hinton 2008) of latents, or of a judge's features of their pictures."""
    from sklearn.manifold import TSNE

    made = generate(network, latents)
    with torch.no_grad():
        points = latents if judge is None else judge.features(made)
    places = np.zeros((len(points), 2))  # all on one place: what a model that makes one picture alone has
    if points.std(0).any():
        perplexity = min(15.0, (len(points) - 1) / 3)
        places = TSNE(init="pca", random_state=0, perplexity=perplexity).fit_transform(points.numpy())
        places = (places - places.min(0)) / np.ptp(places, axis=0)
    digits = to_bytes(made)[:, 0].numpy()
    size = digits.shape[1]
    canvas = np.zeros((side, side), np.uint8)
    for digit, (x, y) in zip(digits, places, strict=True):
        left, top = int(x * (side - size)), int(y * (side - size))
        area = canvas[top : top + size, left : left + size]
        np.maximum(area, digit, out=area)
    return canvas


def arithmetic(
    network: nn.Module, noise: Tensor, read: Tensor, judge: SmallClassifier
) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """Bold p - thin p + thin q for digits p and q (DCGAN, section 6.3.2), each a mean of latents: picture and figures."""
    ink = generate(network, noise).mean((1, 2, 3))
    concepts: dict[tuple[int, str], Tensor] = {}
    for digit in range(10):
        of_digit = (read == digit).nonzero().flatten()
        if len(of_digit) >= 3 * EXAMPLES:
            ordered = of_digit[ink[of_digit].argsort()]
            concepts[digit, "thin"] = noise[ordered[:EXAMPLES]].mean(0)
            concepts[digit, "bold"] = noise[ordered[-EXAMPLES:]].mean(0)
    present = sorted({digit for digit, _ in concepts})
    pairs = [(p, q) for p, q in zip(present, present[1:] + present[:1], strict=True) if p != q]
    if not pairs:
        return np.full((32, 256), 255, np.uint8), {"arithmetic_tried": 0, "arithmetic_digit": 0, "arithmetic_bolder": 0}
    terms = [torch.stack([concepts[d, kind] for d in column]) for column, kind in zip(_columns(pairs), KINDS, strict=True)]
    latents = torch.stack([*terms, terms[0] - terms[1] + terms[2]], 1).flatten(0, 1)  # (pairs * 4, Z)
    made = generate(network, latents)
    picture = tile(made, 4)
    cv2.line(picture, (picture.shape[1] * 3 // 4, 0), (picture.shape[1] * 3 // 4, picture.shape[0]), (0, 160, 255), 2)
    sums, began = made[3::4], made[2::4]
    asked = torch.tensor([q for _, q in pairs])
    figures = {
        "arithmetic_tried": len(pairs),
        "arithmetic_digit": int((classify(judge, to_bytes(sums)) == asked).sum()),
        "arithmetic_bolder": int((sums.mean((1, 2, 3)) > began.mean((1, 2, 3))).sum()),
    }
    return picture, figures


KINDS = ("bold", "thin", "thin")


def _columns(pairs: list[tuple[int, int]]) -> tuple[list[int], list[int], list[int]]:
    """The digits of the three terms, for each pair (p, q): p, p, q."""
    return [p for p, _ in pairs], [p for p, _ in pairs], [q for _, q in pairs]
