"""Picks device, precision and memory layout for a run; restores random state and signal handlers after it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import torch

from cyclecast.errors import ConfigError, EngineUnavailable

DEVICES = "auto, cpu, cuda, cuda:N, mps or xpu"


def best_device() -> str:
    """Returns the type of the best device that torch sees: cuda, mps, xpu or cpu."""
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "xpu" if torch.xpu.is_available() else "cpu"


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """Returns the torch device for `--device`; auto: the best one present. local_rank: torchrun's.

    Raises ConfigError for an unknown name and EngineUnavailable for a device that is not on this machine.
    """
    requested = {"auto": best_device(), "gpu": "cuda"}.get(name, name)
    try:
        device = torch.device(requested)
    except RuntimeError:
        raise ConfigError(f"no device named {name!r}; expected {DEVICES}") from None
    if device.type not in ("cpu", "cuda", "mps", "xpu"):
        raise ConfigError(f"no device named {name!r}; expected {DEVICES}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise EngineUnavailable("mps was requested and is not on this machine (it needs macOS on an Apple chip)")
    if device.type in ("cuda", "xpu"):
        count = torch.cuda.device_count() if device.type == "cuda" else torch.xpu.device_count()
        device = torch.device(device.type, local_rank if device.index is None else device.index)
        if device.index >= count:
            raise EngineUnavailable(f"{device} was requested and is not on this machine; torch sees {count} GPUs")
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """Returns fp32, bf16 or fp16; `auto`: bf16 where the hardware has it, else fp32. Raises ConfigError for fp16 without CUDA."""
    if name == "auto":
        return "bf16" if has_native_bf16(device) else "fp32"
    if name == "fp16" and device.type != "cuda":
        raise ConfigError(f"precision fp16 trains only on CUDA; on {device.type} use bf16 or fp32")
    return name


def pick_memory_format(name: str, device: torch.device, side: int) -> torch.memory_format:
    """Returns the layout of weights and of images of `side` pixels; `auto`: channels_last on a CPU, except for small images."""
    is_channels_last = name == "channels_last" or (name == "auto" and device.type == "cpu" and side >= 64)
    return torch.channels_last if is_channels_last else torch.contiguous_format


def has_native_bf16(device: torch.device) -> bool:
    """Returns whether the device computes bf16 natively: Ampere and later NVIDIA GPUs, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bool(cpu_features() & {"avx512_bf16", "amx_bf16"})


def cpu_features() -> set[str]:
    """Returns the names of the processor's features, such as amx_tile, by torch's public functions; empty if unknown."""
    if hasattr(torch.cpu, "get_capabilities"):
        return {name for name, value in torch.cpu.get_capabilities().items() if value is True}
    try:  # earlier versions of torch: Linux lists the processor's features
        return set(Path("/proc/cpuinfo").read_text("utf-8", errors="replace").split())
    except OSError:
        return set()


@contextmanager
def own_random_state(device: torch.device, seed: int) -> Iterator[None]:
    """Seeds torch's global generators; afterwards they are as they were before."""
    accelerators = [device] if device.type in ("cuda", "xpu") else []
    device_type = device.type if accelerators else "cuda"
    with torch.random.fork_rng([each.index for each in accelerators], device_type=device_type):
        torch.manual_seed(seed)
        yield


@contextmanager
def stop_on_signal(on_message: Callable[[str], None] | None = None) -> Iterator[threading.Event]:
    """Yields an event that the first Ctrl-C or SIGTERM sets; a second one ends the process at once, as without this.

    on_message: called with a line for the user at the first signal. Only in the main thread, where Python allows it. The
    handlers are restored afterwards.
    """
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()
        restore()
        if on_message:
            with suppress(RuntimeError):  # the signal interrupted a write to the same stream
                on_message("stopping after this step, which is saved; press Ctrl-C again to end at once")

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        restore()
