"""Reads the look that `cyclecast style` learns: images of a style, a generator, or pairs of images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path

from cyclecast.errors import ConfigError, CyclecastError, InputError, MissingInputError, MissingModelError
from cyclecast.files import digest_of_ends, read_error
from cyclecast.phrases import count_noun
from cyclecast.runtime.model import bundled_models
from cyclecast.runtime.plan import engine_of_plan
from cyclecast.style.footage import SMALLEST_SIDE as SMALLEST_PAIR
from cyclecast.style.stills import list_visible, read_opaque
from cyclecast.training.checkpoint import NAME
from cyclecast.video.files.opening import VIDEO_SUFFIXES

SMALLEST_STYLE = 128  # pixels: a smaller style image holds no strokes to learn
COLLECTION = 20  # this many style images are enough for a discriminator
KEYFRAMES = 5  # the most pairs that are treated as keyframes of one clip
PYTORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")


@dataclass(frozen=True)
class StyleImages:
    """Images whose style the model learns."""

    paths: tuple[Path, ...]
    skipped: tuple[str, ...] = ()
    """One phrase for each file of the folders that is not used, with the reason."""

    @property
    def is_collection(self) -> bool:
        """Returns whether a discriminator can learn from them."""
        return len(self.paths) >= COLLECTION

    @property
    def manner(self) -> str:
        """Returns how the model paints, as a phrase for its card."""
        return f"in {self}"

    def __str__(self) -> str:
        return f"the style of {self.paths[0].name if len(self.paths) == 1 else f'{len(self.paths)} images'}"


@dataclass(frozen=True)
class Teacher:
    """A generator that the model imitates: a checkpoint, a run, a state dict, an ONNX model or a plan."""

    path: Path
    skipped: tuple[str, ...] = ()

    @property
    def is_pytorch(self) -> bool:
        """Returns whether it must be exported to ONNX first."""
        return self.path.is_dir() or self.path.suffix.lower() in PYTORCH_SUFFIXES

    @property
    def paths(self) -> tuple[Path, ...]:
        """Returns the file that the look is read from."""
        return (self.path / NAME if self.path.is_dir() else self.path,)

    @property
    def manner(self) -> str:
        """Returns how the model paints, as a phrase for its card."""
        return f"as {self.path.name} does"

    def __str__(self) -> str:
        return f"the output of {self.path.name}"


@dataclass(frozen=True)
class Pairs:
    """Two images of the same name and size for each scene."""

    rows: tuple[tuple[Path, Path], ...]
    skipped: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Returns all images."""
        return tuple(path for row in self.rows for path in row)

    @property
    def are_keyframes(self) -> bool:
        """Returns whether they are few enough to be keyframes of one clip."""
        return len(self.rows) <= KEYFRAMES

    @property
    def manner(self) -> str:
        """Returns how the model paints, as a phrase for its card."""
        return f"as {self} show{'s' if len(self.rows) == 1 else ''}"

    def __str__(self) -> str:
        return count_noun(len(self.rows), "keyframe" if self.are_keyframes else "pair")


Look = StyleImages | Teacher | Pairs


def read_look(
    looks: Sequence[str | Path], pairs: tuple[Path, Path] | None, is_excluded: Callable[[Path], bool] = lambda _: False
) -> Look:
    """Reads the look from the command's arguments. Files of folders for which is_excluded returns True are left out.

    Raises InputError (files that are missing, unreadable or too small), MissingModelError (no such generator), or ConfigError
    (no look, or a mixture of several types).
    """
    if pairs is not None:
        if looks:
            raise ConfigError("expected either LOOK or --pairs BEFORE AFTER, got both")
        return _read_pairs(*pairs)
    if not looks:
        raise ConfigError("expected a LOOK: images of a style, a folder of them, or a generator; or --pairs BEFORE AFTER")
    teachers = [look for look in looks if _is_generator(look)]
    if teachers:
        if len(looks) > 1:
            raise ConfigError(f"expected one generator, or images of a style; got {len(looks)} looks, one of them {teachers[0]}")
        path = locate(looks[0])
        if not path.exists():
            raise MissingModelError(f"{path}: no such file, and no bundled model of that name ({', '.join(bundled_models())})")
        return Teacher(path)
    paths, skipped = list[Path](), list[str]()
    for look in looks:
        paths += [path for path in _list_style_images(Path(look), skipped, is_excluded) if path not in paths]
    return StyleImages(tuple(paths), tuple(skipped))


def locate(look: str | Path) -> Path:
    """Returns the path of a look: the file or folder of this name or, if there is none, the bundled model of this name."""
    path = Path(look)
    return path if path.exists() else bundled_models().get(str(look), path)


def digest_look(look: Look) -> str:
    """Returns a digest of the names and contents of the look's files. Raises InputError if one cannot be read."""
    digest = hashlib.sha256()
    for path in look.paths:
        try:
            digest.update(f"{path.name} {digest_of_ends(path)}\n".encode(errors="surrogateescape"))
        except OSError as error:
            raise read_error(error, path) from error
    return digest.hexdigest()[:16]


def _is_generator(look: str | Path) -> bool:
    path = locate(look)
    if path.suffix.lower() in (*PYTORCH_SUFFIXES, ".onnx") or (path / NAME).is_file():
        return True
    return path.is_file() and engine_of_plan(path) is not None


def _list_style_images(path: Path, skipped: list[str], is_excluded: Callable[[Path], bool]) -> list[Path]:
    """Lists the usable images of a file or a folder; adds a phrase to `skipped` for each of the others."""
    if path.is_file():
        _require_style(path)
        return [path]
    if not path.exists():
        raise MissingInputError(f"{path}: no such file or folder; expected an image, a folder of images, or a generator")
    usable: list[Path] = []
    for each in filterfalse(is_excluded, list_visible(path)):
        try:
            _require_style(each)
            usable.append(each)
        except InputError as error:
            skipped.append(str(error))
    if len(usable) < 2:
        found = f"{count_noun(len(usable), 'readable image')} of {SMALLEST_STYLE}x{SMALLEST_STYLE} pixels or more"
        hint = f"; for the style of one image, name it: {usable[0]}" if usable else ""
        raise InputError(f"{path}: holds {found}, expected at least 2{hint}")
    return usable


def _require_style(path: Path) -> None:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise InputError(f"{path}: a video or an animation; a LOOK is an image, so save a frame of it as a PNG and name that")
    try:
        side = min(read_opaque(path).shape[:2])
    except InputError as error:
        reason = "it is damaged" if "ends before" in str(error) else "it cannot be read as an image"
        raise InputError(f"{path}: {reason}; expected an intact JPEG, PNG, WebP, BMP or TIFF, or a generator") from error
    if side < SMALLEST_STYLE:
        raise InputError(f"{path}: too small, its shorter side has {side} pixels; expected at least {SMALLEST_STYLE}")


def _read_pairs(before: Path, after: Path) -> Pairs:
    for folder in (before, after):
        if folder.is_file():
            raise InputError(f"{folder}: a file; --pairs expects two folders with images of the same names")
    by_stem = [_images_by_stem(folder) for folder in (before, after)]
    if before.resolve() == after.resolve():
        raise InputError(f"{before} and {after}: the same folder; --pairs expects the images before, and the same ones after")
    common = sorted(by_stem[0].keys() & by_stem[1].keys())
    if not common:
        examples = " and ".join(min(stems.values()).name for stems in by_stem)
        raise InputError(
            f"{before} and {after}: no file names in common, so no pairs, such as {examples}; name the images alike in both"
        )
    for stem in common:
        _require_pair(by_stem[0][stem], by_stem[1][stem])
    alone = sorted(stems[stem] for stems in by_stem for stem in stems if stem not in set(common))
    skipped = tuple(f"{path}: the other folder has no image of this name" for path in alone)
    return Pairs(tuple((by_stem[0][stem], by_stem[1][stem]) for stem in common), skipped)


def _images_by_stem(folder: Path) -> dict[Path, Path]:
    """Maps names without suffix to the images of a folder. Raises InputError for two images of one name."""
    images: dict[Path, Path] = {}
    for path in list_visible(folder):
        stem = path.relative_to(folder).with_suffix("")
        if stem in images:
            raise InputError(f"{images[stem]} and {path.name}: one name for two images; remove one of them")
        images[stem] = path
    return images


def _require_pair(before: Path, after: Path) -> None:
    """Raises InputError if an image of the pair cannot be read, if their sizes differ, or if they are too small."""
    sizes = []
    for path in (before, after):
        try:
            sizes.append(read_opaque(path).shape[1::-1])
        except CyclecastError as error:
            raise InputError(f"{error}; repair it or remove the pair") from error
    (width, height), (other_width, other_height) = sizes
    if sizes[0] != sizes[1]:
        raise InputError(
            f"{after}: {other_width}x{other_height} pixels, but {before} has {width}x{height}; "
            "both images of a pair must have one size"
        )
    if min(width, height) < SMALLEST_PAIR:
        raise InputError(f"{before}: {width}x{height} pixels, too small to learn from; expected at least {SMALLEST_PAIR}")
