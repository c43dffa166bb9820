"""The graphics processors of this machine, as drivers and the system tell of them; no engine is loaded."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cyclecast.isolated import TIMED_OUT, last_line, run
from cyclecast.runtime.machine import board_name, read_text

MAKERS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel", "0x106b": "Apple", "0x15ad": "VMware", "0x1af4": "virtio"}
QUERY = ("name", "driver_version", "compute_cap", "memory.total")
SECONDS = 10.0  # that nvidia-smi may take: it wakes a sleeping driver


@dataclass(frozen=True)
class NvidiaGpu:
    """A line of nvidia-smi's; None for what the driver does not say."""

    name: str
    driver: str | None
    compute_capability: str | None
    """8.9, which TensorRT calls SM 89."""
    memory_mib: int | None

    @property
    def sm(self) -> int | None:
        """89 for 8.9."""
        return int(self.compute_capability.replace(".", "")) if self.compute_capability else None


@dataclass(frozen=True)
class RenderNode:
    """A graphics processor that Linux lets programs compute on."""

    path: str
    maker: str
    driver: str | None
    accessible: bool
    """This user may open it."""


@dataclass(frozen=True)
class Gpus:
    """All that were found."""

    nvidia: list[NvidiaGpu]
    nvidia_failure: str | None
    """Why an NVIDIA card or its driver does not answer; None if it does, or if there is none."""
    jetson: str | None
    """What the board says it is, with its L4T release; None elsewhere."""
    render_nodes: list[RenderNode]

    @property
    def has_nvidia(self) -> bool:
        """One that can compute."""
        return bool(self.nvidia or self.jetson)


def find_gpus(root: Path = Path("/")) -> Gpus:
    """Asks nvidia-smi, where it is on the PATH, and Linux. root: where /dev, /etc, /proc and /sys are looked for."""
    nvidia, failure = _ask_nvidia_smi()
    jetson = _jetson(root)
    if jetson:
        failure = None  # its nvidia-smi knows little, if there is one at all
    elif not nvidia and failure is None and "NVIDIA" in _cards(root):
        failure = "there is an NVIDIA card, but no driver for it (nvidia-smi is not installed)"
    return Gpus(nvidia, failure, jetson, _render_nodes(root))


def _ask_nvidia_smi() -> tuple[list[NvidiaGpu], str | None]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return [], None
    try:
        ended = run([program, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"], SECONDS)
    except OSError as error:
        return [], f"nvidia-smi cannot be run ({error.strerror})"
    if ended.code is None:
        return [], f"nvidia-smi: {TIMED_OUT} {SECONDS:g} s"
    if ended.code != 0:
        return [], f"nvidia-smi: {last_line(ended.stderr) or last_line(ended.stdout) or ended.code}"
    found = []
    for line in ended.stdout.splitlines():
        values = [None if value.strip().startswith("[") else value.strip() for value in line.split(",")]  # "[N/A]"
        if len(values) == len(QUERY) and values[0]:
            memory = values[3]
            found.append(NvidiaGpu(values[0], values[1], values[2], int(memory) if memory and memory.isdigit() else None))
    return found, None if found else "nvidia-smi names no GPU"


def _jetson(root: Path) -> str | None:
    board = board_name(root) or ""
    release = read_text(root / "etc/nv_tegra_release")
    if release is None:
        return board if "jetson" in board.lower() else None
    # "# R36 (release), REVISION: 4.3, GCID: …"
    words = release.replace(",", " ").split()
    revision = words[words.index("REVISION:") + 1] if "REVISION:" in words[:-1] else "?"
    return f"{board or 'Jetson'}, L4T {words[1].lstrip('R') if len(words) > 1 else '?'}.{revision}"


def _render_nodes(root: Path) -> list[RenderNode]:
    found = []
    for node in sorted((root / "dev/dri").glob("renderD*")):
        device = root / "sys/class/drm" / node.name / "device"
        maker = read_text(device / "vendor") or ""
        driver = device / "driver"
        name = os.path.basename(os.path.realpath(driver)) if driver.exists() else None
        found.append(RenderNode(str(node), MAKERS.get(maker, maker or "unknown"), name, os.access(node, os.R_OK | os.W_OK)))
    return found


def _cards(root: Path) -> set[str]:
    """Makers of the display controllers on the PCI bus, driver or not."""
    devices = (root / "sys/bus/pci/devices").glob("*")
    cards = [device for device in devices if (read_text(device / "class") or "").startswith("0x03")]
    return {MAKERS.get(read_text(card / "vendor") or "", "unknown") for card in cards}
