"""The parts of a video as tasks of Ray, started a few at a time and repeated where a machine is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ray

from cyclecast.cluster.source import SourceFile
from cyclecast.cluster.worker import PartRequest, PartResult, Span, make_part
from cyclecast.errors import CyclecastError, EngineError

RETRIES = 3  # of a part whose worker died
CHECK_INTERVAL_S = 10.0  # without a finished part, until the machines are checked


class PartTasks:
    """Tasks that make parts: iterating yields each result with its index, as they finish. Raises as `Cluster.__call__` does.

    cpus: of each task. max_tasks: tasks that Ray has at a time. `cancel` ends those that are left.
    """

    def __init__(
        self, request: PartRequest, source: SourceFile, missing: deque[tuple[int, Span]], cpus: int, max_tasks: int
    ) -> None:
        self._request, self._source, self._queue, self._cpus, self._max_tasks = request, source, missing, cpus, max_tasks
        self._missing = {index for index, _ in missing}
        self._running: dict[Any, tuple[int, Span]] = {}
        self._remote_make_part = ray.remote(num_cpus=cpus, max_retries=RETRIES)(make_part)
        self._request_ref = ray.put(request)
        self._machines = self._usable_machines()

    def __iter__(self) -> Iterator[tuple[int, PartResult]]:
        while self._missing:
            self._start_tasks()
            for task in self._wait():
                index, span = self._running.pop(task)
                if index not in self._missing:
                    continue
                result = _result_of(task)
                if result is None:
                    self._queue.appendleft((index, span))
                    self._send_source()
                else:
                    self._missing.remove(index)
                    yield index, result

    def _start_tasks(self) -> None:
        while self._queue and len(self._running) < self._max_tasks:
            index, span = self._queue.popleft()
            if index in self._missing:
                self._running[self._remote_make_part.remote(self._request_ref, span)] = index, span

    def _wait(self) -> list[Any]:
        """Waits for the next task to finish. Returns it in a list, which is empty if none finishes for a while."""
        finished: list[Any] = ray.wait(list(self._running), num_returns=1, timeout=CHECK_INTERVAL_S)[0]
        if not finished:
            machines = self._usable_machines()
            if self._machines - machines:  # Ray may wait minutes for the tasks of a machine that no longer answers
                self._queue.extend(self._running.values())
            self._machines = machines
        return finished

    def _usable_machines(self) -> set[str]:
        """Returns the machines that can convert a part. Raises EngineError if there is none."""
        machines = {node["NodeID"] for node in alive_nodes() if node["Resources"]["CPU"] >= self._cpus}
        if not machines:
            raise EngineError("no machine of the cluster is left")
        return machines

    def _send_source(self) -> None:
        if self._request.blocks is None:
            self._request = replace(self._request, blocks=self._source.send())
            self._request_ref = ray.put(self._request)

    def cancel(self) -> None:
        """Ends the tasks that are left."""
        for task in self._running:
            ray.cancel(task, force=True)


def alive_nodes() -> list[dict[str, Any]]:
    """Returns the machines of the cluster that answer and have CPUs."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"] and node["Resources"].get("CPU")]


def _result_of(task: Any) -> PartResult | None:
    """Returns the result of the task. Raises the CyclecastError that the worker raised; EngineError for an error of Ray."""
    try:
        result = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CyclecastError):
            raise error.cause from error
        if isinstance(error.cause, ray.exceptions.RayError):
            raise EngineError(f"a machine of the cluster failed: {str(error.cause).splitlines()[0]}") from error
        raise
    except ray.exceptions.RayError as error:
        raise EngineError(f"a part failed {RETRIES + 1} times: {str(error).splitlines()[0]}") from error
    assert result is None or isinstance(result, PartResult)
    return result
