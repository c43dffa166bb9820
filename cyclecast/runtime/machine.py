"""What this machine is, and where it may keep things."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

log = logging.getLogger(__name__)

RTX_TARGETS = (75, 80, 86, 89, 120, 121)  # compute capabilities (SM) that TensorRT for RTX builds for
LEAST_FREE = 2 << 30  # bytes of a disk that models are compiled and films written to
# Instructions that decide how quick a network is on a CPU, as Linux spells them.
TELLING = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8", "asimdhp", "bf16", "i8mm", "sve")


@dataclass(frozen=True)
class Processor:
    """The CPU, and how much of it this process may use."""

    name: str
    architecture: str
    cores: int
    """Logical ones that this process may run on."""
    quota: float | None
    """Cores' worth of time that a container is held to; None: no limit."""
    instructions: list[str] | None
    """Those of `TELLING` that it has; None where the system does not say."""


@dataclass(frozen=True)
class Memory:
    """Main memory, or the part of it that a container is held to; None where the system does not say."""

    total_bytes: int | None
    available_bytes: int | None


@dataclass(frozen=True)
class Folder:
    """Where files go."""

    path: str
    free_bytes: int
    """On its disk."""
    writable: bool

    @property
    def full(self) -> bool:
        """As good as: less than `LEAST_FREE` is left."""
        return self.free_bytes < LEAST_FREE


@dataclass(frozen=True)
class System:
    """The machine as a whole."""

    os: str
    board: str | None
    """What a single-board computer says it is."""
    python: str
    executable: str
    processor: Processor
    memory: Memory
    outputs: Folder
    """The current folder."""
    cache: Folder
    """Compiled models."""
    cache_bytes: int


def describe_system(root: Path = Path("/")) -> System:
    """The system, its processor, memory and disks; nothing is written. root: where /proc and /sys are looked for."""
    cache = user_cache_path("cyclecast")
    return System(
        os=_os_name(),
        board=board_name(root),
        python=platform.python_version(),
        executable=sys.executable,
        processor=Processor(
            name=processor_name(),
            architecture=platform.machine(),
            cores=usable_cores(),
            quota=_cpu_quota(root),
            instructions=_instructions(root),
        ),
        memory=_memory(root),
        outputs=_folder(Path.cwd()),
        cache=_folder(cache),
        cache_bytes=sum(path.lstat().st_size for path in _files(cache)),
    )


def processor_name() -> str:
    """The CPU as its maker names it, or the architecture where the system does not say."""
    return _cpuinfo(Path("/"), "model name") or platform.processor() or platform.machine()


def usable_cores() -> int:
    """Logical cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_name() -> str:
    """The CPU, how many of its logical cores this process may use, and the system: "AMD EPYC, 2 cores, Linux x86_64"."""
    cores = usable_cores()
    return f"{processor_name()}, {cores} core{'s' * (cores > 1)}, {platform.system()} {platform.machine()}"


def board_name(root: Path = Path("/")) -> str | None:
    """The device tree's name of a single-board computer: "NVIDIA Jetson Orin Nano …", "Raspberry Pi 5 …"; None of others."""
    return (read_text(root / "proc/device-tree/model") or "").strip("\0\n ") or None


def cache_folder(name: str) -> Path | None:
    """A folder for compiled models in the user's cache (XDG_CACHE_HOME on Linux), made if need be; None if it cannot be."""
    folder = user_cache_path("cyclecast") / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("compiled models are not kept: %s", error)
        return None
    return folder


def read_text(path: Path) -> str | None:
    """A small file of the system's; None if it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return None


def _cpuinfo(root: Path, key: str) -> str | None:
    for line in (read_text(root / "proc/cpuinfo") or "").splitlines():
        if line.lower().startswith(key):
            return line.partition(":")[2].strip()
    return None


def _instructions(root: Path) -> list[str] | None:
    flags = _cpuinfo(root, "flags") or _cpuinfo(root, "features")
    return None if flags is None else [name for name in TELLING if name in flags.split()]


def _cpu_quota(root: Path) -> float | None:
    words = (read_text(root / "sys/fs/cgroup/cpu.max") or "").split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdigit() else None


def _memory(root: Path) -> Memory:
    lines = [line.split() for line in (read_text(root / "proc/meminfo") or "").splitlines()]
    found = {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
    total, available = found.get("MemTotal"), found.get("MemAvailable")
    if total is None and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit, used = (read_text(root / "sys/fs/cgroup" / name) or "" for name in ("memory.max", "memory.current"))
    if total is not None and limit.isdigit() and int(limit) < total:
        total = int(limit)
        left = max(0, total - int(used)) if used.isdigit() else total
        available = left if available is None else min(available, left)
    return Memory(total, available)


def _folder(path: Path) -> Folder:
    """Of a folder that need not exist yet: the nearest one above it that does decides."""
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    return Folder(str(path), shutil.disk_usage(there).free, there.is_dir() and os.access(there, os.W_OK | os.X_OK))


def _files(folder: Path) -> list[Path]:
    return [Path(parent) / name for parent, _, names in os.walk(folder) for name in names]


def _os_name() -> str:
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    except (OSError, KeyError):
        return f"macOS {platform.mac_ver()[0]}, {kernel}" if platform.system() == "Darwin" else kernel
