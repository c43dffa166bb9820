"""What `cyclecast style` is given to learn from: images of a style, a generator, or pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclecast.errors import ConfigError, InputError, MissingInputError
from cyclecast.runtime.model import bundled_models, find_model
from cyclecast.training.checkpoint import NAME
from cyclecast.training.data import list_images, read_image

SMALLEST_SIDE = 128  # pixels: a smaller style image holds no strokes to learn
COLLECTION = 20  # style images from which on a discriminator has enough to learn from
KEYFRAMES = 5  # up to so many pairs are keyframes of one clip: each of their areas counts
PYTORCH_SUFFIXES = (".pt", ".pth")


@dataclass(frozen=True)
class StyleImages:
    """Images whose style is learned."""

    paths: tuple[Path, ...]

    @property
    def is_collection(self) -> bool:
        """Whether there are enough images for a discriminator."""
        return len(self.paths) >= COLLECTION

    def __str__(self) -> str:
        return f"the style of {self.paths[0].name if len(self.paths) == 1 else f'{len(self.paths)} images'}"


@dataclass(frozen=True)
class Teacher:
    """A generator that is imitated: a checkpoint, a run, a state dict or an ONNX model."""

    path: Path

    @property
    def is_pytorch(self) -> bool:
        """Whether it is exported to ONNX first."""
        return self.path.is_dir() or self.path.suffix in PYTORCH_SUFFIXES

    def __str__(self) -> str:
        return f"what {self.path.name} makes of frames"


@dataclass(frozen=True)
class Pairs:
    """Two images of the same name and size for each scene."""

    rows: tuple[tuple[Path, Path], ...]

    @property
    def are_keyframes(self) -> bool:
        """Whether they are so few that they must be frames of one clip."""
        return len(self.rows) <= KEYFRAMES

    def __str__(self) -> str:
        count = len(self.rows)
        return f"{count} {'keyframe' if self.are_keyframes else 'pair'}{'' if count == 1 else 's'}"


Look = StyleImages | Teacher | Pairs


def read_look(looks: Sequence[str | Path], pairs: tuple[Path, Path] | None) -> Look:
    """Finds out what was given. Raises InputError (missing, unreadable or too small) or ConfigError (a mixture, nothing)."""
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
        return Teacher(find_model(looks[0]) if str(looks[0]) in bundled_models() else Path(looks[0]))
    paths = tuple(path for look in looks for path in _style_images(Path(look)))
    return StyleImages(paths)


def _is_generator(look: str | Path) -> bool:
    path = Path(look)
    if str(look) in bundled_models() and not path.exists():
        return True
    return path.suffix.lower() in (*PYTORCH_SUFFIXES, ".onnx") or (path / NAME).is_file()


def _style_images(path: Path) -> list[Path]:
    if not path.exists():
        raise MissingInputError(f"{path}: no such file or folder; expected an image, a folder of images, or a generator")
    if path.is_file():
        _require_style(path)
        return [path]
    paths = list_images(path)
    readable = [each for each in paths if _readable_side(each) >= SMALLEST_SIDE]
    if len(readable) < 2:
        found = f"{len(readable)} readable image of {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels or more"
        hint = f"; for the style of one image, name it: {readable[0]}" if readable else ""
        raise InputError(f"{path}: holds {found}, expected at least 2{hint}")
    return readable


def _require_style(path: Path) -> None:
    side = _readable_side(path)
    if side == 0:
        raise InputError(f"{path}: cannot be read as an image; expected a JPEG, PNG, WebP, BMP or TIFF, or a generator")
    if side < SMALLEST_SIDE:
        raise InputError(f"{path}: too small, its shorter side has {side} pixels; expected at least {SMALLEST_SIDE}")


def _readable_side(path: Path) -> int:
    """The shorter side of an image, pixels; 0 if it cannot be decoded."""
    image = read_image(path)
    return 0 if image is None else min(image.shape[:2])


def _read_pairs(before: Path, after: Path) -> Pairs:
    for folder in (before, after):
        if folder.is_file():
            raise InputError(f"{folder}: a file; --pairs expects two folders with images of the same names")
    by_stem = [{path.relative_to(folder).with_suffix(""): path for path in list_images(folder)} for folder in (before, after)]
    common = sorted(by_stem[0].keys() & by_stem[1].keys())
    if not common:
        raise InputError(f"{before} and {after}: no file names in common, so no pairs; name the images alike in both folders")
    rows = []
    for stem in common:
        row = by_stem[0][stem], by_stem[1][stem]
        images = [read_image(path) for path in row]
        for path, image in zip(row, images, strict=True):
            if image is None:
                raise InputError(f"{path}: cannot be read as an image; mend it or remove the pair")
        (height, width), (other_height, other_width) = (image.shape[:2] for image in images if image is not None)
        if (height, width) != (other_height, other_width):
            raise InputError(
                f"{row[1]}: {other_width}x{other_height} pixels, but {row[0]} has {width}x{height}; "
                "both images of a pair must have one size"
            )
        rows.append(row)
    return Pairs(tuple(rows))
