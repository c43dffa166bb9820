"""Holds a frame rate by lowering the processing height on a slow machine, and raises it again when there is time to spare."""

from __future__ import annotations

import time
from collections.abc import Callable

from cyclecast.video.live.messages import OnMessage, suppress_errors
from cyclecast.video.live.styling.style_switcher import StyleSwitcher

STEPS = (1.0, 5 / 6, 2 / 3, 1 / 2, 5 / 12, 1 / 3, 1 / 4, 1 / 6)  # of the source's height
MULTIPLE = 8  # pixels: the grid of a frame model, so that nothing is padded
MIN_HEIGHT = 64  # pixels
MEASURE_S = 1.5  # seconds of frames before a step down
SPARE = 0.85  # of the time of a frame: the most that a step up is expected to take
REST_S = 6.0  # seconds of frames before a step up; doubled each time that a step up had to be taken back
MAX_REST_S = 600.0
RETRY_S = 10.0  # seconds before another request after one that failed; doubled with each failure in a row
MAX_RETRY_S = 600.0


class Governor:
    """Measures how long a frame takes and requests another height. It assumes only that the time grows with the pixels.

    fps: the rate to hold. A step up that had to be taken back is tried again only after twice the time, so that the height does
    not oscillate. A height that could not be used (out of memory, a model of one fixed size) is requested again later, each
    time after a longer pause.
    """

    def __init__(
        self,
        switcher: StyleSwitcher,
        fps: float,
        on_message: OnMessage | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._switcher, self._frame_seconds, self._clock = switcher, 1 / fps, clock
        self._on_message = suppress_errors(on_message)
        self._max_height = switcher.work_height
        self._rest = REST_S
        self._raised = False
        self._target: int | None = switcher.work_height
        self._is_pending = False  # a request is on its way
        self._retry, self._retry_at = RETRY_S, clock()
        self._restart(clock())

    def _restart(self, now: float) -> None:
        """Measures anew from now on."""
        self._since, self._frames, self._busy = now, 0, 0.0

    def observe(self, height: int, seconds: float) -> None:
        """Records the seconds that the styling of a frame, captured at this height, took. Call it after each frame."""
        now = self._clock()
        if self._is_waiting(now):
            return self._restart(now)
        self._frames, self._busy = self._frames + 1, self._busy + seconds
        elapsed = now - self._since
        if elapsed < MEASURE_S or self._frames < 5:
            return None
        mean, steps = self._busy / self._frames, self._steps(height)
        current = self._switcher.work_height or height
        if mean > self._frame_seconds:
            lower = [step for step in steps if step < current]
            if lower:
                if self._raised:
                    self._rest = min(2 * self._rest, MAX_REST_S)
                fits = [step for step in lower if self._fits(mean, step / current)]
                self._request(fits[0] if fits else lower[-1], height, raised=False)
        elif elapsed >= self._rest:
            higher = [step for step in steps if step > current and self._fits(mean, step / current)]
            if higher:
                self._request(higher[-1], height, raised=True)
            elif self._raised:
                self._raised, self._rest = False, max(REST_S, self._rest / 2)
        else:
            return None
        return self._restart(now)

    def _fits(self, mean: float, scale: float) -> bool:
        """Returns whether a frame would leave time to spare, if its time grows with its pixels."""
        return mean * scale**2 <= SPARE * self._frame_seconds

    def _is_waiting(self, now: float) -> bool:
        """Returns whether a request is still open, or has failed and is not due again."""
        active = self._switcher.work_height
        if active != self._target:
            if self._switcher.requested_height == self._target:
                return True
            self._target, self._raised = active, False  # it failed; the switcher has said why
            if self._is_pending:
                self._retry_at = now + self._retry
                self._retry = min(2 * self._retry, MAX_RETRY_S)
        elif self._is_pending:
            self._retry = RETRY_S
        self._is_pending = False
        return now < self._retry_at

    def _steps(self, height: int) -> list[int]:
        """Returns the heights to choose from, the highest first."""
        top = min(self._max_height or height, height)
        lower = {max(MIN_HEIGHT, round(share * top / MULTIPLE) * MULTIPLE) for share in STEPS[1:]}
        return [top, *sorted((step for step in lower if step < top), reverse=True)]

    def _request(self, step: int, height: int, raised: bool) -> None:
        self._raised, self._is_pending = raised, True
        self._target = None if step == height and self._max_height is None else step
        self._switcher.request_height(self._target)
        verb = "raising" if raised else "lowering"
        self._on_message(f"{verb} the processing height to {step} to hold {1 / self._frame_seconds:g} fps")
