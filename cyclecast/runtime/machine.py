"""What this machine is, and where it may keep things."""

from __future__ import annotations

import logging
import os
import platform
from pathlib import Path

from platformdirs import user_cache_path

log = logging.getLogger(__name__)


def processor_name() -> str:
    """The CPU as its maker names it, or the architecture where the system does not say."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8", "replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine_name() -> str:
    """The CPU, how many of its logical cores this process may use, and the system: "AMD EPYC, 2 cores, Linux x86_64"."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{processor_name()}, {cores} core{'s' * (cores > 1)}, {platform.system()} {platform.machine()}"


def cache_folder(name: str) -> Path | None:
    """A folder for compiled models in the user's cache (XDG_CACHE_HOME on Linux), made if need be; None if it cannot be."""
    folder = user_cache_path("cyclecast") / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("compiled models are not kept: %s", error)
        return None
    return folder
