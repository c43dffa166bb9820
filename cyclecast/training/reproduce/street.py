"""Labels <-> photos of street scenes: the paper's two tables of methods and two of ablations (CycleGAN, section 5.1).

CamVid replaces Cityscapes, and a network that is trained here on its real photos replaces the FCN. So the order of the methods
can be compared with the paper's, the numbers cannot. Domain A: labels, domain B: photos; the variant `gan_forward` reconstructs
labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cyclecast.errors import InputError
from cyclecast.training.checkpoint import Translate, translators_from_checkpoint
from cyclecast.training.data import PairedData, Palette, find_palette, list_images, to_bytes
from cyclecast.training.evaluate.classifier import to_unit
from cyclecast.training.evaluate.labels import LabelScores, classes_from_colors, confusion, label_scores
from cyclecast.training.evaluate.segmentation import SegmentationNet, predict, train_segmentation
from cyclecast.training.machine import pick_device
from cyclecast.training.report import Page, tile
from cyclecast.training.reproduce.experiment import Experiment, load_state, training_seconds

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


def reproduce_street(data: Path, experiment: Experiment) -> Path:
    """Trains every method and the segmentation network, writes the page and returns its path.

    data: folder with `camvid` (train, train_labels, val, val_labels, classes.csv) and optionally `facades`. 128x128 pixels, with
    wider networks and more steps on a GPU; 64x64 if the effort is below 0.5. Raises InputError if camvid is missing.
    """
    if experiment.effort < 0.5:
        side, ngf, steps = 64, 16, experiment.steps(3000)
    else:
        ngf, steps = (
            (64, experiment.steps(8000)) if pick_device(experiment.device).type == "cuda" else (24, experiment.steps(1000))
        )
        side = 128
    camvid = data / "camvid"
    photos, labels, maps, palette = _validation(camvid, side)
    for folder in (camvid / "train", camvid / "train_labels", *_facade_folders(data / "facades")):
        list_images(folder)
    segmentation = _segmentation_network(experiment, camvid, side, palette)
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
    domains = {"domain_a": camvid / "train_labels", "domain_b": camvid / "train"}
    domains |= {"samples_a": camvid / "val_labels", "samples_b": camvid / "val"}
    methods: dict[str, dict[str, Translate]] = {}
    times: dict[str, float] = {}
    for method, (recipe, settings) in UNPAIRED.items():
        run = experiment.train_run(method.lower().replace(" + ", "-").replace(" ", "-"), recipe, common | domains | settings)
        methods[method], times[method] = translators_from_checkpoint(load_state(run)), training_seconds(run)
    both = {
        direction: experiment.train_run(f"pix2pix-{direction}", "pix2pix", common | domains | {"direction": direction})
        for direction in ("a2b", "b2a")
    }
    methods["pix2pix"] = {direction: translators_from_checkpoint(load_state(run))[direction] for direction, run in both.items()}
    times["pix2pix"] = sum(map(training_seconds, both.values()))

    to_photo, to_labels, outputs = {}, {}, {}
    count = len(palette) - 1  # the last color marks pixels without a label
    class_palette = Palette(palette.names[:count], palette.colors[:count])
    for method, translate in methods.items():
        new_photos, new_maps = to_bytes(translate["a2b"](maps)), to_bytes(translate["b2a"](photos))
        outputs[method] = (new_photos, new_maps)
        to_photo[method] = label_scores(confusion(predict(segmentation, new_photos), labels, count, ignore=count))
        to_labels[method] = label_scores(confusion(classes_from_colors(new_maps, class_palette), labels, count, ignore=count))
    limit = label_scores(confusion(predict(segmentation, to_bytes(photos)), labels, count, ignore=count))
    page = _page(to_photo, to_labels, limit, outputs, maps, photos, times, side, steps, experiment.seed)
    _add_facades(page, data / "facades", experiment, common)
    results = {
        "labels_to_photo": {name: asdict(scores) for name, scores in to_photo.items()} | {"real photos": asdict(limit)},
        "photo_to_labels": {name: asdict(scores) for name, scores in to_labels.items()},
        "seconds": times,
        "side": side,
        "steps": steps,
        "seed": experiment.seed,
    }
    return experiment.finish(page, results)


def _validation(camvid: Path, side: int) -> tuple[Tensor, Tensor, Tensor, Palette]:
    """Reads photos (N, 3, S, S) in [-1, 1], labels (N, S, S), label images (N, 3, S, S) in [-1, 1], and the palette."""
    palette = find_palette(camvid / "val_labels")
    if palette is None:
        raise InputError(f"{camvid}: no classes.csv in it; expected a table of the classes and their colors")
    maps, photos = PairedData(camvid / "val_labels", camvid / "val", (side, side), side, flip=False).first(10**6, side)
    return photos, classes_from_colors(to_bytes(maps), palette), maps, palette


def _segmentation_network(experiment: Experiment, camvid: Path, side: int, palette: Palette) -> SegmentationNet:
    """Trains the network that labels generated photos, on the real ones."""
    count = len(palette) - 1

    def train_network(on_progress: Callable[[int, int], None]) -> SegmentationNet:
        pairs = PairedData(camvid / "train_labels", camvid / "train", (side, side), side, flip=False)
        maps, photos = pairs.first(10**6, side)
        labels = classes_from_colors(to_bytes(maps), palette)
        return train_segmentation(
            to_bytes(photos),
            labels,
            classes=count,
            ignore=count,
            steps=experiment.steps(1100),
            crop=side,
            seed=experiment.seed,
            batch_size=8,
            on_progress=on_progress,
        )

    return experiment.load_or_train("segmentation", SegmentationNet(count), train_network)


def _page(
    to_photo: Scores,
    to_labels: Scores,
    limit: LabelScores,
    outputs: dict[str, tuple[Tensor, Tensor]],
    maps: Tensor,
    photos: Tensor,
    times: dict[str, float],
    side: int,
    steps: int,
    seed: int,
) -> Page:
    page = Page("Street scenes: labels and photos", "CycleGAN, its baselines and its ablations on CamVid")
    page.text(
        f"Every method: {steps} steps of 4 images, {side}x{side} pixels, the same networks where a method has them, seed {seed}. "
        "Labels to photo: a network that was trained on real photos labels the generated ones (in place of the FCN). Photo to "
        f"labels: the class of the nearest label color. Scores are of the center squares of {len(photos)} validation photos. "
        "Cityscapes has 2,975 training photos and the paper trained for 200 epochs: compare the order, not the numbers."
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
            rows.append(["real photos (upper limit)", *asdict(limit).values(), *NONE, None])
        page.table(header, rows)
        page.text(agreement(scores, column, methods))
    scale = 128 / side
    page.heading("Images: eight of the validation set, evenly spaced")
    shown = torch.arange(0, len(maps), max(1, len(maps) // 8))[:8]
    page.image(tile(maps[shown], 8), "Labels", scale=scale)
    page.image(tile(photos[shown], 8), "Their photos", scale=scale)
    for method, (new_photos, new_maps) in outputs.items():
        page.image(tile(to_unit(new_photos[shown]), 8), f"{method}: photos from labels", scale=scale)
        page.image(tile(to_unit(new_maps[shown]), 8), f"{method}: labels from photos", scale=scale)
    return page


def agreement(scores: Scores, column: int, methods: tuple[str, ...]) -> str:
    """Writes a sentence: how many pairs of methods have the paper's order by per-pixel accuracy, and which do not."""
    pairs = [(first, second) for index, first in enumerate(methods) for second in methods[index + 1 :]]
    differ = []
    for first, second in pairs:
        paper = (PAPER[first][column][0] or 0.0) - (PAPER[second][column][0] or 0.0)
        if paper * (scores[first].per_pixel - scores[second].per_pixel) <= 0:
            differ.append(f"{first} and {second}")
    text = f"By per-pixel accuracy, {len(pairs) - len(differ)} of {len(pairs)} pairs are in the paper's order"
    return f"{text}; not: {', '.join(differ)}." if differ else f"{text}."


def _facade_folders(facades: Path) -> list[Path]:
    """Returns the folders of training and of validation pairs; none if there are no facades."""
    return [facades / "train", facades / "val"] if facades.is_dir() else []


def _add_facades(page: Page, facades: Path, experiment: Experiment, common: dict[str, Any]) -> None:
    """Adds images of CycleGAN without the pairs beside pix2pix with them, on facades (CycleGAN, figure 8)."""
    if not _facade_folders(facades):
        return
    domains = {"domain_a": facades / "train", "domain_b": facades / "train", "layout": "halves"}
    domains |= {"samples_a": facades / "val", "samples_b": facades / "val"}
    cycle = experiment.train_run("facades-cyclegan", "cyclegan", common | domains | {"identity_weight": 0})
    pairs = {
        direction: experiment.train_run(f"facades-pix2pix-{direction}", "pix2pix", common | domains | {"direction": direction})
        for direction in ("a2b", "b2a")
    }
    side = int(common["crop_size"])
    photos, labels = PairedData(facades / "val", facades / "val", (side, side), side, flip=False).first(8, side)
    page.heading("Facades: eight of the validation set, evenly spaced")
    page.image(tile(labels, 8), "Labels", scale=128 / side)
    page.image(tile(photos, 8), "Their photos", scale=128 / side)
    for name, runs in (("CycleGAN", {"a2b": cycle, "b2a": cycle}), ("pix2pix", pairs)):
        to_photos, to_labels = (
            translators_from_checkpoint(load_state(runs[direction]))[direction] for direction in ("b2a", "a2b")
        )
        page.image(tile(to_photos(labels), 8), f"{name}: photos from labels", scale=128 / side)
        page.image(tile(to_labels(photos), 8), f"{name}: labels from photos", scale=128 / side)
