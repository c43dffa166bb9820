"""Which files a batch converts, and where each output goes."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from cyclecast.errors import ConfigError, InputError
from cyclecast.files import is_hidden
from cyclecast.image_formats import FORMATS, describe_unreadable, keep_readable
from cyclecast.video.convert.containers import GIF
from cyclecast.video.files import images
from cyclecast.video.files.reader import VIDEO_SUFFIXES
from cyclecast.video.files.writer import CONTAINERS

WRITABLE = frozenset({*FORMATS, *CONTAINERS, GIF})
READABLE = WRITABLE | images.SUFFIXES | VIDEO_SUFFIXES


def plan_conversions(sources: Sequence[str | Path], output: str | Path) -> list[tuple[Path, Path]]:
    """(source, output) of each file. Globs and folders are expanded; a folder's tree is mirrored under `output`.

    One file goes to `output` itself, unless that is a folder or ends in a separator; several files need a folder. A folder or a
    glob has no hidden files, none in hidden folders, and none under `output`. InputError for a source that matches nothing;
    ConfigError if several sources would become one file, or if all files of a source lie under the output folder.
    """
    files: list[tuple[Path, Path]] = []  # a file, its path under the output folder
    has_expanded, target = False, Path(output)
    for source in map(str, sources):
        path = Path(source)
        if os.path.isdir(path):
            has_expanded = True
            if _is_same(path, target) and any(Path(other).parent == path.parent for other in sources if str(other) != source):
                continue  # a shell expanded `photos/*`, and photos/styled is both in it and the output
            files += [(file, file.relative_to(path)) for file in _files_in_folder(path, target)]
        elif glob.has_magic(source) and not os.path.lexists(path):
            has_expanded = True
            files += [(file, Path(file.name)) for file in _files_of_glob(source, target)]
        else:
            files.append((path, Path(path.name)))
    is_folder = os.path.isdir(target) or str(output).endswith(("/", os.sep))
    if not is_folder and len(files) == 1 and not has_expanded:
        return [(files[0][0], target)]
    if not is_folder and target.suffix.lower() in WRITABLE:
        raise ConfigError(f"several files cannot go into the one file {output}; name a folder")
    planned = [(file, target / _output_name(place)) for file, place in files]
    if all(_is_same(file, place) for file, place in planned):
        raise ConfigError(f"{output}: the output folder is the source folder; name another one, such as {_another(target)}")
    _refuse_collisions(planned)
    return planned


def _files_in_folder(folder: Path, output: Path) -> list[Path]:
    """The images and videos in a folder and the folders below it."""
    if _is_same(folder, output):
        raise ConfigError(f"{output}: the output folder is the source folder; name another one, such as {_another(output)}")
    listed = [path for path in sorted(folder.rglob("*")) if _is_convertible(path) and not is_hidden(path.relative_to(folder))]
    found = keep_readable(folder, listed)
    if not found:
        skipped = describe_unreadable(listed)
        raise InputError(f"{folder}: no images or videos in this folder{f' ({skipped})' if skipped else ''}")
    return _outside(found, str(folder), output)


def _files_of_glob(pattern: str, output: Path) -> list[Path]:
    """The files that a glob matches."""
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    fixed = _fixed_parts(pattern)
    found = [path for path in matches if os.path.isfile(path) and not is_hidden(Path(*path.parts[fixed:]))]
    if not found:
        raise InputError(f"{pattern}: matches no file")
    return _outside(found, pattern, output)


def _fixed_parts(pattern: str) -> int:
    """How many parts of the path come before the first wildcard: a hidden folder among them was named on purpose."""
    parts = Path(pattern).parts
    return next(number for number, part in enumerate(parts) if glob.has_magic(part))


def _outside(found: list[Path], source: str, output: Path) -> list[Path]:
    """Those that are not outputs of an earlier run. ConfigError if none is left."""
    outside = [path for path in found if not _is_under(path, output)]
    if not outside:
        raise ConfigError(
            f"{source}: all files lie in the output folder {output}; name an output folder outside, such as {_another(output)}"
        )
    return outside


def _is_same(one: Path, other: Path) -> bool:
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def _another(folder: Path) -> Path:
    """A folder beside this one, to suggest."""
    named = folder if folder.name not in ("", "..") else Path(os.path.abspath(folder))
    return named.with_name(f"{named.name}-styled") if named.name else Path("styled")


def _is_convertible(path: Path) -> bool:
    return path.suffix.lower() in READABLE and os.path.isfile(path)


def _is_under(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(folder))


def _output_name(place: Path) -> Path:
    suffix = place.suffix.lower()
    return place if suffix in WRITABLE else place.with_suffix(".jpg" if suffix in images.SUFFIXES else ".mp4")


def _refuse_collisions(planned: list[tuple[Path, Path]]) -> None:
    sources: dict[Path, Path] = {}
    for source, output in planned:
        if output in sources:
            raise ConfigError(f"{sources[output]} and {source} would both become {output}; rename one or convert them one by one")
        sources[output] = source
