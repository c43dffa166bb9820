"""The machine that asks for the parts: connects to Ray, hands them out, takes them in, cleans up."""

from __future__ import annotations

import bisect
import contextlib
import os
import secrets
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cyclecast.cluster.part import VERSIONS, Asked, Made, Span, make_part
from cyclecast.cluster.room import ROOM, remove
from cyclecast.cluster.source import Source
from cyclecast.errors import CyclecastError, EngineError, EngineUnavailable, InputError
from cyclecast.files import write_error
from cyclecast.video.convert import pipeline
from cyclecast.video.convert.convert import PART_FRAMES, ConvertOptions, OnFrame
from cyclecast.video.convert.job import End, Job
from cyclecast.video.files.reader import TimeRange, VideoFile
from cyclecast.video.files.writer import Encoding, Part

CONNECT_SECONDS = 5.0
RETRIES = 3  # of a part whose worker died
WAITING = 2  # parts for each that is being made: enough to keep all busy, few enough that memory stays flat
WATCH_SECONDS = 10.0  # without a part, until it is asked whether there is still a machine
CLEAN_SECONDS = 10.0  # for the machines to remove what they were sent


class Cluster:
    """A connection to Ray: `convert_file` makes the parts of videos there. A context manager.

    address: of a running cluster, or "auto": the one that this machine belongs to, else one of this machine alone, for as long
    as this lasts. The rest as `cyclecast.load` takes it. EngineUnavailable if there is no cluster at the address.
    """

    def __init__(self, address: str, model: Path, engine: str = "auto", device: str = "auto", precision: str = "auto") -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._model, self._engine, self._device, self._precision = model, engine, device, precision
        self._room = f"{ROOM}{secrets.token_hex(8)}"
        self._open = contextlib.ExitStack()
        self._open.enter_context(contextlib.redirect_stdout(sys.stderr))  # what Ray says is no result
        try:
            with _kept_handler():
                _connect(address)
            self._open.callback(ray.shutdown)
            nodes = _nodes()
            if not nodes:
                raise ValueError("no machine of it has CPUs to work with")
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            self._open.close()
            raise EngineUnavailable(f"no Ray cluster at {address} ({str(error).splitlines()[0]})") from error
        fewest = min(node["Resources"]["CPU"] for node in nodes)
        self._cpus = max(1, int(fewest // 2))  # two parts at once fill the gaps that each leaves at its ends
        self._at_once = sum(int(node["Resources"]["CPU"] // self._cpus) for node in nodes)
        self.described = f"Ray, {len(nodes)} machine{'s' * (len(nodes) > 1)}, {self._at_once} parts at once"

    def __call__(
        self, video: VideoFile, window: TimeRange, options: ConvertOptions, encoding: Encoding, job: Job, on_frame: OnFrame | None
    ) -> pipeline.StageSeconds:
        """Makes every part that the job has not.

        InputError if the source cannot be read, has changed meanwhile, or its frames have no times of their own; EngineError if
        the machines fail; what `make_part` raises there.
        """
        source = Source(video.path)
        spans = list(_spans(video))
        todo = deque((index, span) for index, span in enumerate(spans) if not job.has(index))
        total = sum(span.packets for span in spans)
        work, notices = pipeline.StageSeconds(), []
        asked = self._asked(source, window, options, encoding)
        with contextlib.ExitStack() as ended:
            ended.callback(_remove_everywhere, asked.film)
            tasks = Tasks(asked, source, todo, self._cpus, WAITING * self._at_once)
            ended.callback(tasks.stop)
            for index, made in tasks:
                source.check()
                notices += [notice for notice in made.notices if notice not in notices]
                for stage, seconds in vars(made.stages).items():
                    setattr(work, stage, getattr(work, stage) + seconds)
                if made.part is not None:
                    _keep(job, index, made.data, made.part)
                if on_frame:
                    on_frame(job.frames, total)
        missing = total - job.frames
        job.close_source(End(notices, f"damaged: {missing} of {total} frames cannot be decoded" if missing > 0 else None))
        return work

    def _asked(self, source: Source, window: TimeRange, options: ConvertOptions, encoding: Encoding) -> Asked:
        return Asked(
            versions=VERSIONS,
            room=self._room,
            film=f"{self._room}/{secrets.token_hex(8)}",
            model=self._model.read_bytes(),
            suffix=self._model.suffix,
            engine=self._engine,
            device=self._device,
            precision=self._precision,
            source=os.path.abspath(source.path),
            mark=source.mark,
            blocks=None,
            window=window,
            work_height=options.work_height,
            encoding=encoding,
        )

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            _remove_everywhere(self._room)
        finally:
            self._open.close()


class Tasks:
    """The parts of a film as tasks: iterating gives each with its index, as they are done. Raises as `Cluster.__call__`.

    cpus: for each; most: tasks that Ray is given at a time. `stop` ends those that are still there.
    """

    def __init__(self, asked: Asked, source: Source, todo: deque[tuple[int, Span]], cpus: int, most: int) -> None:
        self._asked, self._source, self._todo, self._cpus, self._most = asked, source, todo, cpus, most
        self._wanted = {index for index, _ in todo}
        self._running: dict[Any, tuple[int, Span]] = {}
        self._part_of = ray.remote(num_cpus=cpus, max_retries=RETRIES)(make_part)
        self._sent = ray.put(asked)
        self._machines = self._machines_left()

    def __iter__(self) -> Iterator[tuple[int, Made]]:
        while self._wanted:
            self._start()
            for task in self._done():
                index, span = self._running.pop(task)
                if index not in self._wanted:
                    continue
                made = _got(task)
                if made is None:
                    self._todo.appendleft((index, span))
                    self._send_source()
                else:
                    self._wanted.remove(index)
                    yield index, made

    def _start(self) -> None:
        while self._todo and len(self._running) < self._most:
            index, span = self._todo.popleft()
            if index in self._wanted:
                self._running[self._part_of.remote(self._sent, span)] = index, span

    def _done(self) -> list[Any]:
        """The next, or none for a while."""
        done: list[Any] = ray.wait(list(self._running), num_returns=1, timeout=WATCH_SECONDS)[0]
        if not done:
            left = self._machines_left()
            if self._machines - left:  # Ray may wait for minutes for what a machine that fell silent was making
                self._todo.extend(self._running.values())
            self._machines = left
        return done

    def _machines_left(self) -> set[str]:
        """Those that can make a part. EngineError if there is none."""
        left = {node["NodeID"] for node in _nodes() if node["Resources"]["CPU"] >= self._cpus}
        if not left:
            raise EngineError("no machine of the cluster is left")
        return left

    def _send_source(self) -> None:
        if self._asked.blocks is None:
            self._asked = replace(self._asked, blocks=self._source.blocks())
            self._sent = ray.put(self._asked)

    def stop(self) -> None:
        """Ends what runs."""
        for task in self._running:
            ray.cancel(task, force=True)


def _connect(address: str) -> None:
    """OSError, RuntimeError, ValueError or RayError if there is nothing at this address."""
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address == "auto":
        try:
            ray.init(address="auto", **quiet)
        except ConnectionError:
            ray.init(include_dashboard=False, **quiet)
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError("an address is HOST:PORT")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS):  # Ray would go on trying
        pass
    ray.init(address=address, **quiet)


@contextlib.contextmanager
def _kept_handler() -> Iterator[None]:
    """Ray takes SIGTERM for itself; afterwards it is again what it was."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _nodes() -> list[dict[str, Any]]:
    """The machines that can work."""
    listed: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in listed if node["Alive"] and node["Resources"].get("CPU")]


def _remove_everywhere(folder: str) -> None:
    """Removes a folder of what was sent from each machine that answers in time."""
    with contextlib.suppress(ray.exceptions.RayError):
        remover = ray.remote(num_cpus=0, max_retries=0)(remove)
        there = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in _nodes()]
        tasks = [remover.options(scheduling_strategy=place).remote(folder) for place in there]
        ray.wait(tasks, num_returns=len(tasks), timeout=CLEAN_SECONDS)


def _keep(job: Job, index: int, data: bytes, part: Part) -> None:
    """Gives the job a part that has come. OutputError if it cannot be written."""
    path = job.open_path(index)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise write_error(error) from error
    job.close_part(index, replace(part, path=path), steady=False)


def _spans(video: VideoFile) -> Iterator[Span]:
    """As many packets in each as a part has frames, by the order in which they are shown."""
    shown = video.times()
    if not all(one < other for one, other in zip(shown, shown[1:], strict=False)):
        raise InputError(f"{video.path}: its frames have no times of their own; convert it without --cluster")
    firsts = shown[::PART_FRAMES]
    for number, first in enumerate(firsts):
        end = firsts[number + 1] if number + 1 < len(firsts) else None
        yield Span(first, end, len(shown) - bisect.bisect_left(shown, first) if end is None else PART_FRAMES)


def _got(task: Any) -> Made | None:
    """What the task returned or, if it is one of ours, raised; EngineError for Ray's own."""
    try:
        made = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CyclecastError):
            raise error.cause from error
        if isinstance(error.cause, ray.exceptions.RayError):
            raise EngineError(f"a machine of the cluster failed: {str(error.cause).splitlines()[0]}") from error
        raise
    except ray.exceptions.RayError as error:
        raise EngineError(f"a part was given up after {RETRIES} more tries: {str(error).splitlines()[0]}") from error
    assert made is None or isinstance(made, Made)
    return made
