"""The GPUs that drivers and the operating system report. No engine is loaded."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cyclecast.isolated import TIMED_OUT, last_line, run
from cyclecast.runtime.machine import board_name, read_text

VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel", "0x106b": "Apple", "0x15ad": "VMware", "0x1af4": "virtio"}
NVIDIA_SMI_FIELDS = ("name", "driver_version", "compute_cap", "memory.total")
NVIDIA_SMI_TIMEOUT_S = 10.0  # nvidia-smi may have to wake a sleeping driver


@dataclass(frozen=True)
class NvidiaGpu:
    """A GPU that nvidia-smi lists; None for values that the driver does not report."""

    name: str
    driver: str | None
    compute_capability: str | None
    """Such as 8.9, which TensorRT calls SM 89."""
    memory_mib: int | None

    @property
    def sm(self) -> int | None:
        """89 for 8.9."""
        return int(self.compute_capability.replace(".", "")) if self.compute_capability else None


@dataclass(frozen=True)
class RenderNode:
    """A GPU that Linux offers to programs for computing."""

    path: str
    maker: str
    driver: str | None
    accessible: bool
    """Whether this user may open it."""


@dataclass(frozen=True)
class Gpus:
    """All GPUs of the machine."""

    nvidia: list[NvidiaGpu]
    nvidia_failure: str | None
    """Why an NVIDIA card or its driver does not respond; None if it does, or if there is no card."""
    jetson: str | None
    """The name of the Jetson board and its L4T release; None on other machines."""
    render_nodes: list[RenderNode]

    @property
    def has_nvidia(self) -> bool:
        """Whether an NVIDIA GPU can be used for computing."""
        return bool(self.nvidia or self.jetson)


def find_gpus(root: Path = Path("/")) -> Gpus:
    """Asks nvidia-smi, if it is on the PATH, and Linux. root: the folder that holds /dev, /etc, /proc and /sys."""
    nvidia, failure = _query_nvidia_smi()
    jetson = _jetson_name(root)
    if jetson:
        failure = None  # nvidia-smi is missing or knows little on a Jetson
    elif not nvidia and failure is None and "NVIDIA" in _vendors_of_cards(root):
        failure = "there is an NVIDIA card, but no driver for it (nvidia-smi is not installed)"
    return Gpus(nvidia, failure, jetson, _render_nodes(root))


def _query_nvidia_smi() -> tuple[list[NvidiaGpu], str | None]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return [], None
    try:
        result = run(
            [program, f"--query-gpu={','.join(NVIDIA_SMI_FIELDS)}", "--format=csv,noheader,nounits"], NVIDIA_SMI_TIMEOUT_S
        )
    except OSError as error:
        return [], f"nvidia-smi cannot be run ({error.strerror})"
    if result.code is None:
        return [], f"nvidia-smi: {TIMED_OUT} {NVIDIA_SMI_TIMEOUT_S:g} s"
    if result.code != 0:
        return [], f"nvidia-smi: {last_line(result.stderr) or last_line(result.stdout) or result.code}"
    gpus = []
    for line in result.stdout.splitlines():
        values = [None if value.strip().startswith("[") else value.strip() for value in line.split(",")]  # "[N/A]"
        if len(values) == len(NVIDIA_SMI_FIELDS) and values[0]:
            memory = values[3]
            gpus.append(NvidiaGpu(values[0], values[1], values[2], int(memory) if memory and memory.isdigit() else None))
    return gpus, None if gpus else "nvidia-smi lists no GPU"


def _jetson_name(root: Path) -> str | None:
    board = board_name(root) or ""
    release = read_text(root / "etc/nv_tegra_release")
    if release is None:
        return board if "jetson" in board.lower() else None
    # "# R36 (release), REVISION: 4.3, GCID: …"
    words = release.replace(",", " ").split()
    revision = words[words.index("REVISION:") + 1] if "REVISION:" in words[:-1] else "?"
    return f"{board or 'Jetson'}, L4T {words[1].lstrip('R') if len(words) > 1 else '?'}.{revision}"


def _render_nodes(root: Path) -> list[RenderNode]:
    nodes = []
    for node in sorted((root / "dev/dri").glob("renderD*")):
        device = root / "sys/class/drm" / node.name / "device"
        vendor = read_text(device / "vendor") or ""
        driver = device / "driver"
        name = os.path.basename(os.path.realpath(driver)) if driver.exists() else None
        nodes.append(RenderNode(str(node), VENDORS.get(vendor, vendor or "unknown"), name, os.access(node, os.R_OK | os.W_OK)))
    return nodes


def _vendors_of_cards(root: Path) -> set[str]:
    """Finds the vendors of the display controllers on the PCI bus, with or without a driver."""
    devices = (root / "sys/bus/pci/devices").glob("*")
    cards = [device for device in devices if (read_text(device / "class") or "").startswith("0x03")]
    return {VENDORS.get(read_text(card / "vendor") or "", "unknown") for card in cards}
