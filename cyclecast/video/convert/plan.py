"""Which files a batch converts, and where each output goes."""

from __future__ import annotations

import glob
import logging
import mimetypes
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from cyclecast.errors import ConfigError, InputError
from cyclecast.files import is_hidden, read_error
from cyclecast.image_formats import FORMATS, RAW_SUFFIXES, describe_unreadable, keep_readable
from cyclecast.phrases import count_noun
from cyclecast.video.convert.containers import GIF
from cyclecast.video.files import images
from cyclecast.video.files.opening import VIDEO_SUFFIXES
from cyclecast.video.files.writer import CONTAINERS

WRITABLE = frozenset({*FORMATS, *CONTAINERS, GIF})
READABLE = WRITABLE | images.SUFFIXES | VIDEO_SUFFIXES

log = logging.getLogger(__name__)


def plan_conversions(sources: Sequence[str | Path], output: str | Path) -> list[tuple[Path, Path]]:
    """Returns (source, output) of each file. Globs and folders are expanded; a folder's tree is mirrored under `output`.

    One file goes to `output` itself, unless that is a folder or ends in a separator; several files need a folder. A folder or a
    glob excludes hidden files, files in hidden folders or `SYSTEM_FOLDERS`, and files under `output`. A folder below it that
    cannot be read is planned like a file, so that it is an error of the batch. Raises ConfigError for an empty name, if several
    sources would become one file, or if all files of a source lie under the output folder; InputError for a source that matches
    nothing.
    """
    if not str(output):
        raise ConfigError("OUTPUT is empty; name a file or a folder")
    files: list[tuple[Path, Path]] = []  # a file, its path under the output folder
    has_expanded, target = False, Path(output)
    for source in map(str, sources):
        if not source:
            raise ConfigError("a SOURCE is empty; name a file, a folder or a glob")
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
    planned = [(file, target / name) for (file, _), name in zip(files, _output_names([place for _, place in files]), strict=True)]
    if all(_is_same(file, place) for file, place in planned):
        raise ConfigError(f"{output}: the output folder is the source folder; name another one, such as {_another(target)}")
    _refuse_collisions(planned)
    return planned


def _files_in_folder(folder: Path, output: Path) -> list[Path]:
    """Returns the images and videos in a folder and the folders below it, and the folders that cannot be read."""
    if _is_same(folder, output):
        raise ConfigError(f"{output}: the output folder is the source folder; name another one, such as {_another(output)}")
    listed = sorted(path for path in _walk(folder) if not is_hidden(path.relative_to(folder)))
    convertible = [path for path in listed if path.suffix.lower() in READABLE or os.path.isdir(path)]
    found = keep_readable(folder, convertible)
    others = _describe_undecodable(set(listed).difference(convertible))
    if not found:
        skipped = "; ".join(filter(None, (describe_unreadable(convertible), others)))
        raise InputError(f"{folder}: no images or videos in this folder{f' ({skipped})' if skipped else ''}")
    if others:
        log.warning("%s: %s", folder, others)
    return _outside(found, str(folder), output)


def _walk(folder: Path) -> Iterator[Path]:
    """Yields all files below the folder, and the folders that cannot be read. Raises InputError if `folder` is one of them."""
    unreadable: list[Path] = []

    def note(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise read_error(error, folder) from error
        unreadable.append(Path(error.filename))

    for root, _, names in os.walk(folder, onerror=note):
        yield from (Path(root, name) for name in names)
    yield from unreadable


def _describe_undecodable(paths: set[Path]) -> str | None:
    """Describes the images and videos among these files: "2 .dng files skipped: no decoder for them here"; None if none are."""
    suffixes = Counter(path.suffix.lower() for path in paths if _is_media(path))
    phrases = [count_noun(count, f"{suffix} file") for suffix, count in sorted(suffixes.items())]
    return f"{', '.join(phrases)} skipped: no decoder for them here" if phrases else None


def _is_media(path: Path) -> bool:
    """Returns whether the name is that of an image or a video."""
    media_type = mimetypes.guess_type(path.name)[0] or ""
    return path.suffix.lower() in RAW_SUFFIXES or media_type.startswith(("image/", "video/"))


def _files_of_glob(pattern: str, output: Path) -> list[Path]:
    """Returns the files that a glob matches. Leading folders that exist are taken literally, whatever characters they contain."""
    parts = Path(pattern).parts
    fixed = next(Path(*parts[:count]) for count in range(len(parts) - 1, -1, -1) if os.path.isdir(Path(*parts[:count])))
    matches = [Path(match) for match in glob.glob(str(Path(*parts[len(fixed.parts) :])), root_dir=fixed, recursive=True)]
    found = sorted(fixed / match for match in matches if not is_hidden(Path(match)) and not os.path.isdir(fixed / match))
    if not found:
        raise InputError(f"{pattern}: matches no file")
    return _outside(found, pattern, output)


def _outside(found: list[Path], source: str, output: Path) -> list[Path]:
    """Leaves out the outputs of an earlier run. Raises ConfigError if nothing remains."""
    outside = [path for path in found if not _is_under(path, output)]
    if not outside:
        raise ConfigError(
            f"{source}: all files lie in the output folder {output}; name an output folder outside, such as {_another(output)}"
        )
    return outside


def _is_same(one: Path, other: Path) -> bool:
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def _another(folder: Path) -> Path:
    """Returns a folder beside this one, to suggest."""
    named = folder if folder.name not in ("", "..") else Path(os.path.abspath(folder))
    return named.with_name(f"{named.name}-styled") if named.name else Path("styled")


def _is_under(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(folder))


def _output_names(places: list[Path]) -> list[Path]:
    """Returns the path of each output under the output folder.

    If files of several formats would become one, also on a case-insensitive disk, those that change their format keep the
    old suffix in their name: clip.avi beside clip.mp4 becomes clip.avi.mp4.
    """
    names = [_output_name(place) for place in places]
    same: dict[str, set[Path]] = defaultdict(set)
    for place, name in zip(places, names, strict=True):
        same[str(name).casefold()].add(place)
    return [
        name if name == place or len(same[str(name).casefold()]) == 1 else place.with_name(place.name + name.suffix)
        for place, name in zip(places, names, strict=True)
    ]


def _output_name(place: Path) -> Path:
    suffix = place.suffix.lower()
    return place if suffix in WRITABLE else place.with_suffix(".jpg" if suffix in images.SUFFIXES else ".mp4")


def _refuse_collisions(planned: list[tuple[Path, Path]]) -> None:
    sources: dict[Path, Path] = {}
    for source, output in planned:
        if output in sources:
            raise ConfigError(f"{sources[output]} and {source} would both become {output}; rename one or convert them one by one")
        sources[output] = source
