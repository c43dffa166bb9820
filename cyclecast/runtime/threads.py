"""The number of CPU threads that an engine computes with."""

from __future__ import annotations

from cyclecast.errors import ConfigError
from cyclecast.runtime.machine import usable_cores


class ThreadsRefused(ConfigError):
    """A number of CPU threads was requested of an engine that does not compute on the CPU."""

    def __init__(self, engine: str, device: str) -> None:
        super().__init__(
            f"a number of CPU threads has no effect on {engine}, which computes on {device}: leave --threads out, "
            "or add --device cpu"
        )


def check_threads(threads: int | None) -> None:
    """Raises ConfigError if this process has fewer logical cores than `threads`, or if that is less than 1. None: no limit."""
    cores = usable_cores()
    if threads is not None and not 1 <= threads <= cores:
        raise ConfigError(f"{threads} CPU threads: expected 1 to {cores}, the logical cores that this process may use")
