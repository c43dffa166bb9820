"""The parts of a film on several machines, as tasks of Ray, which finds workers for them and repeats those of workers that die.

A task decodes, converts and encodes one part as `convert` would, and sends it back; the driver keeps the list, so that an
interrupted run goes on behind what is done. Every worker opens the model once, from bytes that were sent once.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import ray

import cyclecast
from cyclecast.errors import CyclecastError, EngineError, EngineUnavailable, InputError
from cyclecast.runtime.model import Model
from cyclecast.video import pipeline
from cyclecast.video.convert import PART_FRAMES, ConvertOptions, OnFrame, style
from cyclecast.video.frame import Frame
from cyclecast.video.job import End, Job
from cyclecast.video.sinks.file import Encoding, Part, VideoWriter
from cyclecast.video.sources.file import Place, VideoFile, Window

CONNECT_SECONDS = 5.0
RETRIES = 3  # of a part whose worker died
BLOCK = 32 << 20  # bytes of a source that is sent to machines which do not have it
WAITING = 2  # parts for each that is being made: enough to keep all busy, few enough that memory stays flat


@dataclass(frozen=True)
class Asked:
    """What is the same for all parts of a film; sent once."""

    model: bytes
    suffix: str
    engine: str
    device: str
    precision: str
    source: str
    size: int
    """Of the source in bytes."""
    blocks: list[Any]
    """The source itself, as references, where the cluster has more than one machine."""
    window: Window
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


class Cluster:
    """A connection to Ray: `convert_file` makes the parts of videos there. A context manager.

    address: of a running cluster, or "auto": the one that this machine belongs to, else one of this machine alone, for as long
    as this lasts. The rest as `cyclecast.load` takes it. EngineUnavailable if there is no cluster at the address.
    """

    def __init__(self, address: str, model: Path, engine: str = "auto", device: str = "auto", precision: str = "auto") -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._model, self._engine, self._device, self._precision = model, engine, device, precision
        self._open = contextlib.ExitStack()
        self._open.enter_context(contextlib.redirect_stdout(sys.stderr))  # what Ray says is no result
        try:
            _connect(address)
            self._open.callback(ray.shutdown)
        except (OSError, RuntimeError, ValueError) as error:
            self._open.close()
            raise EngineUnavailable(f"no Ray cluster at {address} ({str(error).splitlines()[0]})") from error
        listed: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        nodes = [node for node in listed if node["Alive"] and node["Resources"].get("CPU")]
        fewest = min(node["Resources"]["CPU"] for node in nodes)
        self._cpus = max(1, int(fewest // 2))  # two parts at once fill the gaps that each leaves at its ends
        self._at_once = sum(int(node["Resources"]["CPU"] // self._cpus) for node in nodes)
        self._machines = len(nodes)
        self.described = f"Ray, {self._machines} machine{'s' * (self._machines > 1)}, {self._at_once} parts at once"

    def __call__(
        self, video: VideoFile, window: Window, options: ConvertOptions, encoding: Encoding, job: Job, on_frame: OnFrame | None
    ) -> pipeline.StageSeconds:
        """Makes every part that the job has not. InputError if the frames of the film have no times of their own."""
        spans = list(_spans(video))
        total = sum(span.packets for span in spans)
        made_of = ray.put(self._asked(video, window, options, encoding))
        part_of = ray.remote(num_cpus=self._cpus, max_retries=RETRIES)(make_part)
        todo = iter([(index, span) for index, span in enumerate(spans) if not job.has(index)])
        running: dict[Any, int] = {}
        work, notices = pipeline.StageSeconds(), []
        try:
            while True:
                while len(running) < WAITING * self._at_once and (new := next(todo, None)):
                    running[part_of.remote(made_of, new[1])] = new[0]
                if not running:
                    break
                (done, *_), _ = ray.wait(list(running), num_returns=1)
                index, made = running.pop(done), _got(done)
                notices += [notice for notice in made.notices if notice not in notices]
                for stage, seconds in vars(made.stages).items():
                    setattr(work, stage, getattr(work, stage) + seconds)
                if made.part is not None:
                    path = job.open_path(index)
                    path.write_bytes(made.data)
                    job.close_part(index, replace(made.part, path=path), steady=False)
                if on_frame:
                    on_frame(job.frames, total)
        finally:
            for task in running:
                ray.cancel(task, force=True)
        missing = total - job.frames
        job.close_source(End(notices, f"damaged: {missing} of {total} frames cannot be decoded" if missing > 0 else None))
        return work

    def _asked(self, video: VideoFile, window: Window, options: ConvertOptions, encoding: Encoding) -> Asked:
        blocks = []
        if self._machines > 1:
            with open(video.path, "rb") as file:
                while block := file.read(BLOCK):
                    blocks.append(ray.put(block))
        return Asked(
            model=self._model.read_bytes(),
            suffix=self._model.suffix,
            engine=self._engine,
            device=self._device,
            precision=self._precision,
            source=os.path.abspath(video.path),
            size=os.path.getsize(video.path),
            blocks=blocks,
            window=window,
            work_height=options.work_height,
            encoding=encoding,
        )

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()


def _connect(address: str) -> None:
    """OSError, RuntimeError or ValueError if there is nothing at this address."""
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address == "auto":
        try:
            ray.init(address="auto", **quiet)
        except ConnectionError:
            ray.init(include_dashboard=False, **quiet)
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS):  # Ray would go on trying
        pass
    ray.init(address=address, **quiet)


@dataclass(frozen=True)
class Span:
    """The frames of a part: those with first <= pts < end, on the output's clock."""

    first: int
    end: int | None
    packets: int


def _spans(video: VideoFile) -> Iterator[Span]:
    """As many packets in each as a part has frames, by the order in which they are shown."""
    shown = video.times()
    if not all(one < other for one, other in zip(shown, shown[1:], strict=False)):
        raise InputError(f"{video.path}: its frames have no times of their own; convert it without --cluster")
    firsts = shown[::PART_FRAMES]
    for number, first in enumerate(firsts):
        end = firsts[number + 1] if number + 1 < len(firsts) else None
        yield Span(first, end, len(shown) - bisect.bisect_left(shown, first) if end is None else PART_FRAMES)


def _got(task: Any) -> Made:
    """What the task returned or raised."""
    try:
        made = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CyclecastError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        raise EngineError(f"a part was given up after {RETRIES} more tries: {str(error).splitlines()[0]}") from error
    assert isinstance(made, Made)
    return made


def make_part(asked: Asked, span: Span) -> Made:
    """On a worker: one part of the film."""
    model = _opened(asked.model, asked.suffix, asked.engine, asked.device, asked.precision)
    source = _source(asked)
    with tempfile.TemporaryDirectory() as folder, VideoFile(source, asked.window) as video:
        video.go_on(Place(1, span.first - 1, steady=True))
        frames = iter(_until(span.end, video))
        writer = None
        stages = pipeline.StageSeconds()
        first = next(frames, None)
        if first is not None:
            path = Path(folder) / "part.mp4"
            with VideoWriter(path, video.info, asked.encoding, first=first.pts) as writer:
                whole = _chained(first, frames)
                stages = pipeline.run(whole, lambda frame: style(frame, model, asked.work_height), writer.write)
            return Made(path.read_bytes(), writer.part(), video.notices, stages)
        return Made(b"", None, video.notices, stages)


def _until(end: int | None, video: VideoFile) -> Iterator[Frame]:
    for frame in video:
        if end is not None and frame.pts >= end:
            return
        yield frame


def _chained(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from rest


@lru_cache(maxsize=1)
def _opened(model: bytes, suffix: str, engine: str, device: str, precision: str) -> Model:
    """The model, once for each worker."""
    path = Path(tempfile.mkdtemp(prefix="cyclecast-")) / f"model{suffix}"
    path.write_bytes(model)
    return cyclecast.load(path, engine, device, precision)


def _source(asked: Asked) -> Path:
    """The source where this machine has it under the same name, else a copy, fetched once for each machine."""
    path = Path(asked.source)
    if path.is_file() and path.stat().st_size == asked.size:
        return path
    if not asked.blocks:
        raise InputError(f"{path}: is not on this machine of the cluster")
    name = hashlib.sha256(repr(asked.blocks).encode()).hexdigest()[:32]
    copy = Path(tempfile.gettempdir()) / f"cyclecast-{name}{path.suffix}"
    if not copy.exists():
        with tempfile.NamedTemporaryFile(dir=copy.parent, delete=False) as file:
            for block in asked.blocks:
                file.write(ray.get(block))
        os.replace(file.name, copy)
    return copy
