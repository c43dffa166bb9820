"""Examines the machine. Every library is loaded in a separate process, so that this works where the libraries do not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata

import cyclecast
from cyclecast.doctor.cameras import Cameras, find_cameras
from cyclecast.doctor.codecs import Codecs, find_codecs
from cyclecast.doctor.gpus import Gpus, find_gpus
from cyclecast.doctor.libraries import (
    Library,
    find_onnxruntime,
    find_openvino,
    find_tensorrt,
    find_tensorrt_rtx,
    find_torch,
    find_webgpu,
)
from cyclecast.doctor.opencv import OpenCv, find_opencv
from cyclecast.doctor.problems import Problem, find_problems
from cyclecast.runtime.machine import System, describe_system

PARALLEL_CHECKS = 4


@dataclass(frozen=True)
class Health:
    """Everything that was found, and the problems that follow from it."""

    cyclecast: str
    """The version of cyclecast."""
    system: System
    gpus: Gpus
    engines: list[Library]
    """The libraries of the engines of `--engine`."""
    torch: Library
    video: Codecs
    opencv: OpenCv
    cameras: Cameras
    problems: list[Problem]

    @property
    def broken(self) -> bool:
        """Whether something that should work does not."""
        return any(problem.broken for problem in self.problems)


def examine(cameras: bool = True) -> Health:
    """Examines everything, which takes some seconds.

    cameras: open the cameras and measure what they deliver.
    """
    system = describe_system()  # before the checks, which may fill the cache
    owners = metadata.packages_distributions()
    finders = (find_openvino, find_onnxruntime, find_webgpu, find_tensorrt, find_tensorrt_rtx)
    pool = ThreadPoolExecutor(PARALLEL_CHECKS)
    try:
        video, gpus = pool.submit(find_codecs), pool.submit(find_gpus)
        engines = [pool.submit(find, owners) for find in finders]
        torch, opencv = pool.submit(find_torch, owners), pool.submit(find_opencv, owners)
        libraries = [engine.result() for engine in engines]
        found = (system, gpus.result(), libraries, torch.result(), video.result(), opencv.result())
    finally:
        pool.shutdown(cancel_futures=True)
    facts = (*found, find_cameras(measure=cameras))  # alone: on a busy machine, cameras would look slow
    return Health(cyclecast.__version__, *facts, list(find_problems(*facts)))
