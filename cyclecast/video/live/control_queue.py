"""What changes a run while it runs: one queue for the keys of the window, the page, the control API and OSC."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cyclecast.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from cyclecast.video.live.sinks.sink import SessionControls

T = TypeVar("T")

MAX_WAITING = 100  # requests of each lane; a program that sends more than a run can carry out gets errors


class Lane:
    """One thread, and the requests that wait for it."""

    def __init__(self, name: str) -> None:
        self.executor, self.room = ThreadPoolExecutor(1, name), threading.BoundedSemaphore(MAX_WAITING)


class ControlQueue:
    """Carries out requests one at a time, in the order in which they arrive, from any thread.

    So no two of them change the same thing at once, and steps and toggles start from what the request before left behind. Each
    request returns a Future: its result is the new value, or a ConfigError or OutputError in one line.

    Recordings and snapshots have a thread of their own: a recording may take seconds to finish, and no strength waits for that.
    """

    def __init__(self, controls: SessionControls) -> None:
        self._controls = controls
        self._changes, self._files = Lane("controls"), Lane("control-files")
        self._is_closed = False
        self._split = 0.5  # where the split view will be when it is turned on

    def set_style(self, style: str | int) -> Future[str]:
        """Requests a model by its name, or by its number from 1 on. Returns its name. ConfigError if there is none."""

        def change() -> str:
            models = self._controls.switcher.models
            if isinstance(style, int):
                if not 1 <= style <= len(models):
                    raise ConfigError(f"there is no style {style}; there are: {', '.join(models)}")
                name = models[style - 1]
            else:
                name = style
            self._controls.switcher.request_model(name)
            return name

        return self._submit(self._changes, change)

    def step_style(self, step: int) -> Future[str]:
        """Requests the model `step` places after the one that was requested last."""

        def change() -> str:
            self._controls.switcher.request_next_model(step)
            return self._controls.switcher.requested_model

        return self._submit(self._changes, change)

    def set_strength(self, strength: float) -> Future[float]:
        """Sets the share of the styled frame in the output. ConfigError unless it is from 0 to 1."""

        def change() -> float:
            self._controls.switcher.request_strength(strength)
            return strength

        return self._submit(self._changes, change)

    def step_strength(self, step: float) -> Future[float]:
        """Adds a step to the strength, which stays from 0 to 1."""

        def change() -> float:
            strength = min(max(round(self._controls.switcher.strength + step, 2), 0.0), 1.0)
            self._controls.switcher.request_strength(strength)
            return strength

        return self._submit(self._changes, change)

    def set_split(self, split: float | None) -> Future[float | None]:
        """Sets where the source ends, a share of the width; None: no split view. ConfigError unless it is from 0 to 1."""

        def change() -> float | None:
            if split is not None and not 0 <= split <= 1:
                raise ConfigError(f"split must be from 0 to 1, a share of the width, got {split:g}")
            self._controls.switcher.split = split
            self._split = self._split if split is None else split
            return split

        return self._submit(self._changes, change)

    def step_split(self, step: float) -> Future[float]:
        """Turns the split view on and moves its line by a share of the width."""

        def change() -> float:
            switcher = self._controls.switcher
            split = (self._split if switcher.split is None else switcher.split) + step
            switcher.split = self._split = min(max(split, 0.0), 1.0)
            return self._split

        return self._submit(self._changes, change)

    def toggle_split(self) -> Future[float | None]:
        """Turns the split view on, where it was last, or off."""

        def change() -> float | None:
            switcher = self._controls.switcher
            switcher.split = self._split if switcher.split is None else None
            return switcher.split

        return self._submit(self._changes, change)

    def set_mirror(self, on: bool | None) -> Future[bool]:
        """Turns mirroring left to right on or off; None toggles it."""

        def change() -> bool:
            switcher = self._controls.switcher
            switcher.mirror = not switcher.mirror if on is None else on
            return switcher.mirror

        return self._submit(self._changes, change)

    def set_recording(self, on: bool | None) -> Future[Path | None]:
        """Starts or stops a recording, as `SessionControls.set_recording` does; None toggles it."""

        def change() -> Path | None:
            return self._controls.set_recording(self._controls.recording is None if on is None else on)

        return self._submit(self._files, change)

    def save_snapshot(self) -> Future[Path]:
        """Saves the newest frame, as `SessionControls.snapshot`."""
        return self._submit(self._files, self._controls.snapshot)

    def close(self) -> None:
        """Waits for the request that is being carried out. Requests that wait, and later ones, fail."""
        self._is_closed = True
        for lane in (self._changes, self._files):
            lane.executor.shutdown()

    def _submit(self, lane: Lane, change: Callable[[], T]) -> Future[T]:
        def run() -> T:
            if self._is_closed:
                raise OutputError("the run has ended")
            return change()

        if not lane.room.acquire(blocking=False):
            return failed_future(OutputError(f"{MAX_WAITING} requests are waiting; send fewer"))
        try:
            future = lane.executor.submit(run)
        except RuntimeError:  # the executor is shut down
            lane.room.release()
            return failed_future(OutputError("the run has ended"))
        future.add_done_callback(lambda _: lane.room.release())
        return future


def failed_future(error: Exception) -> Future[T]:
    """Returns a future that has failed already."""
    future: Future[T] = Future()
    future.set_exception(error)
    return future
