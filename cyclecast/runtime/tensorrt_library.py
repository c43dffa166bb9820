"""Imports TensorRT (10.3 to 11) or TensorRT for RTX, and builds its logger and its progress monitor.

Both libraries have the same interface, so the rest of the code uses either as `trt`.
"""

from __future__ import annotations

import importlib
from typing import Any

from cyclecast.errors import EngineNotInstalled
from cyclecast.runtime.engine import OnBuild

# Engine -> Python module. The extra of cyclecast has the engine's name.
LIBRARIES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx_bindings"}


def import_tensorrt(engine: str) -> Any:
    """Imports the engine's Python module. Raises EngineNotInstalled, with the command that installs it."""
    try:
        return importlib.import_module(LIBRARIES[engine])
    except ImportError as error:
        raise EngineNotInstalled(f"{engine} is not installed: pip install 'cyclecast[{engine}]'") from error


def quiet_logger(trt: Any) -> Any:
    """Returns a TensorRT logger that keeps the last error and prints nothing."""

    class Quiet(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.last = message

    return Quiet()


def progress_monitor(trt: Any, on_build: OnBuild | None) -> Any:
    """Returns a TensorRT progress monitor that calls `on_build` with the completed share, 0 to 1, which never decreases.

    An exception in `on_build` ends the build; the monitor keeps it as `error`.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases: dict[str, tuple[str | None, int, int]] = {}  # name -> parent, steps, steps done
            self.highest = 0.0
            self.error: BaseException | None = None

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.phases[name] = (parent, max(1, steps), 0)

        def phase_finish(self, name: str) -> None:
            self.phases.pop(name, None)

        def step_complete(self, name: str, step: int) -> bool:
            parent, steps, _ = self.phases[name]
            self.phases[name] = (parent, steps, step + 1)
            if self.error is None:
                try:  # an exception must not cross TensorRT's own frames
                    self.highest = max(self.highest, min(1.0, self.share(None)))
                    if on_build is not None:
                        on_build(self.highest)
                except BaseException as error:
                    self.error = error
            return self.error is None

        def share(self, parent: str | None) -> float:
            parts = [(done + self.share(name)) / steps for name, (above, steps, done) in self.phases.items() if above == parent]
            return max(parts, default=0.0)

    return Monitor()
