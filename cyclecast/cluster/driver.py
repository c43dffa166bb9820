"""Connects to Ray, hands out the parts of a video, collects them, and removes what was sent."""

from __future__ import annotations

import bisect
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cyclecast.cluster.scratch import SCRATCH_PREFIX, remove_folder
from cyclecast.cluster.source import SourceFile
from cyclecast.cluster.tasks import PartTasks, alive_nodes
from cyclecast.cluster.worker import VERSIONS, PartRequest, Span
from cyclecast.errors import EngineUnavailable, InputError
from cyclecast.video.convert.callbacks import OnFrame
from cyclecast.video.convert.job import Job, SourceEnd
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.convert.parts import PART_FRAMES
from cyclecast.video.convert.pipeline import StageSeconds
from cyclecast.video.files.encoding import Encoding
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.files.time_range import TimeRange

CONNECT_TIMEOUT_S = 5.0
QUEUED_PER_WORKER = 2  # parts given to Ray for each that is converted: all stay busy, and memory stays flat
CLEANUP_TIMEOUT_S = 10.0  # for the machines to remove what they were sent

log = logging.getLogger(__name__)


class Cluster:
    """A connection to Ray, and a `PartMaker` that converts videos there. A context manager.

    address: HOST:PORT of a running cluster, or "auto": the cluster that this machine belongs to, otherwise a temporary one on
    this machine. The other arguments: as in `cyclecast.load`. Raises EngineUnavailable if there is no cluster at the address.
    """

    def __init__(
        self,
        address: str,
        model: Path,
        engine: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
    ) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._model, self._engine, self._device, self._precision = model, engine, device, precision
        self._threads = threads
        self._run_folder = f"{SCRATCH_PREFIX}{secrets.token_hex(8)}"
        self._resources = contextlib.ExitStack()
        self._resources.enter_context(contextlib.redirect_stdout(sys.stderr))  # stdout is for results, and Ray prints
        try:
            with _keep_sigterm_handler():
                _connect(address)
            self._resources.callback(ray.shutdown)
            nodes = alive_nodes()
            if not nodes:
                raise ValueError("none of its machines has a CPU for tasks")
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            log.debug("no connection to Ray at %s", address, exc_info=True)
            self._resources.close()
            raise EngineUnavailable(f"no Ray cluster at {address} ({str(error).splitlines()[0]})") from error
        fewest = min(node["Resources"]["CPU"] for node in nodes)
        self._cpus_per_part = max(1, int(fewest // 2))  # two parts at once fill the gaps at their beginnings and ends
        self._concurrent_parts = sum(int(node["Resources"]["CPU"] // self._cpus_per_part) for node in nodes)
        self.description = f"Ray, {len(nodes)} machine{'s' * (len(nodes) > 1)}, {self._concurrent_parts} parts at once"

    def __call__(
        self,
        video: VideoFile,
        time_range: TimeRange,
        options: ConvertOptions,
        encoding: Encoding,
        job: Job,
        on_frame: OnFrame | None,
    ) -> StageSeconds:
        """Converts every part that the job lacks.

        Raises InputError if the source cannot be read, has changed meanwhile, or has frames without timestamps; EngineError if
        the machines fail; and whatever `make_part` raises there.
        """
        source = SourceFile(video.path)
        spans = list(_spans(video))
        missing = deque((index, span) for index, span in enumerate(spans) if not job.has_part(index))
        total = sum(span.packets for span in spans)
        work, notices = StageSeconds(), list(video.notices)
        request = self._request(source, time_range, options, encoding, video.alpha_notice)
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(_remove_everywhere, request.video_folder)
            tasks = PartTasks(request, source, missing, self._cpus_per_part, QUEUED_PER_WORKER * self._concurrent_parts)
            cleanup.callback(tasks.cancel)
            for index, result in tasks:
                source.check_unchanged()
                notices += [notice for notice in result.notices if notice not in notices]
                for stage, seconds in vars(result.stages).items():
                    setattr(work, stage, getattr(work, stage) + seconds)
                if result.part is not None:
                    job.add_part_from_bytes(index, result.data, result.part)
                if on_frame:
                    on_frame(job.frames, total)
        lost = total - job.frames
        job.finish_source(SourceEnd(notices, f"damaged: {lost} of {total} frames cannot be decoded" if lost > 0 else None))
        return work

    def _request(
        self, source: SourceFile, time_range: TimeRange, options: ConvertOptions, encoding: Encoding, alpha_notice: str | None
    ) -> PartRequest:
        return PartRequest(
            versions=VERSIONS,
            run_folder=self._run_folder,
            video_folder=f"{self._run_folder}/{secrets.token_hex(8)}",
            model=self._model.read_bytes(),
            suffix=self._model.suffix,
            engine=self._engine,
            device=self._device,
            precision=self._precision,
            threads=self._threads,
            source=os.path.abspath(source.path),
            digest=source.digest,
            blocks=None,
            time_range=time_range,
            deinterlace=options.deinterlace == "auto",
            work_height=options.work_height,
            strength=options.strength,
            encoding=encoding,
            alpha_notice=alpha_notice,
        )

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            _remove_everywhere(self._run_folder)
        finally:
            self._resources.close()


def _connect(address: str) -> None:
    """Connects to Ray. Raises OSError, RuntimeError, ValueError or RayError if there is no cluster at this address."""
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address == "auto":
        try:
            ray.init(address="auto", **quiet)
        except ConnectionError:
            ray.init(include_dashboard=False, **quiet)
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError("expected HOST:PORT or auto")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S):  # Ray itself would retry for minutes
        pass
    ray.init(address=address, **quiet)


@contextlib.contextmanager
def _keep_sigterm_handler() -> Iterator[None]:
    """Restores the handler of SIGTERM, which Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _remove_everywhere(folder: str) -> None:
    """Removes a scratch folder from each machine that answers in time."""
    with contextlib.suppress(ray.exceptions.RayError):
        remover = ray.remote(num_cpus=0, max_retries=0)(remove_folder)
        nodes = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in alive_nodes()]
        tasks = [remover.options(scheduling_strategy=node).remote(folder) for node in nodes]
        ray.wait(tasks, num_returns=len(tasks), timeout=CLEANUP_TIMEOUT_S)


def _spans(video: VideoFile) -> Iterator[Span]:
    """Yields the parts of the video in display order, `PART_FRAMES` packets each. Raises InputError if timestamps are missing."""
    times = video.times()
    if not all(one < other for one, other in zip(times, times[1:], strict=False)):
        raise InputError(f"{video.path}: its frames have no timestamps of their own; convert it without --cluster")
    firsts = times[::PART_FRAMES]
    for number, first in enumerate(firsts):
        end = firsts[number + 1] if number + 1 < len(firsts) else None
        yield Span(first, end, len(times) - bisect.bisect_left(times, first) if end is None else PART_FRAMES)
