"""Decides when a run writes its sample sheets and its page: after a number of steps, and by time."""

from __future__ import annotations

FIRST_S = 100.0  # seconds to the first sheet, so that it appears within two minutes even if a step is slow
GROWTH = 2.0  # each wait by time is this much longer than the one before ...
LONGEST_S = 3600.0  # ... up to this many seconds


class SheetSchedule:
    """A sheet is due after every `every` steps; besides, FIRST_S after the start, and then after waits that grow.

    So a new run shows something soon, however slow its steps are, and a long run does not fill the disk.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._wait, self._due = FIRST_S, FIRST_S
        self._seconds = 0.0

    def is_due(self, step: int, seconds: float) -> bool:
        """Returns whether a sheet is due after this step, `seconds` after the start. Call it once after each step.

        By time, a sheet is due before the step that would end too late.
        """
        next_end = seconds + (seconds - self._seconds)
        self._seconds = seconds
        is_late = next_end > self._due
        if is_late:
            self._wait = min(GROWTH * self._wait, LONGEST_S)
            self._due = seconds + self._wait
        return is_late or step % self.every == 0
