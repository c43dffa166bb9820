"""The demo: a clip rendered in code goes through a model, so that `convert` can be tried without footage."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

import cyclecast
from cyclecast.files import atomic_write, check_output
from cyclecast.runtime.model import Model
from cyclecast.video.convert.callbacks import OnFrame
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.convert.report import ConversionReport
from cyclecast.video.files.images import write_image
from cyclecast.video.files.muxer import assemble
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.files.side_streams import SideStreams
from cyclecast.video.files.time_range import TimeRange
from cyclecast.video.files.writer import VideoWriter
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene, write_sound


@dataclass(frozen=True)
class DemoResult:
    """The files of a demo, and the report of the conversion."""

    clip: Path
    styled: Path
    before_after: Path
    report: ConversionReport


def run_demo(
    folder: Path,
    model: Model,
    *,
    seconds: float = 4.0,
    work_height: int | None = None,
    strength: float = 1.0,
    overwrite: bool = False,
    on_render: OnFrame | None = None,
    on_convert: OnFrame | None = None,
) -> DemoResult:
    """Renders lake.mp4, converts it to lake-MODEL.mp4, and writes a frame of each side by side to before-after.jpg.

    work_height, strength: as in `ConvertOptions`. Raises ConfigError if one of these is invalid, and OutputError if one of the
    three files exists, unless `overwrite`, or if the folder cannot be written.
    """
    options = ConvertOptions(work_height=work_height, strength=strength, overwrite=overwrite)
    clip, styled, before_after = folder / "lake.mp4", folder / f"lake-{model.name}.mp4", folder / "before-after.jpg"
    for path in (styled, before_after):  # before any work; the clip is checked when it is written
        check_output(path, overwrite)
    with atomic_write(clip, overwrite) as partial:
        render_scene(partial, Scene(seconds=seconds), on_render)
    report = cyclecast.convert(clip, styled, model, options, on_convert)
    middle = report.frames // 2
    with atomic_write(before_after, overwrite) as partial:
        write_image(partial, np.concatenate([_read_frame(clip, middle), _read_frame(styled, middle)], axis=1))
    return DemoResult(clip, styled, before_after, report)


def render_scene(path: Path, scene: Scene, on_frame: OnFrame | None = None) -> None:
    """Renders the scene to an H.264 video with AAC sound."""
    total = scene.info.frames or 0
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "sound.m4a"
        write_sound(sound, float(total / scene.info.rate))
        with VideoWriter(Path(folder) / "video.mp4", scene.info) as writer:
            for frame in scene:
                writer.write(frame)
                if on_frame:
                    on_frame(writer.frames, total)
        with SideStreams(sound, Fraction(0), TimeRange(), path.suffix) as side_streams:
            assemble([writer.part()], scene.info, path, side_streams)


def _read_frame(path: Path, index: int) -> Image:
    with VideoFile(path) as video:
        return next(frame.image for number, frame in enumerate(video) if number == index)
