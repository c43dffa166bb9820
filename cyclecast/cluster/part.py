"""One part of a film, made by a worker: what it is asked, what it gives back."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import ray

import cyclecast
from cyclecast.cluster.room import room_of, written_once
from cyclecast.errors import CyclecastError, EngineError, OutputError
from cyclecast.files import digest_of_ends
from cyclecast.runtime.model import Model
from cyclecast.video.convert import pipeline
from cyclecast.video.convert.convert import style
from cyclecast.video.files.reader import ResumePoint, TimeRange, VideoFile
from cyclecast.video.files.writer import Encoding, Part, VideoWriter
from cyclecast.video.frame import Frame

VERSIONS = f"cyclecast {cyclecast.__version__} and PyAV {av.__version__}"  # what machines must have alike


@dataclass(frozen=True)
class Asked:
    """What is the same for all parts of a film; sent once."""

    versions: str
    room: str
    """A path in the machine's folder of temporary files: of what the run sends there."""
    film: str
    """The same in the room: of what belongs to this film."""
    model: bytes
    suffix: str
    engine: str
    device: str
    precision: str
    source: str
    mark: str
    """By which the source is known, as `digest_of_ends`."""
    blocks: list[Any] | None
    """The source itself, as references; None until a machine has needed it."""
    window: TimeRange
    work_height: int | None
    encoding: Encoding


@dataclass(frozen=True)
class Made:
    """A part as it comes back."""

    data: bytes
    part: Part | None
    """Its path is the worker's; None: no frame of it can be decoded."""
    notices: list[str]
    stages: pipeline.StageSeconds


@dataclass(frozen=True)
class Span:
    """The frames of a part: those with first <= pts < end, on the output's clock."""

    first: int
    end: int | None
    packets: int


def make_part(asked: Asked, span: Span) -> Made | None:
    """On a worker: one part of the film; None: this machine has not the source, and it was not sent.

    EngineError if this machine has other versions, OutputError if it has no place for what it is sent; what a conversion raises.
    """
    if asked.versions != VERSIONS:
        raise EngineError(f"{socket.gethostname()} has {VERSIONS}, not {asked.versions}; machines of a cluster need the same")
    try:
        film = room_of(asked.room) / Path(asked.film).name
        film.mkdir(exist_ok=True)
        source = _source(asked, film)
        if source is None:
            return None
        model = _opened(asked)
        folder = tempfile.TemporaryDirectory(dir=film)
    except CyclecastError:  # some of them are OSErrors, too
        raise
    except OSError as error:
        raise OutputError(f"{socket.gethostname()}: what it is sent cannot be written ({error.strerror})") from error
    with folder as name:
        return _part(asked, span, source, model, Path(name) / "part.mp4")


def _part(asked: Asked, span: Span, source: Path, model: Model, path: Path) -> Made:
    """The part, by way of a file at `path`."""
    with VideoFile(source, asked.window) as video:
        video.resume_at(ResumePoint(1, span.first - 1, sequential=True))
        frames = iter(_until(span.end, video))
        first = next(frames, None)
        if first is None:
            return Made(b"", None, video.notices, pipeline.StageSeconds())
        with VideoWriter(path, video.info, asked.encoding, first=first.pts) as writer:
            whole = _chained(first, frames)
            stages = pipeline.run(whole, lambda frame: style(frame, model, asked.work_height), writer.write)
        return Made(path.read_bytes(), writer.part(), video.notices, stages)


def _until(end: int | None, video: VideoFile) -> Iterator[Frame]:
    for frame in video:
        if end is not None and frame.pts >= end:
            return
        yield frame


def _chained(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from rest


_models: dict[str, Model] = {}  # of this process, by their rooms


def _opened(asked: Asked) -> Model:
    """The model, once for each worker."""
    if asked.room not in _models:
        path = written_once(room_of(asked.room) / f"model{asked.suffix}", [asked.model])
        _models[asked.room] = cyclecast.load(path, asked.engine, asked.device, asked.precision)
    return _models[asked.room]


def _source(asked: Asked, film: Path) -> Path | None:
    """The source where this machine has it under the same name, else a copy, fetched once; None if it was not sent."""
    path = Path(asked.source)
    with contextlib.suppress(OSError):  # a machine that may not read it has it not
        if digest_of_ends(path) == asked.mark:
            return path
    if asked.blocks is None:
        return None
    return written_once(film / f"source{path.suffix}", map(ray.get, asked.blocks))
