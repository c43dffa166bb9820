"""Facts about this machine: processor, memory, disks, and the cache folder."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from cyclecast.own_files import is_own_file

log = logging.getLogger(__name__)

RTX_TARGETS = (75, 80, 86, 89, 120, 121)  # compute capabilities (SM) that TensorRT for RTX builds for
CACHE_BYTES = 2 << 30  # that compiled models of one engine may use on the disk
COMPILED_SUFFIXES = {".blob", ".cl_cache", ".plan"}  # one file for each model and frame size; others have one for each machine
MIN_FREE_BYTES = 2 << 30  # free disk space that compiled models and videos need
# Instruction sets that decide the speed of a network on a CPU, in Linux's spelling.
RELEVANT_INSTRUCTIONS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
    "asimdhp",
    "bf16",
    "i8mm",
    "sve",
)


@dataclass(frozen=True)
class Processor:
    """The CPU, and the share of it that this process may use."""

    name: str
    architecture: str
    cores: int
    """Logical cores that this process may run on."""
    quota: float | None
    """CPU limit of the container, in cores; None: no limit."""
    instructions: list[str] | None
    """Those of `RELEVANT_INSTRUCTIONS` that it has; None: unknown."""


@dataclass(frozen=True)
class Memory:
    """Main memory, or the container's limit; None: unknown."""

    total_bytes: int | None
    available_bytes: int | None


@dataclass(frozen=True)
class Folder:
    """A folder and the disk that it is on."""

    path: str
    free_bytes: int
    """Free bytes on its disk."""
    writable: bool

    @property
    def full(self) -> bool:
        """Whether less than `MIN_FREE_BYTES` is free."""
        return self.free_bytes < MIN_FREE_BYTES


@dataclass(frozen=True)
class System:
    """The machine as a whole."""

    os: str
    board: str | None
    """The name of a single-board computer, from its device tree; None: another machine."""
    python: str
    executable: str
    processor: Processor
    memory: Memory
    outputs: Folder
    """The current folder, where outputs go."""
    cache: Folder
    """The folder of compiled models."""
    cache_bytes: int
    """Size of all files in it."""


def describe_system(root: Path = Path("/")) -> System:
    """Describes the system, its processor, memory and disks. Writes nothing. root: the folder that holds /proc and /sys."""
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
    """Returns the CPU's model name, or the architecture if the system does not name the CPU."""
    return _cpuinfo(Path("/"), "model name") or platform.processor() or platform.machine()


def is_x86() -> bool:
    """Returns whether the CPU is one of Intel's or AMD's, with 64 bits."""
    return platform.machine().lower() in ("x86_64", "amd64")


def usable_cores() -> int:
    """Counts the logical cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_name() -> str:
    """Returns CPU, usable logical cores and system, for example "AMD EPYC, 2 cores, Linux x86_64"."""
    cores = usable_cores()
    return f"{processor_name()}, {cores} core{'s' * (cores > 1)}, {platform.system()} {platform.machine()}"


def board_name(root: Path = Path("/")) -> str | None:
    """Reads the name of a single-board computer ("NVIDIA Jetson Orin Nano …", "Raspberry Pi 5 …"); None for other machines."""
    return (read_text(root / "proc/device-tree/model") or "").strip("\0\n ") or None


def cache_folder(name: str) -> Path | None:
    """Returns a folder for compiled models in the user's cache (XDG_CACHE_HOME on Linux); None if it cannot be used.

    It may be a link of the user's, but must not belong to another user, whose compiled models would run here.
    """
    folder = user_cache_path("cyclecast") / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if hasattr(os, "geteuid") and os.geteuid() and folder.stat().st_uid not in (os.geteuid(), 0):
            raise PermissionError(f"{folder} belongs to another user")
    except OSError as error:
        log.warning("compiled models are not kept: %s", error)
        return None
    return folder


def shrink_cache(folder: Path, limit: int | None = None) -> None:
    """Deletes compiled models, the longest unused first, until those in the folder have `limit` bytes; None: `CACHE_BYTES`.

    The newest one stays. Otherwise, a source that keeps changing its size would fill the disk.
    """
    try:
        found = [(path, path.lstat()) for path in folder.iterdir() if path.suffix in COMPILED_SUFFIXES and is_own_file(path)]
        total = sum(stat.st_size for _, stat in found)
        found.sort(key=lambda item: max(item[1].st_atime_ns, item[1].st_mtime_ns))
        for path, stat in found[:-1]:
            if total <= (CACHE_BYTES if limit is None else limit):
                break
            path.unlink(missing_ok=True)
            total -= stat.st_size
    except OSError:  # for example, another process uses the file, on Windows
        log.debug("%s cannot be cleaned up", folder, exc_info=True)


def read_text(path: Path) -> str | None:
    """Reads the text of a small system file; None if it cannot be read."""
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
    return None if flags is None else [name for name in RELEVANT_INSTRUCTIONS if name in flags.split()]


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
    """Describes a folder, or its nearest existing parent if it does not exist yet."""
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
