"""Reads the images of both domains of an evaluation, and checks that there are enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cyclecast.errors import ConfigError, InputError, MissingInputError
from cyclecast.training.data import Half, PairedData, find_digits, find_palette, open_domain, to_bytes
from cyclecast.training.data.labels import Palette
from cyclecast.training.evaluate.distribution import MIN_IMAGES
from cyclecast.training.evaluate.labels import classes_from_colors

MAX_IMAGES = 500
"""Images of one split that are read; more are sampled evenly."""

PATH_SETTINGS = ("domain_a", "domain_b", "samples_a", "samples_b")


@dataclass(frozen=True, kw_only=True)
class DomainPaths:
    """The paths of both domains, under the names of the settings in a run's config."""

    domain_a: Path
    domain_b: Path
    samples_a: Path | None = None
    samples_b: Path | None = None
    layout: str = "folders"
    tight: bool = False

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> DomainPaths:
        """Builds the paths from a run's settings, or from `data_settings` of a folder; a path may be a string.

        A folder that holds a file of digits becomes that file. Raises InputError if one of the two domains is not named, does
        not exist, or is of another type than the other.
        """
        paths: dict[str, Any] = {}
        for name in PATH_SETTINGS:
            value = settings.get(name)
            if not isinstance(value, str | Path | None):
                raise InputError(f"the setting {name} must be a path, got {value!r}; {_advice(name)}")
            paths[name] = None if value is None else Path(value)
        for name in ("domain_a", "domain_b"):
            if paths[name] is None:
                raise InputError(f"the settings do not name {name}; {_advice(name)}")
            if not paths[name].exists():
                raise MissingInputError(f"{paths[name]}: no such folder or file; if the data was moved, {_advice(name)}")
            paths[name] = find_digits(paths[name])
        if paths["domain_a"].is_dir() != paths["domain_b"].is_dir():
            raise InputError(
                f"{paths['domain_a']} and {paths['domain_b']}: one is a folder and one a file; "
                "expected two folders of images or two files of digits; name them with --domain-a and --domain-b"
            )
        return cls(**paths, layout=settings.get("layout", "folders"), tight=bool(settings.get("tight", False)))

    def splits(self, domain: str) -> tuple[Path, Path | None, Half | None]:
        """Returns the training images of domain `a` or `b`, its test images or None, and which half of each image to use."""
        half: Half = "left" if domain == "a" else "right"
        train, test = (self.domain_a, self.samples_a) if domain == "a" else (self.domain_b, self.samples_b)
        return train, test, half if self.layout == "halves" else None

    def label_domain(self) -> tuple[str, Palette] | None:
        """Returns the domain of label maps, `a` or `b`, and its palette; None if both domains are photos."""
        for domain in "ab":
            palette = find_palette(self.splits(domain)[0])
            if palette is not None:
                return domain, palette
        return None


def _advice(setting: str) -> str:
    return f"name the data with --data, or this domain with --domain-{setting[-1]}"


def replace_domains(settings: Mapping[str, Any], domain_a: Path | None, domain_b: Path | None) -> dict[str, Any]:
    """Returns the settings with these domains in place of their own; a domain named here has no test split.

    Raises ConfigError if only one is named and the other one is a half of each image.
    """
    named = {"a": domain_a, "b": domain_b}
    if settings.get("layout") == "halves" and (domain_a is None) != (domain_b is None):
        missing = "--domain-b" if domain_b is None else "--domain-a"
        raise ConfigError(f"the data are pairs side by side, so both domains must be named: add {missing}")
    changes: dict[str, Any] = {}
    for domain, path in named.items():
        if path is not None:
            changes |= {f"domain_{domain}": path, f"samples_{domain}": None, "layout": "folders"}
    return {**settings, **changes}


def load_splits(paths: DomainPaths, domain: str, side: int) -> tuple[Tensor, Tensor]:
    """Reads the training and test images of a domain, (N, 3, S, S) uint8 each.

    Without a test split, every second image is held out for the test. Raises InputError if no image can be read.
    """
    train, test, half = paths.splits(domain)
    images = to_bytes(open_domain(train, (side, side), side, half=half).first(MAX_IMAGES, side))
    if test is None:
        return images[::2], images[1::2]
    return images, to_bytes(open_domain(test, (side, side), side, half=half).first(MAX_IMAGES, side))


def require_images(path: Path, count: int, *, held_out: bool = False) -> None:
    """Raises InputError if `count` images of `path` are too few for FID and KID.

    held_out: they are every second image of a domain without a test split.
    """
    if count >= MIN_IMAGES:
        return
    advice = "add images, or name other data with --data or --domain-a and --domain-b"
    if held_out:
        raise InputError(
            f"{path}: evaluate needs a test split of {MIN_IMAGES} or more images, or {2 * MIN_IMAGES} or more readable images "
            f"of which it holds out every second one; {count} could be held out here; {advice}"
        )
    raise InputError(f"{path}: evaluate needs {MIN_IMAGES} or more readable images, got {count}; {advice}")


def load_label_splits(paths: DomainPaths, side: int) -> tuple[list[Tensor], list[Tensor]]:
    """Reads the training and test pairs of label maps and photos.

    Returns two lists: label images and photos (N, 3, S, S) uint8, and class indices (N, S, S) int64. Without a test split,
    every second pair is held out. Raises InputError if neither domain is label maps, or there are no pairs.
    """
    found = paths.label_domain()
    if found is None:
        raise InputError(f"{paths.domain_a}, {paths.domain_b}: neither is a folder of label maps (NAME_labels with classes.csv)")
    maps, palette = found
    photos = "b" if maps == "a" else "a"
    (train_maps, test_maps, _), (train_photos, test_photos, _) = paths.splits(maps), paths.splits(photos)
    train = _label_pairs(train_maps, train_photos, side, palette)
    if test_maps is None and test_photos is None:
        return [part[::2] for part in train], [part[1::2] for part in train]
    return train, _label_pairs(test_maps or train_maps, test_photos or train_photos, side, palette)


def _label_pairs(maps: Path, photos: Path, side: int, palette: Palette) -> list[Tensor]:
    pairs = PairedData(maps, photos, (side, side), side, flip=False).first(MAX_IMAGES, side)
    label_images, photo_images = map(to_bytes, pairs)
    return [label_images, photo_images, classes_from_colors(label_images, palette)]


def downscale(images: Tensor, side: int) -> Tensor:
    """Resizes (N, 3, H, W) uint8 to (N, 3, side, side), bilinear with antialiasing."""
    small = functional.interpolate(images.float(), (side, side), mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8)
