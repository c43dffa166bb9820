"""What a worker does: it converts one part of a video and returns it."""

from __future__ import annotations

import contextlib
import itertools
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import ray

import cyclecast
from cyclecast.cluster.scratch import scratch_folder, write_once
from cyclecast.errors import CyclecastError, EngineError, OutputError
from cyclecast.files import digest_of_ends
from cyclecast.runtime.model import Model, bundled_models
from cyclecast.video.convert.pipeline import StageSeconds
from cyclecast.video.convert.styling import style_frames
from cyclecast.video.files.encoding import Encoding
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.files.time_range import ResumePoint, TimeRange
from cyclecast.video.files.writer import Part, VideoWriter
from cyclecast.video.frame import Frame

VERSIONS = f"cyclecast {cyclecast.__version__} and PyAV {av.__version__}"  # all machines need the same


@dataclass(frozen=True)
class PartRequest:
    """What all parts of a video have in common; sent once."""

    versions: str
    run_folder: str
    """The run's scratch folder, in the machine's folder of temporary files."""
    video_folder: str
    """The folder in it for this video."""
    model: bytes
    suffix: str
    """Of the model's file."""
    engine: str
    device: str
    precision: str
    threads: int | None
    source: str
    digest: str
    """The source's `digest_of_ends`."""
    blocks: list[Any] | None
    """References to the source's blocks; None until a machine has needed them."""
    time_range: TimeRange
    deinterlace: bool
    work_height: int | None
    strength: float
    encoding: Encoding
    alpha_notice: str | None
    """As `VideoFile.alpha_notice`."""


@dataclass(frozen=True)
class PartResult:
    """A part as a worker returns it."""

    data: bytes
    part: Part | None
    """Its path is the worker's; None: no frame of the part can be decoded."""
    notices: list[str]
    stages: StageSeconds


@dataclass(frozen=True)
class Span:
    """The frames of a part: those with first <= pts < end, in ticks of the output's clock; end None: to the last one."""

    first: int
    end: int | None
    packets: int


def make_part(request: PartRequest, span: Span) -> PartResult | None:
    """Runs on a worker: converts one part. None if this machine lacks the source and the request has no blocks of it.

    Raises EngineError if this machine has other versions; OutputError if it cannot store what it receives; and whatever a
    conversion raises.
    """
    host = socket.gethostname()
    if request.versions != VERSIONS:
        raise EngineError(f"{host} has {VERSIONS}, this machine {request.versions}; install the same versions on all machines")
    try:
        folder = scratch_folder(request.run_folder) / Path(request.video_folder).name
        folder.mkdir(exist_ok=True)
        source = _find_source(request, folder)
        if source is None:
            return None
        model = _load_model(request)
        part_folder = tempfile.TemporaryDirectory(dir=folder)
    except CyclecastError:  # some of them are OSErrors, too
        raise
    except OSError as error:
        raise OutputError(f"{host}: the model and the source cannot be stored there ({error.strerror})") from error
    with part_folder as name:
        return _convert_part(request, span, source, model, Path(name) / f"part{request.encoding.part_suffix}")


def _convert_part(request: PartRequest, span: Span, source: Path, model: Model, path: Path) -> PartResult:
    """Converts the part into a file at `path`."""
    with VideoFile(source, request.time_range, deinterlace=request.deinterlace) as video:
        video.alpha_notice = request.alpha_notice
        video.resume_at(ResumePoint(1, span.first - 1, sequential=True))
        frames = _frames_before(span.end, video)
        first = next(frames, None)
        if first is None:
            return PartResult(b"", None, video.notices, StageSeconds())
        with VideoWriter(path, video.info, request.encoding, first=first.pts, is_part=True) as writer:
            frames = itertools.chain([first], frames)
            stages = style_frames(frames, model, request.work_height, request.strength, writer.write)
        return PartResult(path.read_bytes(), writer.part(), video.notices, stages)


def _frames_before(end: int | None, video: VideoFile) -> Iterator[Frame]:
    for frame in video:
        if end is not None and frame.pts >= end:
            return
        yield frame


_models: dict[str, Model] = {}  # of this process, by the run's folder


def _load_model(request: PartRequest) -> Model:
    """Returns the model. Opens it once in each worker."""
    if request.run_folder not in _models:
        path = write_once(scratch_folder(request.run_folder) / f"model{request.suffix}", [request.model])
        # A bundled model is opened from its own place, where its int8 file is.
        path = next((own for own in bundled_models().values() if own.read_bytes() == request.model), path)
        _models[request.run_folder] = cyclecast.load(
            path, request.engine, request.device, request.precision, threads=request.threads
        )
    return _models[request.run_folder]


def _find_source(request: PartRequest, folder: Path) -> Path | None:
    """Returns the source if this machine has it under the same path, else a copy, fetched once; None if there are no blocks."""
    path = Path(request.source)
    with contextlib.suppress(OSError):  # a file that cannot be read is as good as absent
        if digest_of_ends(path) == request.digest:
            return path
    if request.blocks is None:
        return None
    return write_once(folder / f"source{path.suffix}", map(ray.get, request.blocks))
