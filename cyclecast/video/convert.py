"""The batch job: which file goes where, and one file after the other through a function, whole or not at all."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cyclecast.errors import ConfigError, InputError, OutputError
from cyclecast.files import appearing
from cyclecast.video import images, pipeline
from cyclecast.video.frame import Frame, FrameFunction, Image
from cyclecast.video.sinks.file import CONTAINERS, VideoWriter
from cyclecast.video.sources.file import VideoFile

VIDEO_SUFFIXES = frozenset(CONTAINERS) | {
    ".avi",
    ".gif",
    ".ts",
    ".m2ts",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".flv",
    ".ogv",
    ".3gp",
}

OnFrame = Callable[[int, "int | None"], None]
"""Told how many frames are done, and how many there should be (None: nobody knows)."""


@dataclass(frozen=True)
class ConversionReport:
    """What became of one file."""

    source: str
    output: str
    frames: int
    seconds: float
    fps: float
    width: int
    height: int
    audio: str
    """copied or none."""
    dropped: list[str]
    """What the output has not from the source, in words."""
    damage: str | None
    """What of the source could not be decoded, in words; the rest is in the output."""
    resumed_frames: int
    """Frames taken over from an earlier run that was cut short."""
    stages_ms: dict[str, float]
    """decode, model, encode: work per frame, waiting left out."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """How a file is written; None leaves it to the container and the encoder."""

    codec: str | None = None
    """h264, hevc, av1 or vp9."""
    crf: int | None = None
    """The encoder's quality scale, lower is better."""
    preset: str | None = None
    """The encoder's own name for how hard it tries."""
    audio: bool = True
    """Copy the sound."""
    work_height: int | None = None
    """Run the function at this height, deliver at the source's size."""
    overwrite: bool = False
    """Replace an output that exists."""

    def __post_init__(self) -> None:
        if self.work_height is not None and self.work_height < 16:
            raise ConfigError(f"work_height must be at least 16, got {self.work_height}")


def plan(sources: Sequence[str | Path], output: str | Path) -> list[tuple[Path, Path]]:
    """(source, output) of each file. Globs and folders are unrolled, a folder's tree is mirrored under `output`.

    One file goes to `output` itself, unless that is a folder (or ends in a separator); several need a folder. What lies
    under `output` is no source. InputError for a source that matches nothing, ConfigError for several sources and an
    output that names a file.
    """
    found: list[tuple[Path, Path]] = []  # file, its place under an output folder
    unrolled, target = False, Path(output)
    for source in map(str, sources):
        path = Path(source)
        if os.path.isdir(path):
            unrolled = True
            inside = [p for p in sorted(path.rglob("*")) if _is_convertible(p) and not _is_under(p, target)]
            if not inside:
                raise InputError(f"{source}: no images or videos in this folder")
            found += [(p, p.relative_to(path)) for p in inside]
        elif glob.has_magic(source) and not os.path.exists(path):
            unrolled = True
            matches = [Path(match) for match in sorted(glob.glob(source, recursive=True)) if os.path.isfile(match)]
            if not matches:
                raise InputError(f"{source}: matches no file")
            found += [(p, Path(p.name)) for p in matches]
        else:
            found.append((path, Path(path.name)))
    is_folder = os.path.isdir(target) or str(output).endswith(("/", os.sep))
    if not is_folder and len(found) == 1 and not unrolled:
        return [(found[0][0], target)]
    if not is_folder and target.suffix.lower() in images.SUFFIXES | frozenset(CONTAINERS):
        raise ConfigError(f"several files cannot go into the one file {output}; name a folder")
    planned = [(source, target / _output_name(place)) for source, place in found]
    _refuse_collisions(planned)
    return planned


def _is_convertible(path: Path) -> bool:
    return path.suffix.lower() in images.SUFFIXES | VIDEO_SUFFIXES and path.is_file()


def _is_under(path: Path, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def _output_name(place: Path) -> Path:
    writable = images.SUFFIXES | frozenset(CONTAINERS)
    return place if place.suffix.lower() in writable else place.with_suffix(".mp4")


def _refuse_collisions(planned: list[tuple[Path, Path]]) -> None:
    taken: dict[Path, Path] = {}
    for source, output in planned:
        if output in taken:
            raise ConfigError(f"{taken[output]} and {source} would both become {output}")
        taken[output] = source


def convert_file(
    source: Path,
    output: Path,
    function: FrameFunction,
    options: ConvertOptions | None = None,
    on_frame: OnFrame | None = None,
) -> ConversionReport:
    """One video or image through `function`. The output appears under its name when it is whole, or not at all.

    InputError if the source cannot be read, OutputError if the output exists or cannot be written; what `function` raises.
    """
    options = options or ConvertOptions()
    convert = convert_image if source.suffix.lower() in images.SUFFIXES else convert_video
    if os.path.isdir(source):
        raise InputError(f"{source}: is a folder")
    if not os.path.exists(source):
        raise InputError(f"{source}: no such file")
    if os.path.exists(output) and os.path.samefile(source, output):
        raise OutputError(f"{output}: is the source itself")
    with appearing(output, options.overwrite) as partial:
        return convert(source, output, partial, function, options, on_frame)


def convert_video(
    source: Path,
    output: Path,
    partial: Path,
    function: FrameFunction,
    options: ConvertOptions,
    on_frame: OnFrame | None,
) -> ConversionReport:
    """Decode, model and encode side by side; each frame keeps its time, the sound is copied."""
    started = time.perf_counter()
    with VideoFile(source) as video:
        info = video.info
        width, height = _work_size(info.width, info.height, options.work_height)
        function.prepare(width, height)

        def style(frame: Frame) -> Frame:
            return Frame(_styled(frame.image, function, options.work_height), frame.pts, frame.duration)

        with VideoWriter(
            partial,
            info,
            codec=options.codec,
            crf=options.crf,
            preset=options.preset,
            sound_of=source if options.audio else None,
        ) as writer:
            work = pipeline.run(
                iter(video), style, writer.write, (lambda done: on_frame(done, info.frames)) if on_frame else None
            )
    seconds = time.perf_counter() - started
    return ConversionReport(
        source=str(source),
        output=str(output),
        frames=writer.frames,
        seconds=round(seconds, 3),
        fps=round(writer.frames / seconds, 2),
        width=info.width,
        height=info.height,
        audio=writer.sound,
        dropped=writer.dropped,
        damage=video.damage,
        resumed_frames=0,
        stages_ms=_per_frame(work, writer.frames),
    )


def convert_image(
    source: Path,
    output: Path,
    partial: Path,
    function: FrameFunction,
    options: ConvertOptions,
    on_frame: OnFrame | None,
) -> ConversionReport:
    """The same for a picture; it counts as one frame."""
    started = time.perf_counter()
    image = images.read_image(source)
    decoded = time.perf_counter()
    styled = _styled(image, function, options.work_height)
    modelled = time.perf_counter()
    images.write_image(partial, styled)
    ended = time.perf_counter()
    if on_frame:
        on_frame(1, 1)
    return ConversionReport(
        source=str(source),
        output=str(output),
        frames=1,
        seconds=round(ended - started, 3),
        fps=round(1 / (ended - started), 2),
        width=image.shape[1],
        height=image.shape[0],
        audio="none",
        dropped=[],
        damage=None,
        resumed_frames=0,
        stages_ms=_per_frame(pipeline.StageSeconds(decoded - started, modelled - decoded, ended - modelled), 1),
    )


def _per_frame(work: pipeline.StageSeconds, frames: int) -> dict[str, float]:
    return {name: round(1000 * seconds / max(frames, 1), 3) for name, seconds in vars(work).items()}


def _work_size(width: int, height: int, work_height: int | None) -> tuple[int, int]:
    return (width, height) if work_height is None else (max(16, round(width * work_height / height)), work_height)


def _styled(image: Image, function: FrameFunction, work_height: int | None) -> Image:
    height, width = image.shape[:2]
    size = _work_size(width, height, work_height)
    if size == (width, height):
        return function(image)
    shrink = cv2.INTER_AREA if size[1] < height else cv2.INTER_CUBIC
    styled = function(np.asarray(cv2.resize(image, size, interpolation=shrink), np.uint8))
    return np.asarray(cv2.resize(styled, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
