"""What a generator is worth: its pictures against the real ones of its target domain, by whatever the data allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cyclecast.errors import InputError
from cyclecast.training.checkpoint import generate
from cyclecast.training.data import DigitSet, Half, PairedData, nearest_class, open_domain, palette_of, to_bytes
from cyclecast.training.data.labels import Palette
from cyclecast.training.evaluate.classifier import accuracy, train_classifier
from cyclecast.training.evaluate.distribution import ClassifierFeatures, Extractor, ImageNetFeatures, fid_kid, inception_features
from cyclecast.training.evaluate.flicker import structure_kept
from cyclecast.training.evaluate.labels import confusion, label_scores
from cyclecast.training.evaluate.segmentation import predict, train_segmentation
from cyclecast.training.networks import LatentGenerator

Translate = Callable[[Tensor], Tensor]  # (N, 3, S, S) uint8, RGB -> the same
MOST = 500  # images of each kind
JUDGED_SIDE = 64  # pixels: of what the classifier of two domains looks at
CLASSIFIER_STEPS, DIGIT_STEPS, SEGMENTATION_STEPS = 300, 1000, 500


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where both domains are: what a run's settings of these names say, or `data_settings` of a folder."""

    domain_a: Path
    domain_b: Path
    samples_a: Path | None = None
    samples_b: Path | None = None
    layout: str = "folders"
    tight: bool = False

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Places:
        """Out of settings with more in them; paths may be text."""
        paths = {key: settings.get(key) for key in ("domain_a", "domain_b", "samples_a", "samples_b")}
        found: dict[str, Any] = {key: None if path is None else Path(path) for key, path in paths.items()}
        return cls(**found, layout=settings.get("layout", "folders"), tight=settings.get("tight", False))

    def of(self, domain: str) -> tuple[Path, Path | None, Half | None]:
        """Training images, test images if there are any, and the half of each image, of domain `a` or `b`."""
        half: Half = "left" if domain == "a" else "right"
        train, test = (self.domain_a, self.samples_a) if domain == "a" else (self.domain_b, self.samples_b)
        return train, test, half if self.layout == "halves" else None


def evaluate_translation(
    translate: Translate, direction: str, places: Places, *, side: int, inception: Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """The figures of one direction (`a2b` or `b2a`) by name.

    Always: structure_kept (SSIM to the source). Digits: digit_accuracy of a classifier of the target's digits, with
    digit_accuracy_untranslated beside it. Label maps: per_pixel, per_class, class_iou, of the nearest label color or, the
    other way round, of a segmentation network trained on the real photos. Folders: judged_as_target, of a classifier of the
    two domains. FID and KID to the target's test images, or to all where there are none: in the features of the Inception
    weights in the file `inception`, else of EfficientNet-Lite2 (digits: of a classifier of them), under names that say so.

    side: pixels of the center crops. InputError if images are missing, or too few.
    """
    source, target = direction[0], direction[2]
    if not places.of(source)[0].is_dir():
        return _digits(translate, places.of(source)[0], places.of(target)[0], side, places.tight, inception, seed)
    source_train, source_held = _split(*places.of(source), side)
    target_train, target_held = _split(*places.of(target), side)
    made = translate(source_held)
    figures: dict[str, Any] = {"images": len(made), "structure_kept": _structure(source_held, made)}
    extractor: Extractor
    both = _shrunk(source_train), _shrunk(target_train)
    images, labels = torch.cat(both), torch.cat([torch.full((len(part),), i) for i, part in enumerate(both)])
    judge = train_classifier(images, labels, classes=2, steps=CLASSIFIER_STEPS, batch_size=64, shift=4, flip=True, seed=seed)
    figures["judged_as_target"] = accuracy(judge, _shrunk(made), torch.ones(len(made)))
    figures["source_judged_as_target"] = accuracy(judge, _shrunk(source_held), torch.ones(len(source_held)))
    extractor = ImageNetFeatures() if inception is None else inception_features(inception)
    real = target_held if places.of(target)[1] else torch.cat([target_train, target_held])
    figures |= fid_kid(real, made, extractor, seed=seed).named()
    return figures | _labels(translate, direction, places, side, seed)


def _split(train: Path, held: Path | None, half: Half | None, side: int) -> tuple[Tensor, Tensor]:
    """Images to train a judge on, and others to compare with: (N, 3, S, S) uint8 each; every second where no test set is."""
    first = to_bytes(open_domain(train, (side, side), side, half=half).first(MOST, side))
    if held is None:
        return first[::2], first[1::2]
    return first, to_bytes(open_domain(held, (side, side), side, half=half).first(MOST, side))


def _shrunk(images: Tensor) -> Tensor:
    small = torch.nn.functional.interpolate(images.float(), (JUDGED_SIDE, JUDGED_SIDE), mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).byte()


def _structure(source: Tensor, made: Tensor) -> float:
    pairs = zip(source[:100].permute(0, 2, 3, 1).numpy(), made[:100].permute(0, 2, 3, 1).numpy(), strict=True)
    return float(np.mean([structure_kept(one[..., ::-1], other[..., ::-1]) for one, other in pairs]))


def _digits(
    translate: Translate, source: Path, target: Path, side: int, tight: bool, inception: Path | None, seed: int
) -> dict[str, Any]:
    known, digits = DigitSet(target, side, "train", tight), DigitSet(source, side, "test", tight)
    real = DigitSet(target, side, "test", tight)
    images, labels = known.bytes()
    judge = train_classifier(images, labels, classes=10, steps=DIGIT_STEPS, shift=3, seed=seed)
    asked, truth = digits.bytes()
    made = translate(asked)
    count = min(len(made), len(real))
    extractor = ClassifierFeatures(judge) if inception is None else inception_features(inception)
    return {
        "images": len(made),
        "structure_kept": _structure(asked, made),
        "digit_accuracy": accuracy(judge, made, truth),
        "digit_accuracy_untranslated": accuracy(judge, asked, truth),
        "digit_accuracy_of_real_targets": accuracy(judge, *real.bytes()),
        **fid_kid(real.bytes()[0][:count], made[:count], extractor, seed=seed).named(),
    }


def _labels(translate: Translate, direction: str, places: Places, side: int, seed: int) -> dict[str, Any]:
    """Label scores, where one of the two domains is label maps and both come in pairs; else nothing."""
    tables = {domain: palette_of(places.of(domain)[0]) for domain in "ab"}
    maps, photos = (d for d in sorted("ab", key=lambda d: tables[d] is None))
    table = tables[maps]
    if table is None:
        return {}
    train = _pairs(places.of(maps)[0], places.of(photos)[0], side, table)
    if (tests := (places.of(maps)[1], places.of(photos)[1])) == (None, None):
        train, held = [part[::2] for part in train], [part[1::2] for part in train]
    else:
        held = _pairs(tests[0] or places.of(maps)[0], tests[1] or places.of(photos)[0], side, table)
    count = len(table) - (table.names[-1] in ("unlabelled", "void"))
    ignored = None if count == len(table) else count
    if direction[0] == maps:
        judge = train_segmentation(
            train[1], train[2], classes=count, ignore=ignored, steps=SEGMENTATION_STEPS, crop=side, batch_size=8, seed=seed
        )
        told = predict(judge, translate(held[0]))
    else:
        told = nearest(translate(held[1]), Palette(table.names[:count], table.colors[:count]))
    scores = label_scores(confusion(told, held[2], count, ignored))
    return {"per_pixel": scores.per_pixel, "per_class": scores.per_class, "class_iou": scores.class_iou}


def _pairs(maps: Path, photos: Path, side: int, table: Palette) -> list[Tensor]:
    """Label pictures and photos (N, 3, S, S) uint8, and the labels (N, S, S)."""
    pictures, taken = PairedData(maps, photos, (side, side), side, flip=False).first(MOST, side)
    return [to_bytes(pictures), to_bytes(taken), nearest(to_bytes(pictures), table)]


def nearest(pictures: Tensor, table: Palette) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, H, W) int64: the class of the nearest label color (CycleGAN, section 5.1.3)."""
    return torch.from_numpy(nearest_class(pictures.permute(0, 2, 3, 1).numpy(), table).astype(np.int64))


def evaluate_samples(
    network: LatentGenerator, domain: Path, *, side: int, inception: Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """FID and KID of a latent generator's pictures against the real ones of `domain`.

    Digits: in the features of a classifier of them; other images need the Inception weights in `inception`, else InputError.
    """
    extractor: Extractor
    if domain.is_dir():
        if inception is None:
            raise InputError(f"{domain}: one set of images trains no classifier to measure by; name a file of Inception weights")
        real = to_bytes(open_domain(domain, (side, side), side).first(MOST, side))
    else:
        real = DigitSet(domain, side, "test").bytes()[0]
    if inception is not None:
        extractor = inception_features(inception)
    else:
        images, labels = DigitSet(domain, side).bytes()
        extractor = ClassifierFeatures(train_classifier(images, labels, classes=10, steps=DIGIT_STEPS, shift=2, seed=seed))
    made = to_bytes(generate(network, torch.randn(len(real), network.latent, generator=torch.Generator().manual_seed(seed))))
    return {"images": len(made), **fid_kid(real, made, extractor, seed=seed).named()}
