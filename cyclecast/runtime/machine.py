"""What this machine is, and where it may keep things."""

from __future__ import annotations

import platform
from pathlib import Path

from platformdirs import user_cache_path


def processor_name() -> str:
    """The CPU as its maker names it, or the architecture where the system does not say."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8", "replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cache_folder(name: str) -> Path:
    """A folder for compiled models in the user's cache, made if need be (XDG_CACHE_HOME on Linux)."""
    folder = user_cache_path("cyclecast") / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
