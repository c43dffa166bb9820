"""Labels <-> photo on street scenes: the paper's two tables of methods and its two of ablations (CycleGAN, section 5.1).

CamVid stands in for Cityscapes, and a network trained here on its real photos for the FCN: the order of the methods can be
compared with the paper's, the numbers can't. Domain A: labels, domain B: photos, so that `gan_forward` asks labels to come back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyclecast.errors import InputError
from cyclecast.training.checkpoint import Translate, translators_from_checkpoint
from cyclecast.training.data import PairedData, Palette, list_images, palette_of, to_bytes
from cyclecast.training.evaluate.classifier import to_unit
from cyclecast.training.evaluate.labels import LabelScores, confusion, label_scores
from cyclecast.training.evaluate.segmentation import SegmentationNet, predict, train_segmentation
from cyclecast.training.evaluate.translation import nearest
from cyclecast.training.machine import pick_device
from cyclecast.training.report import Page, tile
from cyclecast.training.reproduce.lab import Lab, seconds, state

Scores = dict[str, LabelScores]  # method -> scores
NONE = (None, None, None)

# Per-pixel, per-class, class IoU in the paper's tables 2 to 5: labels -> photo, then photo -> labels.
PAPER: dict[str, tuple[tuple[float | None, ...], tuple[float | None, ...]]] = {
    "CoGAN": ((0.40, 0.10, 0.06), (0.45, 0.11, 0.08)),
    "BiGAN": ((0.19, 0.06, 0.02), (0.41, 0.13, 0.07)),
    "SimGAN": ((0.20, 0.10, 0.04), (0.47, 0.11, 0.07)),
    "CycleGAN": ((0.52, 0.17, 0.11), (0.58, 0.22, 0.16)),
    "pix2pix": ((0.71, 0.25, 0.18), (0.85, 0.40, 0.32)),
    "cycle alone": ((0.22, 0.07, 0.02), (0.10, 0.05, 0.02)),
    "GAN alone": ((0.51, 0.11, 0.08), (0.53, 0.11, 0.07)),
    "GAN + forward cycle": ((0.55, 0.18, 0.12), (0.49, 0.11, 0.07)),
    "GAN + backward cycle": ((0.39, 0.14, 0.06), (0.01, 0.06, 0.01)),
}
METHODS = ("CoGAN", "BiGAN", "SimGAN", "CycleGAN", "pix2pix")
ABLATIONS = ("cycle alone", "GAN alone", "GAN + forward cycle", "GAN + backward cycle", "CycleGAN")
UNPAIRED: dict[str, tuple[str, dict[str, Any]]] = {  # method -> recipe and its settings
    "CoGAN": ("cogan", {}),
    "BiGAN": ("bigan", {}),
    "SimGAN": ("simgan", {}),
    "CycleGAN": ("cyclegan", {"identity_weight": 0}),
    "cycle alone": ("cyclegan", {"variant": "cycle_alone"}),
    "GAN alone": ("cyclegan", {"variant": "gan_alone"}),
    "GAN + forward cycle": ("cyclegan", {"variant": "gan_forward"}),
    "GAN + backward cycle": ("cyclegan", {"variant": "gan_backward"}),
}


def reproduce_street(data: Path, lab: Lab) -> Path:
    """Trains every method and the judge, writes the page; returns its path.

    data: folder with `camvid` (train, train_labels, val, val_labels, classes.csv) and, where it is there, `facades`.
    128x128 pixels, wider and longer on a GPU; 64x64 of a lab of little effort. InputError if camvid is missing.
    """
    if lab.effort < 0.5:
        side, ngf, steps = 64, 16, lab.steps(3000)
    else:
        ngf, steps = (64, lab.steps(8000)) if pick_device(lab.device).type == "cuda" else (24, lab.steps(1000))
        side = 128
    camvid = data / "camvid"
    photos, labels, maps, palette = _validation(camvid, side)
    for folder in (camvid / "train", camvid / "train_labels", *_facade_folders(data / "facades")):
        list_images(folder)
    judge = _judge(lab, camvid, side, palette)
    common: dict[str, Any] = {
        "load_size": side,
        "load_size_max": side * 9 // 8,
        "crop_size": side,
        "generator": "resnet6",
        "ngf": ngf,
        "ndf": 2 * ngf,
        "batch_size": 4,
        "steps": steps,
        "sample_every": max(1, steps // 4),
        "save_every": 100,
    }
    places = {"domain_a": camvid / "train_labels", "domain_b": camvid / "train"}
    places |= {"samples_a": camvid / "val_labels", "samples_b": camvid / "val"}
    methods: dict[str, dict[str, Translate]] = {}
    times: dict[str, float] = {}
    for method, (recipe, settings) in UNPAIRED.items():
        run = lab.run(method.lower().replace(" + ", "-").replace(" ", "-"), recipe, common | places | settings)
        methods[method], times[method] = translators_from_checkpoint(state(run)), seconds(run)
    both = {way: lab.run(f"pix2pix-{way}", "pix2pix", common | places | {"direction": way}) for way in ("a2b", "b2a")}
    methods["pix2pix"] = {way: translators_from_checkpoint(state(run))[way] for way, run in both.items()}
    times["pix2pix"] = sum(map(seconds, both.values()))

    to_photo, to_labels, made = {}, {}, {}
    count = len(palette) - 1  # the last color is of what is not labelled
    answers = Palette(palette.names[:count], palette.colors[:count])
    for method, ways in methods.items():
        drawn, told = to_bytes(ways["a2b"](maps)), to_bytes(ways["b2a"](photos))
        made[method] = (drawn, told)
        to_photo[method] = label_scores(confusion(predict(judge, drawn), labels, count, ignore=count))
        to_labels[method] = label_scores(confusion(nearest(told, answers), labels, count, ignore=count))
    limit = label_scores(confusion(predict(judge, to_bytes(photos)), labels, count, ignore=count))
    page = _page(to_photo, to_labels, limit, made, maps, photos, times, side, steps, lab.seed)
    _facades(page, data / "facades", lab, common)
    results = {
        "labels_to_photo": {name: asdict(scores) for name, scores in to_photo.items()} | {"real photos": asdict(limit)},
        "photo_to_labels": {name: asdict(scores) for name, scores in to_labels.items()},
        "seconds": times,
        "side": side,
        "steps": steps,
        "seed": lab.seed,
    }
    return lab.finish(page, results)


def _validation(camvid: Path, side: int) -> tuple[Tensor, Tensor, Tensor, Palette]:
    """Photos (N, 3, S, S) in [-1, 1], labels (N, S, S), label pictures (N, 3, S, S), and the table of colors."""
    palette = palette_of(camvid / "val_labels")
    if palette is None:
        raise InputError(f"{camvid}: no classes.csv in it, which names the classes and their colors")
    maps, photos = PairedData(camvid / "val_labels", camvid / "val", (side, side), side, flip=False).first(10**6, side)
    return photos, nearest(to_bytes(maps), palette), maps, palette


def _judge(lab: Lab, camvid: Path, side: int, palette: Palette) -> SegmentationNet:
    """What labels the generated photos, trained on the real ones."""
    count = len(palette) - 1

    def make(tell: Callable[[int, int], None]) -> SegmentationNet:
        wide = PairedData(camvid / "train_labels", camvid / "train", (side, side), side, flip=False)
        maps, photos = wide.first(10**6, side)
        labels = nearest(to_bytes(maps), palette)
        return train_segmentation(
            to_bytes(photos),
            labels,
            classes=count,
            ignore=count,
            steps=lab.steps(1100),
            crop=side,
            seed=lab.seed,
            batch_size=8,
            on_progress=tell,
        )

    judge = lab.judge("judge", SegmentationNet(count), make)
    assert isinstance(judge, SegmentationNet)
    return judge


def _page(
    to_photo: Scores,
    to_labels: Scores,
    limit: LabelScores,
    made: dict[str, tuple[Tensor, Tensor]],
    maps: Tensor,
    photos: Tensor,
    times: dict[str, float],
    side: int,
    steps: int,
    seed: int,
) -> Page:
    page = Page("Street scenes: labels and photos", "CycleGAN, its baselines and its ablations on CamVid")
    page.text(
        f"Every method: {steps} steps of 4 images, {side}x{side} pixels, the same networks where it has them, seed {seed}. "
        "Labels to photo: a network that learnt to label real photos labels the made ones (it stands in for the FCN). Photo to "
        f"labels: the class of the nearest label color. Scored on the middle squares of {len(photos)} validation photos. "
        "Cityscapes has 2,975 photos for training and the paper trained for 200 epochs: compare the order, not the numbers."
    )
    header = ["method", "per-pixel", "per-class", "class IoU", "paper: per-pixel", "per-class ", "class IoU ", "minutes"]
    for title, scores, column, methods in (
        ("Labels to photo: methods", to_photo, 0, METHODS),
        ("Photo to labels: methods", to_labels, 1, METHODS),
        ("Labels to photo: ablations", to_photo, 0, ABLATIONS),
        ("Photo to labels: ablations", to_labels, 1, ABLATIONS),
    ):
        page.heading(title)
        rows: list[list[Any]] = [
            [name, *asdict(scores[name]).values(), *PAPER[name][column], times[name] / 60] for name in methods
        ]
        if column == 0:
            rows.append(["real photos (the judge's limit)", *asdict(limit).values(), *NONE, None])
        page.table(header, rows)
        page.text(agreement(scores, column, methods))
    shown = 128 / side
    page.heading("Pictures: eight of the validation set, not chosen")
    chosen = torch.arange(0, len(maps), max(1, len(maps) // 8))[:8]
    page.image(tile(maps[chosen], 8), "Labels", scale=shown)
    page.image(tile(photos[chosen], 8), "Their photos", scale=shown)
    for method, (drawn, told) in made.items():
        page.image(_row(drawn, chosen), f"{method}: photos made of the labels", scale=shown)
        page.image(_row(told, chosen), f"{method}: labels made of the photos", scale=shown)
    return page


def _row(pictures: Tensor, chosen: Tensor) -> NDArray[np.uint8]:
    return tile(to_unit(pictures[chosen]), 8)


def agreement(scores: Scores, column: int, methods: tuple[str, ...]) -> str:
    """In how many pairs of methods ours and the paper's per-pixel accuracy put the same one first, and in which they do not."""
    pairs = [(one, other) for index, one in enumerate(methods) for other in methods[index + 1 :]]
    differ = []
    for one, other in pairs:
        paper = (PAPER[one][column][0] or 0.0) - (PAPER[other][column][0] or 0.0)
        if paper * (scores[one].per_pixel - scores[other].per_pixel) <= 0:
            differ.append(f"{one} and {other}")
    text = f"By per-pixel accuracy, {len(pairs) - len(differ)} of {len(pairs)} pairs are in the paper's order"
    return f"{text}; not: {', '.join(differ)}." if differ else f"{text}."


def _facade_folders(facades: Path) -> list[Path]:
    """Of the pairs, those to train on and those to look at; none where there are no facades."""
    return [facades / "train", facades / "val"] if facades.is_dir() else []


def _facades(page: Page, facades: Path, lab: Lab, common: dict[str, Any]) -> None:
    """CycleGAN without the pairs against pix2pix with them on facades, in pictures (CycleGAN, figure 8)."""
    if not _facade_folders(facades):
        return
    places = {"domain_a": facades / "train", "domain_b": facades / "train", "layout": "halves"}
    places |= {"samples_a": facades / "val", "samples_b": facades / "val"}
    cycle = lab.run("facades-cyclegan", "cyclegan", common | places | {"identity_weight": 0})
    pairs = {way: lab.run(f"facades-pix2pix-{way}", "pix2pix", common | places | {"direction": way}) for way in ("a2b", "b2a")}
    side = int(common["crop_size"])
    photos, labels = PairedData(facades / "val", facades / "val", (side, side), side, flip=False).first(8, side)
    page.heading("Facades: eight of the validation set, not chosen")
    page.image(tile(labels, 8), "Labels", scale=128 / side)
    page.image(tile(photos, 8), "Their photos", scale=128 / side)
    for name, runs in (("CycleGAN", {"a2b": cycle, "b2a": cycle}), ("pix2pix", pairs)):
        page.image(
            tile(translators_from_checkpoint(state(runs["b2a"]))["b2a"](labels), 8),
            f"{name}: photos made of the labels",
            scale=128 / side,
        )
        page.image(
            tile(translators_from_checkpoint(state(runs["a2b"]))["a2b"](photos), 8),
            f"{name}: labels made of the photos",
            scale=128 / side,
        )
