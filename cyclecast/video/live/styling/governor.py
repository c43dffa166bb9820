"""Keeps a rate by working at fewer lines when the machine is too slow, and at more again when it has time to spare."""

from __future__ import annotations

import time
from collections.abc import Callable

from cyclecast.video.live.capture.client import OnMessage
from cyclecast.video.live.styling.style_switcher import StyleSwitcher

STEPS = (1.0, 5 / 6, 2 / 3, 1 / 2, 5 / 12, 1 / 3, 1 / 4, 1 / 6)  # of the source's height
MULTIPLE = 8  # lines: a frame model's own grid, so that nothing is padded
FEWEST = 64  # lines
JUDGED = 1.5  # seconds of frames before a step down
SPARE = 0.85  # share of the time of a frame that the next step up may be expected to take
REST = 6.0  # seconds of frames before a step up; doubled each time that one had to be taken back
LONGEST_REST = 600.0


class Governor:
    """Measures how long a frame takes and requests another height. It assumes only that the time grows with the pixels.

    fps: the rate to keep. A step up that had to be taken back is tried again only after twice the time, so the picture does not
    pump.
    """

    def __init__(
        self,
        switcher: StyleSwitcher,
        fps: float,
        on_message: OnMessage | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._switcher, self._allowed, self._clock = switcher, 1 / fps, clock
        self._news = on_message or (lambda line: None)
        self._highest = switcher.work_height
        self._rest = REST
        self._raised = False
        self._asked: int | None = switcher.work_height
        self._begin(clock())

    def _begin(self, now: float) -> None:
        self._since, self._frames, self._busy = now, 0, 0.0

    def observe(self, height: int, seconds: float) -> None:
        """A frame of `height` lines as captured took so long, waiting left out; called after each one."""
        now, current = self._clock(), self._switcher.work_height
        if current != self._asked:  # not there yet: what is measured is not what was asked for
            return self._begin(now)
        self._frames, self._busy = self._frames + 1, self._busy + seconds
        elapsed = now - self._since
        if elapsed < JUDGED or self._frames < 5:
            return None
        mean, steps = self._busy / self._frames, self._steps(height)
        lines = current or height
        if mean > self._allowed:
            lower = [step for step in steps if step < lines]
            if lower:
                if self._raised:
                    self._rest = min(2 * self._rest, LONGEST_REST)
                fits = [step for step in lower if mean * (step / lines) ** 2 <= SPARE * self._allowed]
                self._ask(fits[0] if fits else lower[-1], height, raised=False)
        elif elapsed >= self._rest:
            higher = [step for step in steps if step > lines and mean * (step / lines) ** 2 <= SPARE * self._allowed]
            if higher:
                self._ask(higher[-1], height, raised=True)
            elif self._raised:
                self._raised, self._rest = False, max(REST, self._rest / 2)
        else:
            return None
        return self._begin(now)

    def _steps(self, height: int) -> list[int]:
        """Heights to choose from, the highest first."""
        most = min(self._highest or height, height)
        lower = {max(FEWEST, round(share * most / MULTIPLE) * MULTIPLE) for share in STEPS[1:]}
        return [most, *sorted((step for step in lower if step < most), reverse=True)]

    def _ask(self, lines: int, height: int, raised: bool) -> None:
        self._raised = raised
        self._asked = None if lines == height and self._highest is None else lines
        self._switcher.request_height(self._asked)
        self._news(f"working at {lines} lines from now on, to keep {1 / self._allowed:g} fps")
